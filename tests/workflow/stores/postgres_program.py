"""Processes that share a database of runs.

    python -m tests.workflow.stores.postgres_program begin|commit|work URL NAME

``begin`` waits for a line and uses the store for the first time, ``commit`` commits to a run
until it is killed or fenced off and prints the number of each commit that is acknowledged,
``work`` prints the runs that it has claimed.
"""

from __future__ import annotations

import asyncio
import os
import sys

from anabranch.errors import Fenced
from anabranch.workflow.stores import Commit, NewRun, Status, Store
from anabranch.workflow.stores.postgres import PostgresStore

SNAPSHOT_EVERY = 7


def say(text: object) -> None:
    os.write(1, f"{text}\n".encode())  # at once, and whole


def facts_of(number: int) -> list[bytes]:
    return [b"%d" % number * 50, b"%d" % -number * 20]


def event_of(number: int) -> bytes:
    return b"event %d" % number * 10


def status_of(number: int) -> Status:
    return "waiting" if number % 2 else "running"


async def begin(store: Store, name: str) -> None:
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    assert await store.create(NewRun(run_id=name, workflow="w"))
    say("done")


async def commit(store: Store, run_id: str) -> None:
    await store.create(NewRun(run_id=run_id, workflow="w", begin=b"begin"))
    opened = await store.open(run_id, owner="us", lease=60.0)
    number = opened.info.published
    untaken = [message.number for message in opened.messages]
    say("ready")
    while True:
        if not untaken:
            await store.send(run_id, f"m{number}", b"body")
            untaken = [message.number for message in await store.messages(run_id)]
        try:
            await store.commit(
                run_id,
                Commit(
                    epoch=opened.info.epoch,
                    position=2 * number,
                    facts=facts_of(number),
                    published=(event_of(number),),
                    taken=untaken,
                    status=status_of(number),
                    note=str(number),
                    snapshot=b"state" if number % SNAPSHOT_EVERY == 0 else None,
                    keep_from=2 * number - 20,
                ),
            )
        except Fenced:
            say("fenced")
            return
        say(number)
        untaken = []
        number += 1


async def work(store: Store, name: str) -> None:
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)

    async def one_of_many() -> None:
        while claimed := await store.claim(["v", "w"], owner=name, lease=600.0, limit=3):
            for run_id in claimed:
                say(run_id)

    await asyncio.gather(*(one_of_many() for _ in range(3)))


async def main(what: str, url: str, name: str) -> None:
    store = PostgresStore(url)
    try:
        await {"begin": begin, "commit": commit, "work": work}[what](store, name)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Processes that share a file of runs: one that is killed, and one that works.

    python sqlite_program.py commit PATH RUN... | work PATH

The first prints ``RUN NUMBER`` once a commit is acknowledged, the second the runs that it
has claimed.
"""

from __future__ import annotations

import asyncio
import os
import sys

from anabranch.workflow.stores import Commit, NewRun, Opened, SQLiteStore, Status
from anabranch.workflow.stores.sqlite import file as sqlite_file

SNAPSHOT_EVERY = 7


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # at once, and whole


def facts_of(number: int) -> list[bytes]:
    return [b"%d" % number * 50, b"%d" % -number * 20]


def event_of(number: int) -> bytes:
    return b"event %d" % number * 10


def status_of(number: int) -> Status:
    return "waiting" if number % 2 else "running"


async def commit_on(store: SQLiteStore, run_id: str) -> None:
    await store.create(NewRun(run_id=run_id, workflow="w", begin=b"begin"))
    opened: Opened = await store.open(run_id, owner="us", lease=60.0)
    info = opened.info
    number = info.published
    untaken = [message.number for message in opened.messages]
    while True:
        if not untaken:
            await store.send(run_id, f"m{number}", b"body")
            untaken = [message.number for message in await store.messages(run_id)]
        await store.commit(
            run_id,
            Commit(
                epoch=info.epoch,
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
        say(f"{run_id} {number}")
        untaken = []
        number += 1


async def work(store: SQLiteStore, name: str) -> None:
    while claimed := await store.claim(["w"], owner=name, lease=600.0, limit=3):
        for run_id in claimed:
            say(run_id)
            opened = await store.open(run_id, owner=name, lease=600.0)
            for position in range(5):
                await store.commit(
                    run_id,
                    Commit(
                        epoch=opened.info.epoch,
                        position=position,
                        facts=(name.encode(),),
                        published=(name.encode(),),
                        status="completed" if position == 4 else "running",
                    ),
                )
    await store.close()


async def main(what: str, path: str, *run_ids: str) -> None:
    for name in ("LOG_PAGES",):
        setattr(sqlite_file, name, 30)  # so that the log is often copied back
    store = SQLiteStore(path)
    say("ready")
    if what == "commit":
        await asyncio.gather(*(commit_on(store, run_id) for run_id in run_ids))
    else:
        await asyncio.to_thread(sys.stdin.readline)  # all begin at one time
        for n in range(60):
            await store.create(NewRun(run_id=f"r{n}", workflow="w"))
        await work(store, str(os.getpid()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

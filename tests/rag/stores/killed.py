"""Writes to a store and is killed before and after each thing that it does.

    python -m tests.rag.stores.killed KIND WHERE STRIDE

Each time a fresh process writes new versions of some sources, and kills itself at its
n-th step: n = 0, STRIDE, ... until it gets to the end. Then another looks at what is found.
A line of JSON tells each: n, and the texts by source, before and after writing again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import numpy as np

from anabranch.rag import Chunk, VectorStore
from anabranch.rag.plan import Version, text_digest
from anabranch.rag.stores import Add, Remove
from tests.rag.parts import vector_of
from tests.rag.stores.places import At

KEPT, REPLACED, GONE = "kept", "replaced", "gone"
OLD, FIRST, SECOND = ["old 1", "old 2"], ["new 1", "new 2"], ["new 3"]


def add(uri: str, lines: Sequence[str], *, state: str = "1", is_last: bool = True) -> Add:
    return Add(
        Version(uri, state, "lines/1"),
        [Chunk(uri, line, 0, len(line), {"kind": uri}) for line in lines],
        [text_digest(line) for line in lines],
        np.array([vector_of(line) for line in lines], np.float32).reshape(-1, 8),
        is_last,
    )


async def write_anew(store: VectorStore) -> None:
    await store.write([add(REPLACED, FIRST, state="2", is_last=False)])
    await store.write([add(REPLACED, SECOND, state="2"), Remove(GONE)])
    await store.sweep()


def steps(kind: str) -> list[tuple[Any, str]]:
    """The async methods each call of which is a step, by kind."""
    match kind:
        case "postgres":
            import psycopg

            return [(psycopg.AsyncConnection, "wait")]
        case "solr":
            from anabranch.rag.solr import SolrClient

            return [(SolrClient, "_once")]
        case "chroma":
            from anabranch.rag.stores.chroma import ChromaClient

            return [(ChromaClient, "_once")]
        case "qdrant":
            from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal

            return [(AsyncQdrantLocal, name) for name in ("upsert", "delete")]
        case _:
            return []


def die_at(kind: str, step: int) -> None:
    """From now on count what is done, and at that step be dead."""
    counter = itertools.count()

    def tick(*_: object) -> None:
        if next(counter) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    if kind == "sqlite":
        import sqlite3

        connect = sqlite3.connect

        def traced(*args: Any, **options: Any) -> sqlite3.Connection:
            db: sqlite3.Connection = connect(*args, **options)
            db.set_trace_callback(tick)
            return db

        sqlite3.connect = traced  # type: ignore[assignment]
    for owner, name in steps(kind):
        setattr(owner, name, counted(getattr(owner, name), tick))


def counted(
    do: Callable[..., Awaitable[Any]], tick: Callable[[], None]
) -> Callable[..., Awaitable[Any]]:
    async def both(*args: Any, **options: Any) -> Any:
        tick()
        done = await do(*args, **options)
        tick()
        return done

    return both


async def found(store: VectorStore) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for hit in await store.search(vector_of("x"), k=99):
        texts.setdefault(hit.source, []).append(hit.text)
    return {uri: sorted(lines) for uri, lines in texts.items()}


def in_a_child(work: Callable[[int], Coroutine[Any, Any, None]], step: int) -> bool:
    """Whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(work(step))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "see the error above"
    return not os.WIFSIGNALED(status)


def main(at: At, stride: int) -> None:
    async def prepare(_: int) -> None:
        async with at.writer() as store:
            await store.write([add(KEPT, OLD), add(REPLACED, OLD), add(GONE, OLD)])

    async def write(step: int) -> None:
        # Made with its connection, of which each statement is a step.
        if at.kind == "sqlite":
            die_at(at.kind, step)
        async with at.writer() as store:
            if at.kind != "sqlite":
                die_at(at.kind, step)
            await write_anew(store)

    async def look(step: int) -> None:
        async with at.writer() as store:
            before = await found(store)
            assert await store.count() == (len(before), sum(map(len, before.values())))
            await write_anew(store)
            print(json.dumps([step, before, await found(store)]))
        await prepare(step)

    in_a_child(prepare, 0)
    for step in itertools.count(step=stride):
        is_through = in_a_child(write, step)
        in_a_child(look, step)
        if is_through:
            return


if __name__ == "__main__":
    for owner, _ in steps(sys.argv[1]):  # imported once, for all children
        assert owner
    main(At(sys.argv[1], sys.argv[2]), int(sys.argv[3]))

"""Keeps an index of a folder up to date, a line a report: to be killed.

python keeping.py FOLDER INDEX
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from anabranch.rag import Pipeline, Sources, SqliteStore, keep_up
from tests.rag.parts import HashEmbedder, LineSplitter


async def main(folder: str, into: str) -> None:
    embedder = HashEmbedder()
    async with (
        Sources([folder]) as sources,
        await SqliteStore.create(Path(into), embedder) as store,
    ):
        pipeline = Pipeline(
            reader=sources, splitter=LineSplitter(), embedder=embedder, store=store
        )
        async for report in keep_up(pipeline, sources, settle=0.02):
            print(report.new, report.changed, report.unchanged, report.removed, flush=True)


asyncio.run(main(*sys.argv[1:]))

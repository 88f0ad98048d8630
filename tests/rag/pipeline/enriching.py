"""Indexes with a stage that is dear and cached, and kills itself at a write: run as

    python -m tests.rag.pipeline.enriching FOLDER KILL_AT before|after

At -1 it is not killed. Each text that the stage is called with is a line of FOLDER/calls.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anabranch.rag import Chunk, Stage
from anabranch.rag.pipeline.cache import TransformCache
from tests.rag.parts import Shelf
from tests.rag.pipeline.running import run

TEXTS = {f"s{n}": "\n".join(f"s{n} line {line}" for line in range(12)) for n in range(8)}


def main(folder: Path, at: int, when: str) -> None:
    log = os.open(folder / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def enrich(chunk: Chunk) -> Chunk:
        os.write(log, chunk.text.encode() + b"\n")
        await asyncio.sleep(0)
        return replace(chunk, metadata={**chunk.metadata, "length": len(chunk.text)})

    answer = TransformCache._answer
    writes = 0

    def killed(self: TransformCache, asked: Sequence[Any]) -> Sequence[bytes | None]:
        nonlocal writes
        if any(value is not None for _, value in asked):
            writes += 1
        if writes == at and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = answer(self, asked)
        if writes == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    TransformCache._answer = killed  # type: ignore[method-assign]
    stage = Stage("enrich", enrich, concurrency=4, cached=True)
    asyncio.run(run(folder, Shelf(TEXTS), chunks=[stage], cache=folder / "cache"))


if __name__ == "__main__":
    _, folder, at, when = sys.argv
    main(Path(folder), int(at), when)

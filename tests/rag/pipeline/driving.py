"""A worker that drives runs of :class:`IndexWorkflow`: to be killed.

    python -m tests.rag.pipeline.driving RUNS

It writes "ready" when it is.
"""

from __future__ import annotations

import asyncio
import sys

from anabranch.rag.durable import IndexWorkflow
from anabranch.workflow import Worker


async def main(runs: str) -> None:
    worker = Worker(IndexWorkflow(durable=runs), lease=1.0)
    print("ready", flush=True)
    await worker.work()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

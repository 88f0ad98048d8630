"""Indexes a folder with the static model, writing down what it embeds: to be killed.

    python indexing.py FOLDER INDEX LOG

Each text that was embedded is a line of LOG (its digest), written before the store has it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from anabranch.rag import Chunk, StaticEmbedder, index
from anabranch.rag.plan import text_digest
from anabranch.rag.types import Vectors

embed = StaticEmbedder.embed
log = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


async def logged(self: StaticEmbedder, chunks: Sequence[Chunk]) -> Vectors:
    vectors = await embed(self, chunks)
    os.write(log, b"".join(b"%s\n" % text_digest(c.text).hex().encode() for c in chunks))
    return vectors


StaticEmbedder.embed = logged  # type: ignore[method-assign]
StaticEmbedder.batch_tokens = 2_000  # many writes, so that there is much to kill
print("indexing", flush=True)
report = asyncio.run(
    index([sys.argv[1]], into=sys.argv[2], model="static", chunk_tokens=64)
)
print(report.new, report.unchanged, report.embedded, flush=True)

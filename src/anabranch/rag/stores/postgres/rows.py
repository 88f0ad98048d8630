"""Passages as PostgreSQL copies them in, and vectors as it sends them.

Source: PostgreSQL's manual, COPY, "Binary Format"; pgvector, ``vector_send``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import numpy as np

from anabranch.rag.stores.begun import Begun
from anabranch.rag.stores.postgres.conditions import facts
from anabranch.rag.stores.records import Add
from anabranch.rag.types import Metadata, Vectors

COLUMNS: Final = (
    'source, is_live, document, "start", "end", title, text, metadata, facts, digest,'
    " vector"
)
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_JSONB_VERSION: Final = b"\x01"


def copied(adds: Sequence[tuple[Add, Begun]], live: frozenset[str]) -> bytes:
    """The passages of some adds; of the versions named, they can be found at once."""
    parts = [_HEADER]
    for add, begun in adds:
        source, is_live = UUID(begun.name).bytes, bytes([begun.name in live])
        told: tuple[Metadata | None, bytes, bytes, bytes] = (None, b"", b"", b"")
        for chunk, digest, vector in zip(add.chunks, add.digests, add.vectors, strict=True):
            if chunk.metadata is not told[0]:
                told = (chunk.metadata, *_metadata(chunk.metadata))
            fields = (
                source,
                is_live,
                chunk.document_id.encode(),
                struct.pack("!q", chunk.start),
                struct.pack("!q", chunk.end),
                told[1],
                chunk.text.encode(),
                told[2],
                _JSONB_VERSION + told[3],
                digest,
                struct.pack("!hh", len(vector), 0) + vector.astype(">f4").tobytes(),
            )
            parts.append(struct.pack("!h", len(fields)))
            for field in fields:
                parts += (struct.pack("!i", len(field)), field)
    parts.append(_END)
    return b"".join(parts)


def vector_text(vector: Vectors) -> str:
    """A vector as pgvector reads it from a text."""
    return f"[{','.join(map(repr, vector.tolist()))}]"


def vector_of(data: bytes) -> Vectors:
    """A vector that pgvector has sent."""
    return np.frombuffer(data, ">f4", offset=4).astype(np.float32)


def _metadata(metadata: Metadata) -> tuple[bytes, bytes, bytes]:
    title = str(metadata.get("title") or "")
    told = json.dumps(dict(metadata), ensure_ascii=False)
    return title.encode(), told.encode(), facts(metadata).encode()

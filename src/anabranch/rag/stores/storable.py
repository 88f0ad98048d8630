"""What every store holds, and what stands in for what some could not.

A NUL character and half a surrogate pair, which a database cannot hold or compare,
are U+FFFD in texts, titles and metadata, one for one, so that offsets stay. A number that
JSON does not have (NaN, infinity) is a value that is missing. A source's name is never
changed, since two names could become one: a name with such a character is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from anabranch.errors import UsageError
from anabranch.rag.stores.records import Add, Write
from anabranch.rag.types import Chunk, Metadata, Scalar, Vectors

_UNHELD: Final = re.compile("[\0\ud800-\udfff]")


def storable(writes: Sequence[Write]) -> Sequence[Write]:
    """The writes as every store holds them.

    Raises:
        UsageError: A source's name has a character that no store holds; nothing of the
            writes has happened.
    """
    for write in writes:
        uri = write.version.uri if isinstance(write, Add) else write.uri
        if not is_storable(uri):
            raise UsageError(
                f"the source {uri!r} cannot be stored: its name has a NUL character or "
                "half a character; give it another name"
            )
    known = _Known()
    return [
        replace(write, chunks=[known.chunk(chunk) for chunk in write.chunks])
        if isinstance(write, Add)
        else write
        for write in writes
    ]


def is_storable(text: str) -> bool:
    """Whether every store holds this text as it is."""
    if "\0" in text:
        return False
    try:
        text.encode()  # a hundred times as fast as a search
    except UnicodeEncodeError:
        return False
    return True


def storable_text(text: str) -> str:
    """The text with U+FFFD for each character that some store could not hold."""
    return text if is_storable(text) else _UNHELD.sub("\ufffd", text)


def storable_metadata(metadata: Metadata) -> Metadata:
    """The metadata as JSON and every store has it."""
    return {storable_text(name): _value(value) for name, value in metadata.items()}


def check_vector(vector: Vectors, dimensions: int) -> None:
    """Refuse a question's vector that no vector of the index can be compared with.

    Raises:
        UsageError: It has another length, or a NaN or an infinite number in it.
    """
    if vector.shape != (dimensions,):
        raise UsageError(
            f"the vector has the shape {vector.shape}, and the index holds vectors of "
            f"{dimensions} numbers: embed the question with the model of the index"
        )
    if not np.isfinite(vector).all():
        raise UsageError(
            "the vector has a NaN or an infinite number in it, and can be compared with "
            "none: look at the model of the question"
        )


class _Known:
    """The chunks of a document share their metadata, which is looked at once."""

    def __init__(self) -> None:
        self._from: Metadata | None = None
        self._to: Metadata = {}

    def chunk(self, chunk: Chunk) -> Chunk:
        """The chunk itself, if nothing of it has to change."""
        if chunk.metadata is not self._from:
            held = storable_metadata(chunk.metadata)
            self._from = chunk.metadata
            self._to = self._from if held == self._from else held
        if (
            self._to is chunk.metadata
            and is_storable(chunk.text)
            and is_storable(chunk.document_id)
        ):
            return chunk
        return replace(
            chunk,
            document_id=storable_text(chunk.document_id),
            text=storable_text(chunk.text),
            metadata=self._to,
        )


def _value(value: Scalar | Sequence[Scalar]) -> Scalar | Sequence[Scalar]:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [_scalar(one) for one in value]
    return value


def _scalar(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return storable_text(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value

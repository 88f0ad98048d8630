"""What their records say, in ours: metadata, offsets, names and scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from hashlib import blake2b
from itertools import pairwise
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

import numpy as np

from anabranch.rag.types import Hit, Metadata, Scalar

# Where the two libraries and their readers keep the name of a source.
_NAMES: Final = ("source", "url", "file_path", "filename", "file_name")


def metadata_of(theirs: Mapping[Any, Any]) -> dict[str, Scalar | Sequence[Scalar]]:
    """Metadata as ours: text, numbers, booleans, ``None`` and lists of them.

    Times become ISO 8601, paths and UUIDs text, and whatever else there is JSON.
    """
    return {str(name): _value(value) for name, value in theirs.items()}


def _value(value: object) -> Scalar | Sequence[Scalar]:
    if isinstance(value, list | tuple | set | frozenset):
        items = [_scalar(item) for item in cast("Iterable[object]", value)]
        return sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    return _scalar(value)


def _scalar(value: object) -> Scalar:
    match value:
        case Enum():
            return _scalar(cast("object", value.value))
        case np.generic():
            return _scalar(cast("object", value.item()))
        case None | bool() | int() | float() | str():
            return value
        case datetime() | date():
            return value.isoformat()
        case PurePath() | UUID():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def source_of(metadata: Mapping[str, Any]) -> str | None:
    """The name of the source, where metadata has one."""
    found = (metadata.get(name) for name in _NAMES)
    return next((str(name) for name in found if name), None)


def name_of(known_as: str | None, metadata: Mapping[str, Any], text: str) -> str:
    """A name for a document that is the same on every run.

    Its id, unless that is a UUID, which is drawn anew whenever a document is loaded; else
    its source; else a digest of its text.
    """
    if known_as and not _is_random(known_as):
        return known_as
    return source_of(metadata) or f"text:{_hash(text).hex()}"


def _is_random(name: str) -> bool:
    try:
        return UUID(name).version == 4
    except ValueError:
        return False


def place(text: str, passage: str, after: int) -> int | None:
    """Where a passage begins in a text, at ``after`` or behind; ``None`` if nowhere."""
    found = text.find(passage, max(after, 0))
    return found if found >= 0 else None


def key_of(known_as: str) -> int:
    """A hit's key for a passage of theirs: its id if that is a number, which it was here.

    Else 63 bits of a digest of the id.
    """
    if known_as.isascii() and known_as.isdigit() and len(known_as) < 19:
        return int(known_as)
    return int.from_bytes(_hash(known_as)[:8], "big") >> 1


def hit(
    *,
    known_as: str,
    document_id: str,
    text: str,
    start: int | None,
    end: int | None,
    metadata: Metadata,
) -> Hit:
    """A passage of theirs as a hit without score and rank; see :func:`ranked`."""
    begins = start or 0
    return Hit(
        key=key_of(known_as),
        source=source_of(metadata) or document_id,
        document_id=document_id,
        text=text,
        start=begins,
        end=begins + len(text) if end is None else end,
        metadata=metadata,
        score=0.0,
        ranks={},
    )


def scores(theirs: Sequence[float | None]) -> Sequence[float]:
    """Scores of a ranking, higher for better.

    Theirs where they never rise on the way down. Where they do, they are distances; where
    some are missing, nobody knows: then ``1 / rank``, since their order is what counts.
    """
    known = [float(score) for score in theirs if score is not None]
    is_usable = len(known) == len(theirs) and all(math.isfinite(score) for score in known)
    if is_usable and all(a >= b for a, b in pairwise(known)):
        return known
    return [1 / rank for rank in range(1, len(theirs) + 1)]


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()

"""Lists as PostgreSQL's arrays, in its binary format.

psycopg's own way looks at each element to learn what it is; here the list's type says it.
That is two thirds of what many commits at once cost this process.

Source: ``array_recv`` in PostgreSQL's ``src/backend/utils/adt/arrayfuncs.c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, ClassVar, Final

try:
    import psycopg
    from psycopg.adapt import AdaptersMap, Dumper
    from psycopg.pq import Format
except ModuleNotFoundError as error:
    raise ImportError(
        "PostgresStore needs psycopg: pip install 'anabranch[postgres]'"
    ) from error

_HEAD: Final = Struct(">iiIii").pack  # dimensions, has nulls, type, length, first index
_EMPTY: Final = Struct(">iiI").pack
_SIZE: Final = Struct(">i").pack
_LONG: Final = Struct(">iq").pack
_FLOAT: Final = Struct(">id").pack
_NULL: Final = _SIZE(-1)


class Longs(list[int]):
    """A ``bigint[]``."""


class Floats(list[float | None]):
    """A ``float8[]``."""


class Texts(list[str]):
    """A ``text[]``."""


class Bodies(list[bytes | None]):
    """A ``bytea[]``."""


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element: ClassVar[int]

    def dump(self, obj: Sequence[Any]) -> bytes:
        if not obj:
            return _EMPTY(0, 0, self.element)
        parts = [_HEAD(1, None in obj, self.element, len(obj), 1)]
        self.add(parts, obj)
        return b"".join(parts)

    def add(self, parts: list[bytes], values: Sequence[Any]) -> None:
        raise NotImplementedError


class _LongsDumper(_ArrayDumper):
    oid, element = 1016, 20

    def add(self, parts: list[bytes], values: Sequence[int]) -> None:
        parts += [_LONG(8, value) for value in values]


class _FloatsDumper(_ArrayDumper):
    oid, element = 1022, 701

    def add(self, parts: list[bytes], values: Sequence[float | None]) -> None:
        parts += [_NULL if value is None else _FLOAT(8, value) for value in values]


class _TextsDumper(_ArrayDumper):
    oid, element = 1009, 25

    def add(self, parts: list[bytes], values: Sequence[str]) -> None:
        for value in values:
            encoded = value.encode()
            parts += (_SIZE(len(encoded)), encoded)


class _BodiesDumper(_ArrayDumper):
    oid, element = 1001, 17

    def add(self, parts: list[bytes], values: Sequence[bytes | None]) -> None:
        for value in values:
            if value is None:
                parts.append(_NULL)
            else:
                parts += (_SIZE(len(value)), value)


def adapters() -> AdaptersMap:
    """psycopg's, and those for the lists above."""
    known = AdaptersMap(psycopg.adapters)
    known.register_dumper(Longs, _LongsDumper)
    known.register_dumper(Floats, _FloatsDumper)
    known.register_dumper(Texts, _TextsDumper)
    known.register_dumper(Bodies, _BodiesDumper)
    return known

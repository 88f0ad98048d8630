"""From bytes to characters, in steps.

Decoding is one C call that holds the interpreter's lock: 16 MiB in one go would stall an
event loop in another thread, so everything here goes on slice by slice.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

SLICE = 1 << 20

# The longer marks first: UTF-32's little-endian one begins like UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def byte_order_mark(start: bytes) -> tuple[str, int] | None:
    """The encoding that a byte order mark announces, and the mark's length."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, len(mark)
    return None


def known(label: str | None) -> str | None:
    """The codec a declared charset means; None when Python has no such text codec.

    ISO-8859-1 and ASCII mean Windows-1252, as in every browser: what is declared so
    holds curly quotes more often than control characters.
    Source: WHATWG, "Encoding Standard", 4.2.
    """
    if not label:
        return None
    try:
        name = codecs.lookup(label.strip("\"' ")).name
        # Refuses codecs that are not about text, such as base64, but not of no bytes.
        b"text".decode(name, "replace")
    except (LookupError, ValueError):
        return None
    return "cp1252" if name in ("iso8859-1", "ascii") else name


def slices(data: bytes) -> Iterator[tuple[memoryview, bool]]:
    """``data`` in slices, each with whether it is the last."""
    view = memoryview(data)
    for start in range(0, max(len(data), 1), SLICE):
        yield view[start : start + SLICE], start + SLICE >= len(data)


def is_utf8(data: bytes) -> bool:
    """Whether the whole of ``data`` is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece, last in slices(data):
            decoder.decode(piece, last)
    except UnicodeDecodeError:
        return False
    return True


def decode(data: bytes, encoding: str) -> str:
    """``data`` as characters; what the encoding does not know becomes U+FFFD."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    return "".join(decoder.decode(bytes(piece), last) for piece, last in slices(data))

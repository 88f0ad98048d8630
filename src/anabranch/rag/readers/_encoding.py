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


# The encodings of the standard that Python has, by Python's names.
_CODECS = frozenset(
    "utf-8 cp866 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 "
    "iso8859-10 iso8859-13 iso8859-14 iso8859-15 iso8859-16 koi8-r koi8-u mac-roman cp874 "
    "cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 mac-cyrillic gb18030 "
    "big5hkscs euc_jp iso2022_jp cp932 cp949 utf-16-le utf-16-be".split()
)

# What is one encoding there with another of Python's, which holds all of it and more.
_SAME = {
    "utf-8-sig": "utf-8",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "utf-16": "utf-16-le",
}

# Labels of the standard that Python does not know.
_LABELS = {
    label: name
    for name, labels in {
        "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8",
        "iso8859-2": "iso88592",
        "iso8859-3": "iso88593",
        "iso8859-4": "iso88594",
        "iso8859-5": "iso88595",
        "iso8859-6": "csiso88596e csiso88596i iso-8859-6-e iso-8859-6-i iso88596",
        "iso8859-7": "iso88597 sun_eu_greek",
        "iso8859-8": (
            "csiso88598e csiso88598i iso-8859-8-e iso-8859-8-i iso88598 logical visual"
        ),
        "iso8859-10": "iso885910",
        "iso8859-13": "iso885913",
        "iso8859-14": "iso885914",
        "iso8859-15": "csisolatin9 iso885915",
        "koi8-r": "koi koi8",
        "koi8-u": "koi8-ru",
        "mac-roman": "csmacintosh mac x-mac-roman",
        "cp874": "dos-874 iso885911 windows-874",
        "cp1250": "x-cp1250",
        "cp1251": "x-cp1251",
        "cp1252": "iso88591 x-cp1252",
        "cp1253": "x-cp1253",
        "cp1254": "iso88599 x-cp1254",
        "cp1255": "x-cp1255",
        "cp1256": "x-cp1256",
        "cp1257": "x-cp1257",
        "cp1258": "x-cp1258",
        "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
        "gb18030": "csgb2312 gb_2312 gb_2312-80 x-gbk",
        "big5hkscs": "cn-big5 x-x-big5",
        "euc_jp": "cseucpkdfmtjapanese x-euc-jp",
        "cp932": "windows-31j x-sjis",
        "cp949": "csksc56011987 ksc_5601 windows-949",
        "utf-16-le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff",
        "utf-16-be": "unicodefffe",
    }.items()
    for label in labels.split()
}


def known(label: str | None) -> str | None:
    """The codec a declared charset means; None where no browser knows such an encoding.

    Python has many more codecs, of which some take time by the square of what they decode.
    Python's own labels of the same encodings are taken too, for its source declares them.
    ISO-8859-1 and ASCII mean Windows-1252: what is declared so holds curly quotes more
    often than control characters.
    Source: WHATWG, "Encoding Standard", 4.2.
    """
    name = label.strip("\"' \t\r\n\f").lower() if label else ""
    if name in _LABELS:
        return _LABELS[name]
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    codec = _SAME.get(codec, codec)
    return codec if codec in _CODECS else None


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

"""Which module of ours knows which classes and tags; each is imported when first met.

Importing this package must cost next to nothing in the process that is confined, and must
load neither numpy nor pandas. What a confined process will need is imported by
:func:`preload`, before its files are taken away.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anabranch.sandbox.wire.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from anabranch.sandbox.wire.decoding import Decoder
    from anabranch.sandbox.wire.encoding import Encoder

    Writer = Callable[[Encoder, Any], Any]
    Reader = Callable[[Decoder, Any], Any]

__all__ = ["loaded", "preload", "reader_for", "writer_for"]

# Which of our modules writes the classes of a package.
_BY_PACKAGE = {
    "datetime": "standard",
    "decimal": "standard",
    "_decimal": "standard",
    "_pydecimal": "standard",
    "fractions": "standard",
    "uuid": "standard",
    "zoneinfo": "standard",
    "numpy": "arrays",
    "pandas": "tables",
}

# Which of our modules reads a tag, and which extra it takes.
_BY_TAG = {
    **dict.fromkeys(
        "$date $time $datetime $timedelta $timezone $zone $decimal $fraction $uuid".split(),
        "standard",
    ),
    **dict.fromkeys("$array $objects $scalar".split(), "arrays"),
    **dict.fromkeys(
        "$frame $series $index $range_index $multi_index $text $texts $masked $zoned "
        "$categorical $timestamp $pd_timedelta $missing".split(),
        "tables",
    ),
}

loaded: dict[str, Any] = {}


def _load(name: str) -> Any:
    """One of our modules; Refused, with the remedy, where its library is missing."""
    if name not in loaded:
        try:
            loaded[name] = import_module(f"anabranch.sandbox.wire.{name}")
        except ImportError as error:
            missing = error.name or "a library"
            raise Refused(
                f"it holds data of {missing}, which cannot be imported here: "
                "pip install 'anabranch[sandbox]', or pass lists and dicts"
            ) from error
    return loaded[name]


def writer_for(kind: type) -> Writer | None:
    """What writes values of exactly this class, if it is one of a library we know."""
    package = kind.__module__.partition(".")[0]
    home = _BY_PACKAGE.get(package)
    if home is None or package not in sys.modules:
        return None
    writer: Writer | None = _load(home).writer_for(kind)
    return writer


def reader_for(tag: str) -> Reader | None:
    """What reads a tag that stands for a class of a library."""
    home = _BY_TAG.get(tag)
    if home is None:
        return None
    reader: Reader = _load(home).READERS[tag]
    return reader


def preload() -> None:
    """Imports what encoding and decoding may need in this process, as far as it is there.

    That is the standard library's part, and that for numpy and pandas if those have been
    imported. To be called before the file system is hidden.
    """
    _load("standard")
    for package, home in (("numpy", "arrays"), ("pandas", "tables")):
        if package in sys.modules:
            _load(home)

"""Plain values as bytes, between this process and one that may be hostile.

:func:`encode` gives a :class:`Message`, :func:`decode` takes its header and buffers
apart again, whatever they hold; :class:`Frames` and :func:`pack` put messages on a stream.
Nothing is pickled, no class is looked up by a name that came in, and nothing here does I/O.
"""

from __future__ import annotations

from anabranch.sandbox.wire.copying import copied
from anabranch.sandbox.wire.decoding import decode
from anabranch.sandbox.wire.encoding import MAX_ITEMS, encode
from anabranch.sandbox.wire.framing import Frame, Frames, pack
from anabranch.sandbox.wire.homes import preload
from anabranch.sandbox.wire.message import Message, layout, slices

__all__ = [
    "MAX_ITEMS",
    "Frame",
    "Frames",
    "Message",
    "copied",
    "decode",
    "encode",
    "layout",
    "pack",
    "preload",
    "slices",
]

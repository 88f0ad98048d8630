"""Unpacking what a server has packed, never past a limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final

# What one step unpacks at most: half a millisecond's worth.
STEP_BYTES: Final = 256 * 1024

ACCEPTED: Final = "gzip, deflate"
# How zlib is told what the bytes are.
_GZIP, _ZLIB, _RAW = 31, 15, -15


class Unpacker:
    """Bytes as they come, unpacked in small steps.

    Args:
        coding: Of the Content-Encoding: ``gzip``, ``deflate``, ``identity`` or nothing.

    Raises:
        ValueError: It is packed in another way.
    """

    def __init__(self, coding: str) -> None:
        name = coding.strip().lower().removeprefix("x-")
        if name not in ("", "identity", "gzip", "deflate"):
            raise ValueError(f"is packed as {coding}, which was not asked for")
        self._is_plain = name in ("", "identity")
        self._is_deflate = name == "deflate"
        self._head = b""
        self._inflater: Any = None  # zlib does not export the type

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` unpacks to, lazily: a bomb goes off only as far as it is asked.

        Raises:
            ValueError: It cannot be unpacked.
        """
        if self._is_plain:
            yield data
            return
        if self._inflater is None:
            # Two bytes tell what it is.
            data = self._head = self._head + data
            if len(data) < 2:
                return
            self._inflater = zlib.decompressobj(self._window(data))
        while data:
            try:
                yield self._inflater.decompress(data, STEP_BYTES)
            except zlib.error as error:
                raise ValueError("could not be unpacked") from error
            # Several members in a row are one file.
            if self._inflater.eof and (data := self._inflater.unused_data):
                self._inflater = zlib.decompressobj(_GZIP)
            else:
                data = self._inflater.unconsumed_tail

    def _window(self, head: bytes) -> int:
        if not self._is_deflate:
            return _GZIP
        # Some servers mean raw deflate, without the header that the standard asks for.
        # Source of what the header looks like: RFC 1950, 2.2.
        has_header = head[0] & 15 == 8 and int.from_bytes(head[:2], "big") % 31 == 0
        return _ZLIB if has_header else _RAW

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing at the end; nothing at all is complete."""
        if self._inflater is None:
            return self._is_plain or not self._head
        return bool(self._inflater.eof)


def unpacked(data: bytes, most: int) -> bytes:
    """A file that may be gzip, by its first bytes.

    Raises:
        ValueError: It cannot be unpacked, or unpacks to more than ``most`` bytes.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    pieces: list[bytes] = []
    size = 0
    unpacker = Unpacker("gzip")
    for piece in unpacker.feed(data):
        size += len(piece)
        if size > most:
            raise ValueError(f"unpacks to more than {most:,} bytes")
        pieces.append(piece)
    if not unpacker.is_complete:
        raise ValueError("it breaks off")
    return b"".join(pieces)

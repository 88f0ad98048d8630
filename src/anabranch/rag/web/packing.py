"""Unpacking what a server has packed, never past a limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

# What one step unpacks at most: half a millisecond's worth.
STEP_BYTES: Final = 256 * 1024

ACCEPTED: Final = "gzip, deflate"


class Unpacker:
    """Bytes as they come, unpacked in small steps.

    Args:
        coding: Of the Content-Encoding: ``gzip``, ``deflate``, ``identity`` or nothing.

    Raises:
        ValueError: It is packed in another way.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding.strip().lower()
        known = {"": 0, "identity": 0, "gzip": 31, "x-gzip": 31, "deflate": 15}
        if self._coding not in known:
            raise ValueError(f"is packed as {coding}, which was not asked for")
        window = known[self._coding]
        self._inflater = zlib.decompressobj(window) if window else None
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` unpacks to, lazily: a bomb goes off only as far as it is asked.

        Raises:
            ValueError: It cannot be unpacked.
        """
        if self._inflater is None:
            yield data
            return
        while data:
            yield self._step(data)
            # Several members in a row are one file.
            if self._inflater.eof and (data := self._inflater.unused_data):
                self._inflater = zlib.decompressobj(31)
            else:
                data = self._inflater.unconsumed_tail

    def _step(self, data: bytes) -> bytes:
        assert self._inflater is not None
        try:
            piece = self._inflater.decompress(data, STEP_BYTES)
        except zlib.error as error:
            # Some servers mean raw deflate, without the header that the standard asks for.
            if self._coding != "deflate" or self._begun:
                raise ValueError("could not be unpacked") from error
            self._coding, self._inflater = "raw", zlib.decompressobj(-15)
            return self._step(data)
        self._begun = True
        return piece

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing at the end."""
        return self._inflater is None or self._inflater.eof or not self._begun


def unpacked(data: bytes, most: int) -> bytes:
    """A file that may be gzip, by its first bytes.

    Raises:
        ValueError: It cannot be unpacked, or unpacks to more than ``most`` bytes.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    pieces: list[bytes] = []
    size = 0
    for piece in Unpacker("gzip").feed(data):
        size += len(piece)
        if size > most:
            raise ValueError(f"unpacks to more than {most:,} bytes")
        pieces.append(piece)
    return b"".join(pieces)

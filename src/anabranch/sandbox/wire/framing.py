"""Messages on a stream: frames of a bounded length, without any I/O.

A frame is a kind (one byte, the users' own), a header and buffers. Each buffer lies in the
frame or *out of band*: then the frame has only its size, and the bytes come by another way,
such as a shared mapping. All of a frame's sizes stand at its beginning and are checked
before anything is kept, those of buffers out of band included.

``kind, -, -, -, number of buffers, length of header | sizes | header | buffers``, all
little-endian; the highest bit of a size says that the buffer is out of band.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from anabranch.errors import ValueRefused

if TYPE_CHECKING:
    from anabranch.sandbox.wire.message import Message

__all__ = ["Frame", "Frames", "pack"]

_PREFIX = Struct("<B3xIQ")
_SIZE = Struct("<Q")
_AWAY = 1 << 63
MAX_BUFFERS = 100_000


class Frame(NamedTuple):
    """One frame as it arrived.

    Attributes:
        kind: From 0 to 255, what the users of the stream agree on.
        header: The header of a message.
        sizes: The bytes of each buffer.
        buffers: The buffers; None where they are out of band.
    """

    kind: int
    header: bytes
    sizes: tuple[int, ...]
    buffers: tuple[memoryview | None, ...]

    @property
    def away(self) -> tuple[int, ...]:
        """The sizes of the buffers that are out of band, in order."""
        return tuple(
            size
            for size, buffer in zip(self.sizes, self.buffers, strict=True)
            if buffer is None
        )


def pack(
    kind: int, message: Message, *, out_of_band: bool = False
) -> list[bytes | memoryview]:
    """A frame as pieces to be sent one behind the other, nothing large copied.

    Args:
        kind: From 0 to 255.
        message: What it carries.
        out_of_band: Name the buffers of the message and leave them out.
    """
    away = _AWAY if out_of_band else 0
    start = _PREFIX.pack(kind, len(message.sizes), len(message.header))
    if not message.sizes:
        return [start + message.header]
    sizes = b"".join([_SIZE.pack(size | away) for size in message.sizes])
    pieces: list[bytes | memoryview] = [start + sizes + message.header]
    if not out_of_band:
        pieces += [part for parts in message.parts for part in parts]
    return pieces


class Frames:
    """Takes a stream apart into frames, and keeps no more than one of them.

    Args:
        max_bytes: How large a frame may be: its header and buffers, out of band or not.
        max_buffers: How many buffers it may have.
    """

    def __init__(self, max_bytes: int, *, max_buffers: int = MAX_BUFFERS) -> None:
        self._max_bytes = max_bytes
        self._max_buffers = max_buffers
        self._kept = bytearray()
        self._wanted = _PREFIX.size
        self._broken: str | None = None

    @property
    def wanted(self) -> int:
        """How many bytes are missing, at least, until there is more to say.

        A reader that asks for no more never reads into the next frame.
        """
        return self._wanted - len(self._kept)

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and not ended: a stream must not end there."""
        return bool(self._kept)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """The frames that are complete with this piece of the stream.

        Raises:
            ValueRefused: If a frame is larger than allowed. The stream cannot be taken up
                again: feeding more raises the same.
        """
        if self._broken is not None:
            raise ValueRefused(path="frame", reason=self._broken)
        self._kept += data
        frames: list[Frame] = []
        at = 0
        while (found := self._next(at)) is not None:
            frame, at = found
            frames.append(frame)
        if at:
            del self._kept[:at]
        return frames

    def _next(self, at: int) -> tuple[Frame, int] | None:
        """The frame that begins there and where it ends, or None until more has come."""
        there = len(self._kept) - at
        if there < _PREFIX.size:
            self._wanted = _PREFIX.size
            return None
        kind, count, length = _PREFIX.unpack_from(self._kept, at)
        if count > self._max_buffers:
            raise self._refusal(f"a frame has {count} buffers, {self._max_buffers} may be")
        if length > self._max_bytes:
            raise self._refusal(self._over(length))
        body = _PREFIX.size + _SIZE.size * count
        if there < body:
            self._wanted = body
            return None
        table = Struct(f"<{count}Q").unpack_from(self._kept, at + _PREFIX.size)
        sizes = tuple(size & ~_AWAY for size in table)
        if length + sum(sizes) > self._max_bytes:
            raise self._refusal(self._over(length + sum(sizes)))
        end = body + length + sum(size for size in table if size < _AWAY)
        if there < end:
            self._wanted = end
            return None
        header = bytes(self._kept[at + body : at + body + length])
        # A copy that its user may write to, as into the array it becomes.
        inline = memoryview(self._kept[at + body + length : at + end])
        buffers: list[memoryview | None] = []
        start = 0
        for size in table:
            if size >= _AWAY:
                buffers.append(None)
            else:
                buffers.append(inline[start : start + size])
                start += size
        self._wanted = _PREFIX.size
        return Frame(kind, header, sizes, tuple(buffers)), at + end

    def _over(self, size: int) -> str:
        return (
            f"a frame takes {size} bytes, and {self._max_bytes} are allowed: pass less, or "
            "raise the limit"
        )

    def _refusal(self, reason: str) -> ValueRefused:
        self._broken = reason
        self._kept.clear()
        return ValueRefused(path="frame", reason=reason)

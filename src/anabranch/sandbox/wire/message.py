"""An encoded value: a header of text, and buffers, written to where they should lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ALIGNMENT", "Message", "layout", "slices"]

ALIGNMENT = 64
"""Where buffers begin in a mapping: what Arrow and vector instructions like best."""

Part = bytes | memoryview


class Message:
    """A value as bytes: the *header* names every value, the buffers hold the large ones.

    Nothing large has been copied: the parts of a buffer are views of the memory of the
    value, which must not change before they are written or sent.

    Attributes:
        header: Text in UTF-8.
        parts: For each buffer its parts, bytes or flat views, one behind the other.
        sizes: The bytes of each buffer.
    """

    __slots__ = ("header", "parts", "sizes")

    def __init__(self, header: bytes, parts: Iterable[tuple[Part, ...]] = ()) -> None:
        self.header = header
        self.parts = tuple(parts)
        self.sizes = tuple(sum(map(len, pieces)) for pieces in self.parts)

    @property
    def buffers(self) -> tuple[Part, ...]:
        """The buffers, each in one piece: those of several parts are joined, a copy."""
        return tuple(p[0] if len(p) == 1 else b"".join(p) for p in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the header and of all buffers."""
        return len(self.header) + sum(self.sizes)

    @property
    def mapped_bytes(self) -> int:
        """How large a mapping :meth:`write_into` needs."""
        return layout(self.sizes)[1]

    def write_into(self, target: memoryview) -> None:
        """Writes all buffers, straight from the value's own memory, as :func:`layout` says.

        Args:
            target: Flat, writable, of :attr:`mapped_bytes` bytes at least.
        """
        for start, pieces in zip(layout(self.sizes)[0], self.parts, strict=True):
            at = start
            for piece in pieces:
                target[at : at + len(piece)] = piece
                at += len(piece)


def layout(sizes: Iterable[int]) -> tuple[list[int], int]:
    """Where each buffer begins in one mapping, and how large that is.

    Both sides compute it from the sizes alone.
    """
    starts: list[int] = []
    end = 0
    for size in sizes:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        starts.append(start)
        end = start + size
    return starts, end


def slices(mapping: memoryview, sizes: Iterable[int]) -> tuple[memoryview, ...]:
    """The buffers that :meth:`Message.write_into` wrote: views, not copies.

    Raises:
        ValueError: If the mapping is smaller than the sizes say.
    """
    sizes = tuple(sizes)
    starts, end = layout(sizes)
    if end > mapping.nbytes:
        raise ValueError(f"a mapping of {mapping.nbytes} bytes cannot hold {end}")
    return tuple(
        mapping[start : start + size] for start, size in zip(starts, sizes, strict=True)
    )

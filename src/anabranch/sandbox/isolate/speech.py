"""What the parent and a child say to each other: facts as JSON, and buffers. Pure.

A message of :mod:`~anabranch.sandbox.wire` carries both. Where its buffers are large they
do not travel on the stream, but lie in shared memory as ``Message.write_into`` puts them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from anabranch.sandbox import wire

INLINE_BYTES: Final = 256 * 1024  # buffers of more than this travel apart
ORDER_BYTES: Final = 1 << 18  # of a message between the parent and a zygote
BROKEN: Final = 70  # a child's exit status: something of ours went wrong
OUT_OF_MEMORY: Final = 71  # likewise: not even enough left to say so
_KIND: Final = 0
_dumps = json.JSONEncoder(check_circular=False).encode

Part = bytes | memoryview


class Forged(Exception):
    """What came is no message: the sentence says why."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as it arrived: what it says, and its buffers."""

    facts: dict[str, Any]
    buffers: tuple[Part, ...] = ()

    def value(self, *, after: int = 0, max_bytes: int) -> Any:
        """The value whose message begins at buffer number ``after``.

        Raises:
            ValueRefused: It is no plain value, or too large.
        """
        header, *buffers = self.buffers[after:] or (b"",)
        items = items_of(max_bytes)
        return wire.decode(header, buffers, max_bytes=max_bytes, max_items=items)


def items_of(max_bytes: int) -> int:
    """Of how many objects a value of so many bytes may be made.

    Each takes some 64 bytes and a third of a microsecond to make, for which whoever reads
    it stands still.
    """
    return min(max(max_bytes // 64, 1_000), wire.MAX_ITEMS)


def say(
    facts: Mapping[str, Any],
    parts: Iterable[bytes] = (),
    value: wire.Message | None = None,
) -> wire.Message:
    """A message of facts, then parts, then a value."""
    pieces: list[tuple[Part, ...]] = [(part,) for part in parts]
    if value is not None:
        pieces += [(value.header,), *value.parts]
    return wire.Message(_dumps(facts).encode("ascii"), pieces)


def is_large(message: wire.Message) -> bool:
    """Whether its buffers are to travel apart."""
    return message.nbytes > INLINE_BYTES and bool(message.sizes)


def framed(message: wire.Message, *, apart: bool) -> bytes:
    """The message for the stream; with ``apart`` it has only the sizes of buffers."""
    return b"".join(wire.pack(_KIND, message, out_of_band=apart))


def facts_of(frame: wire.Frame) -> dict[str, Any]:
    """What a frame says.

    Raises:
        Forged: Nothing that one side says to the other.
    """
    try:
        facts: Any = json.loads(frame.header)
    except (ValueError, RecursionError) as error:
        raise Forged(f"what cannot be read ({type(error).__name__})") from None
    if type(facts) is not dict or frame.kind != _KIND:
        raise Forged("what is no message")
    return cast("dict[str, Any]", facts)


def lies_apart(frame: wire.Frame) -> bool:
    """Whether the buffers of a frame are in shared memory.

    Raises:
        Forged: Some are, some are not.
    """
    away = len(frame.away)
    if away not in {0, len(frame.sizes)}:
        raise Forged("a message in two places")
    return away > 0

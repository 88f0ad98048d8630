"""Plain values to bytes.

The header is one byte and JSON: ``p`` before JSON that means what it says, ``t`` before
JSON in which an object of one key that begins with ``$`` stands for another type. Most
values need no tags, and that is found out at the speed of C. Two liberties are taken with
JSON, since only :mod:`~anabranch.sandbox.wire.decoding` reads it: NaN and the infinities
are written as Python writes them, and lone surrogates are three bytes of "UTF-8" each.
"""

from __future__ import annotations

import binascii
import sys
from collections import Counter, OrderedDict, defaultdict
from json import JSONEncoder
from typing import TYPE_CHECKING, Any, cast

from anabranch.sandbox.wire.homes import writer_for
from anabranch.sandbox.wire.message import Message
from anabranch.sandbox.wire.refusal import Refused, remedy, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "LEAVES",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_ITEMS",
    "Encoder",
    "TooDeep",
    "encode",
    "is_plain",
    "refusal_of",
    "too_large",
]

MAX_DEPTH = 100
MAX_ITEMS = 10_000_000
MAX_DIGITS = 4300
"""Longer numbers are written in hexadecimal: decimal takes time in the square of them."""

LEAVES = frozenset({type(None), bool, int, float, str})
_PLAIN = LEAVES | {list, dict}
_INLINE_BYTES = 512  # fewer are text in the header: a buffer of its own costs more
_STR = {str}

_dumps = JSONEncoder(
    ensure_ascii=False, check_circular=False, separators=(",", ":"), allow_nan=True
).encode


def encode(
    value: Any, *, max_bytes: int, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS
) -> Message:
    """A plain value as a header and buffers, nothing large copied.

    Types are kept exactly, with few exceptions: ``OrderedDict``, ``defaultdict`` and
    ``Counter`` become dicts and named tuples become tuples. Any other subclass is refused.
    What is in several places is written at each of them. A NaN of Python's keeps no sign.

    Args:
        value: None, bool, int, float, complex, str, bytes, list, tuple, dict, set,
            frozenset, range; dates, times, Decimal, Fraction, UUID; numpy scalars and
            arrays; pandas tables, series, indexes and scalars.
        max_bytes: How large header and buffers may be together.
        max_depth: How many containers may be inside each other.
        max_items: How many values there may be in all containers together.

    Raises:
        ValueRefused: If it is none of these, is cyclic, or is too large.
    """
    try:
        header, encoder = _header(value, max_bytes, max_depth, max_items)
    except TooDeep as refused:
        raise refusal_of(value, refused).public() from None
    except Refused as refused:
        raise refused.public() from None
    except RecursionError:
        raise Refused("its containers lie too deep: pass it in parts").public() from None
    message = Message(header, encoder.parts if encoder else ())
    if message.nbytes > max_bytes:
        raise too_large(message.nbytes, max_bytes).public()
    return message


def _header(
    value: Any, max_bytes: int, max_depth: int, max_items: int
) -> tuple[bytes, Encoder | None]:
    # Where somebody has allowed longer decimal numbers, they have to be looked for.
    short = 0 < sys.get_int_max_str_digits() <= MAX_DIGITS
    if short and is_plain(value, max_depth, max_items):
        try:
            return f"p{_dumps(value)}".encode("utf-8", "surrogatepass"), None
        except ValueError:  # a long number
            short = False
    for leaves in (LEAVES, LEAVES - {int}) if short else (LEAVES - {int},):
        encoder = Encoder(leaves, max_bytes, max_depth, max_items)
        tree = encoder.tree(value)
        try:
            return f"t{_dumps(tree)}".encode("utf-8", "surrogatepass"), encoder
        except ValueError:
            continue
    raise Refused("it holds a number that cannot be written")


def too_large(size: int, max_bytes: int) -> Refused:
    return Refused(
        f"it takes {size} bytes encoded, and {max_bytes} are allowed: pass less, or raise "
        "the limit"
    )


def is_plain(value: Any, max_depth: int, max_items: int) -> bool:
    """Whether it is lists, dicts by name, numbers and text: JSON without tags.

    False too where a limit is crossed: the walk that follows knows the path.
    """
    level: list[object] = [value]
    items = 0
    for _ in range(max_depth + 1):
        kinds = set(map(type, level))
        if kinds <= LEAVES:
            return True
        if not kinds <= _PLAIN:
            return False
        below: list[Any] = []
        for branch in level:
            item: Any = branch
            kind = type(branch)
            if kind is list:
                below += item
            elif kind is dict:
                if item and set(map(type, item)) != _STR:
                    return False
                below += item.values()
            if items + len(below) > max_items:
                return False
        items += len(below)
        level = below
    return False


class Encoder:
    """One value on its way to JSON with tags. Writers of other modules use it, too.

    Attributes:
        parts: The buffers so far, in parts.
    """

    __slots__ = ("_depth", "_items", "_leaves", "_room", "max_bytes", "max_depth", "parts")

    def __init__(
        self, leaves: frozenset[type], max_bytes: int, max_depth: int, max_items: int
    ) -> None:
        self.parts: list[tuple[bytes | memoryview, ...]] = []
        self.max_bytes = max_bytes
        self.max_depth = max_depth
        self._room = max_bytes
        self._leaves = leaves
        self._items = max_items
        self._depth = 0

    def tree(self, value: object) -> Any:
        """The value as a tree for JSON, all of it new: it shares nothing with the value."""
        kind = type(value)
        if kind in self._leaves:
            return value
        writer = _WRITERS.get(kind) or writer_for(kind) or _writer_of_a_base(kind)
        if writer is None:
            raise Refused(remedy(kind))
        return writer(self, value)

    def each(
        self, items: Iterable[Any], count: int, place: Callable[[int], str]
    ) -> list[Any]:
        """The trees of several items."""
        self._items -= count
        if self._items < 0:
            raise Refused("it holds more values than are allowed: pass fewer, or an array")
        if self._depth >= self.max_depth:
            raise TooDeep(self.max_depth)
        nodes = list(items)
        if set(map(type, nodes)) <= self._leaves:
            return nodes
        self._depth += 1
        index = 0
        try:
            for index, item in enumerate(nodes):  # the error names it
                nodes[index] = self.tree(item)
        except Refused as refused:
            raise refused.at(place(index)) from None
        self._depth -= 1
        return nodes

    def buffer(self, *parts: bytes | memoryview) -> int:
        """Takes the parts of one buffer, flat and of bytes, and gives its number."""
        self._room -= sum(map(len, parts))
        if self._room < 0:
            raise too_large(self.max_bytes - self._room, self.max_bytes)
        self.parts.append(parts)
        return len(self.parts) - 1


class TooDeep(Refused):
    """The containers lie too deep, or one holds itself."""

    def __init__(self, max_depth: int) -> None:
        super().__init__(
            f"there are more than {max_depth} containers inside each other: pass it flat, "
            "or in parts"
        )
        self.max_depth = max_depth


def refusal_of(value: Any, refused: TooDeep) -> Refused:
    """The refusal that is meant: a value that holds itself is not just too deep."""
    return _circle(value, [], refused.max_depth) or refused


def _circle(value: object, around: list[int], max_depth: int) -> Refused | None:
    """The refusal of a value that holds itself, if that is why it is too deep.

    It goes the way that the encoder went, so the first end it comes to is the one.
    """
    if id(value) in around:
        return Refused("it holds itself: pass each of its parts once")
    if len(around) > max_depth:
        return TooDeep(max_depth)
    for key, item in _within(value):
        if found := _circle(item, [*around, id(value)], max_depth):
            return found.at(f"[{shown(key)}]")
    return None


def _within(value: object) -> Iterable[tuple[object, object]]:
    if isinstance(value, dict):
        return cast("dict[object, object]", value).items()
    if isinstance(value, (list, tuple)):
        return enumerate(cast("list[object]", value))
    return ()


def _by_index(index: int) -> str:
    return f"[{index}]"


def _list(encoder: Encoder, value: list[Any]) -> Any:
    return encoder.each(value, len(value), _by_index)


def _tuple(encoder: Encoder, value: tuple[Any, ...]) -> Any:
    return {"$tuple": encoder.each(value, len(value), _by_index)}


def _set(encoder: Encoder, value: set[Any]) -> Any:
    return {"$set": encoder.each(value, len(value), lambda _: ".<an element>")}


def _frozenset(encoder: Encoder, value: frozenset[Any]) -> Any:
    return {"$frozenset": encoder.each(value, len(value), lambda _: ".<an element>")}


def _dict(encoder: Encoder, value: dict[Any, Any]) -> Any:
    keys: list[Any] = list(value)
    values = encoder.each(value.values(), len(value), lambda at: f"[{shown(keys[at])}]")
    # An object of one key that begins with a dollar would be taken for a tag.
    if set(map(type, keys)) <= _STR and not (len(keys) == 1 and keys[0][:1] == "$"):
        return dict(zip(keys, values, strict=True))
    names = encoder.each(keys, len(keys), lambda at: f".<key {shown(keys[at])}>")
    return {"$dict": [names, values]}


def _int(encoder: Encoder, value: int) -> Any:
    return value if value.bit_length() <= 1024 else {"$int": hex(value)}


def _bytes(encoder: Encoder, value: bytes) -> Any:
    if len(value) > _INLINE_BYTES:
        return {"$buffer": encoder.buffer(value)}
    return {"$bytes": binascii.b2a_base64(value, newline=False).decode("ascii")}


def _complex(encoder: Encoder, value: complex) -> Any:
    return {"$complex": [value.real, value.imag]}


def _range(encoder: Encoder, value: range) -> Any:
    return {"$range": [encoder.tree(n) for n in (value.start, value.stop, value.step)]}


_WRITERS: dict[type, Callable[[Encoder, Any], Any]] = {
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    dict: _dict,
    OrderedDict: _dict,
    defaultdict: _dict,
    Counter: _dict,
    int: _int,
    bytes: _bytes,
    complex: _complex,
    range: _range,
}


def _writer_of_a_base(kind: type) -> Callable[[Encoder, Any], Any] | None:
    """Named tuples travel as tuples: code that reads them by place goes on."""
    if kind.__bases__ == (tuple,) and isinstance(getattr(kind, "_fields", None), tuple):
        return _tuple
    if kind.__bases__ == (defaultdict,) and not vars(kind).get("__slots__", True):
        return _dict  # one of the sandbox's own
    return None

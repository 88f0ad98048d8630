"""Bytes to plain values, whatever the bytes are: the other side may be hostile.

What holds here:

- Classes come from tables in this package, never from the bytes. Nothing is unpickled.
- Every size that is claimed is compared with what is there before anything is allocated.
- A buffer is used once. Views of it are given where the type allows, so the caller must
  own it: memory that the other side can still change is not to be passed in.
- Any failure of a library on damaged data is a refusal, with the path.
"""

from __future__ import annotations

import binascii
import sys
import time
from itertools import accumulate
from json import JSONDecoder
from typing import TYPE_CHECKING, Any

from anabranch.sandbox.wire.encoding import (
    LEAVES,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_ITEMS,
    TooDeep,
    is_plain,
    too_large,
)
from anabranch.sandbox.wire.homes import reader_for
from anabranch.sandbox.wire.refusal import Refused, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Decoder", "decode", "parts", "whole"]

Buffer = bytes | bytearray | memoryview


def decode(
    header: Buffer,
    buffers: Sequence[Buffer] = (),
    *,
    max_bytes: int,
    max_depth: int = MAX_DEPTH,
    max_items: int = MAX_ITEMS,
) -> Any:
    """The value that :func:`~anabranch.sandbox.wire.encode` wrote.

    Arrays and tables are views of their buffers, and can be written to where a buffer can,
    as those of a private mapping and those that come in frames. Of names that an object has
    twice, the last counts.

    Args:
        header: The header of a message.
        buffers: Its buffers, flat. They must not change any more.
        max_bytes: How large all of it may be together.
        max_depth: How many containers may be inside each other.
        max_items: How many values there may be. Each may take some 100 bytes of memory.

    Raises:
        ValueRefused: If the bytes are not such a message or cross a limit; never another
            error.
    """
    size = len(header) + sum(memoryview(buffer).nbytes for buffer in buffers)
    try:
        if size > max_bytes:
            raise too_large(size, max_bytes)
        header = bytes(header)
        tree = _parsed(header, max_items)
        if header[:1] == b"p":
            # Each level takes a bracket, so most values are seen to be flat from afar.
            if not (_opens(header) <= max_depth or is_plain(tree, max_depth, max_items)):
                raise TooDeep(max_depth)
            return tree
        return Decoder(buffers, max_depth, max_items).value(tree)
    except Refused as refused:
        raise refused.public() from None
    except (RecursionError, MemoryError) as error:
        raise Refused(f"it is too much to read: {type(error).__name__}").public() from None


def _opens(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _parsed(header: bytes, max_items: int) -> Any:
    """The JSON behind the first byte, its size looked at before it becomes objects."""
    if header[:1] not in {b"p", b"t"}:
        raise Refused("it does not begin as an encoded value does")
    if len(header) > max_items:
        _count(header, max_items)
    # Before 3.12 the parser's depth is bounded by a limit that anybody may have raised.
    if sys.version_info < (3, 12) and sys.getrecursionlimit() > 20_000:
        _look_for_depth(header)
    short = 0 < sys.get_int_max_str_digits() <= MAX_DIGITS
    try:
        text = header.decode("utf-8", "surrogatepass")
        tree, end = (_JSON if short else _JSON_OF_LONG_NUMBERS).raw_decode(text, 1)
    except (ValueError, RecursionError) as error:
        raise Refused(f"it is not an encoded value: {error}") from None
    if end != len(text):
        raise Refused("something follows the encoded value")
    return tree


def _number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} decimal digits")
    return int(digits)


_JSON = JSONDecoder()
_JSON_OF_LONG_NUMBERS = JSONDecoder(parse_int=_number)


def _outside_strings(header: bytes) -> bytes:
    """The JSON without its strings. Of text that is not JSON, whatever comes out."""
    bare = header.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(bare.split(b'"')[::2])


def _count(header: bytes, max_items: int) -> None:
    """Refuses what would become too many objects, before it does.

    A container holds one value more than it has commas, so this may count too many by the
    containers that are empty.
    """
    if header.count(b",") + _opens(header) <= max_items:
        return
    # Each value may be a string and have one for its name.
    quotes = header.count(b'"') - header.count(b'\\"')
    if quotes <= 4 * max_items + 4:
        outside = _outside_strings(header)
        if outside.count(b",") + _opens(outside) <= max_items:
            return
    raise Refused(f"it holds more than the {max_items} values that are allowed")


def _look_for_depth(header: bytes, most: int = 10_000) -> None:
    if _opens(header) <= most:
        return
    brackets = _outside_strings(header).translate(_STEPS, _NO_BRACKETS)
    # Closing brackets step by 0 and opening ones by 2: depth is what is above 1 for each.
    deepest = max(map(int.__sub__, accumulate(brackets), range(1, len(brackets) + 1)))
    if deepest > most:
        raise Refused("its containers lie too deep")


_STEPS = bytes.maketrans(b"[{]}", b"\2\2\0\0")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Decoder:
    """One value on its way from JSON with tags. Readers of other modules use it, too."""

    __slots__ = (
        "_buffers",
        "_depth",
        "_keyed",
        "_keys",
        "_unordered",
        "max_depth",
        "max_items",
    )

    def __init__(self, buffers: Sequence[Buffer], max_depth: int, max_items: int) -> None:
        self._buffers: list[Buffer | None] = list(buffers)
        self._depth = 0
        self._keys = 0
        self._keyed = 0.0
        self._unordered = 0
        self.max_depth = max_depth
        self.max_items = max_items

    def value(self, node: object) -> Any:
        """The value of a node. Lists and dicts are changed in place and given back."""
        kind = type(node)
        if kind is list:
            return self.items(node)
        return self._mapping(node) if kind is dict else node

    def items(self, node: object) -> list[Any]:
        """The values of a list of nodes, which is changed in place."""
        nodes = parts(node)
        self._enter()
        if not set(map(type, nodes)) <= LEAVES:
            index = 0
            try:
                for index, item in enumerate(nodes):
                    if type(item) not in LEAVES:
                        nodes[index] = self.value(item)
            except Refused as refused:
                raise refused.at(f"[{index}]") from None
        self._depth -= 1
        return nodes

    def _mapping(self, node: Any) -> Any:
        if len(node) == 1:
            (tag,) = node
            if tag[:1] == "$":
                return self._tagged(tag, node[tag])
        self._enter()
        if not set(map(type, node.values())) <= LEAVES:
            key = ""
            try:
                for key, item in node.items():
                    if type(item) not in LEAVES:
                        node[key] = self.value(item)
            except Refused as refused:
                raise refused.at(f"[{shown(key)}]") from None
        self._depth -= 1
        return node

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > self.max_depth:
            raise TooDeep(self.max_depth)

    def _tagged(self, tag: str, payload: Any) -> Any:
        reader = _READERS.get(tag) or reader_for(tag)
        if reader is None:
            raise Refused(f"it has the unknown tag {tag[:40]!r}")
        try:
            return reader(self, payload)
        except (Refused, RecursionError, MemoryError):
            raise
        except ImportError as error:
            raise Refused(
                f"reading it needs {error.name or 'a library'}, which cannot be imported "
                "here: pip install 'anabranch[sandbox]', or pass lists and dicts"
            ) from None
        except Exception as error:
            # Libraries raise what they like on data that nobody meant.
            what = repr(str(error)[:200])[1:-1] or type(error).__name__
            raise Refused(f"it is not a well-formed {tag[1:]}: {what}") from None

    def buffer(self, number: Any) -> memoryview:
        """A buffer, flat and of bytes; each can be had once."""
        if type(number) is not int or not 0 <= number < len(self._buffers):
            raise Refused("it names a buffer that is not there")
        found = self._buffers[number]
        if found is None:
            raise Refused("it names a buffer twice")
        self._buffers[number] = None
        return memoryview(found).cast("B")

    def keyed(self, build: Callable[[int, int], object], count: int) -> None:
        """Has a set or dict built, slice by slice, and gives up on one made to be slow.

        Text is hashed with a secret of this process, numbers are not: chosen ones make
        each insertion search all the others. So time is measured, of this thread alone:
        at most 2 µs a key (0.1 µs is usual) and a tenth of a second.
        """
        for start in range(0, count, 1024):
            began = time.thread_time()
            stop = min(start + 1024, count)
            build(start, stop)
            self._keys += stop - start
            self._keyed += time.thread_time() - began
            if self._keyed > 0.1 + 2e-6 * self._keys:
                raise Refused("its keys collide more than keys do by chance")

    def unordered(self, count: int) -> None:
        """Counts numbers that a library hashes in one go, where no time can be taken."""
        self._unordered += count
        if self._unordered > 20_000:
            raise Refused(
                "it has more than 20000 categories or labels of a level that are not in "
                "order: sort them, or pass text"
            )


def whole(payload: Any, *kinds: type) -> list[Any]:
    """A list of values of exactly these classes; else Refused."""
    found = parts(payload)
    if tuple(map(type, found)) != kinds:
        raise Refused("it is not made of the parts that belong to its tag")
    return found


def parts(payload: object, count: int | None = None) -> list[Any]:
    """A list, of so many parts; else Refused."""
    found: Any = payload
    if type(payload) is not list or count not in {None, len(found)}:
        raise Refused("it is not made of the parts that belong to its tag")
    return found  # type: ignore[no-any-return]  # what a coder gives is its own affair


def _tuple(decoder: Decoder, payload: Any) -> Any:
    return tuple(decoder.items(payload))


def _set(decoder: Decoder, payload: Any) -> Any:
    items = decoder.items(payload)
    found: set[Any] = set()
    decoder.keyed(lambda start, stop: found.update(items[start:stop]), len(items))
    return found


def _frozenset(decoder: Decoder, payload: Any) -> Any:
    return frozenset(_set(decoder, payload))


def _dict(decoder: Decoder, payload: Any) -> Any:
    names, nodes = whole(payload, list, list)
    keys, values = decoder.items(names), decoder.items(nodes)
    if len(keys) != len(values):
        raise Refused("it has not as many keys as values")
    found: dict[Any, Any] = {}

    def build(start: int, stop: int) -> None:
        found.update(zip(keys[start:stop], values[start:stop], strict=True))

    decoder.keyed(build, len(keys))
    return found


def _int(decoder: Decoder, payload: Any) -> Any:
    (digits,) = whole([payload], str)
    return int(digits, 16)


def _bytes(decoder: Decoder, payload: Any) -> Any:
    (text,) = whole([payload], str)
    return binascii.a2b_base64(text)


def _buffer(decoder: Decoder, payload: Any) -> Any:
    return bytes(decoder.buffer(payload))


def _complex(decoder: Decoder, payload: Any) -> Any:
    return complex(*whole(payload, float, float))


def _range(decoder: Decoder, payload: Any) -> Any:
    return range(*whole(decoder.items(payload), int, int, int))


_READERS: dict[str, Callable[[Decoder, Any], Any]] = {
    "$tuple": _tuple,
    "$set": _set,
    "$frozenset": _frozenset,
    "$dict": _dict,
    "$int": _int,
    "$bytes": _bytes,
    "$buffer": _buffer,
    "$complex": _complex,
    "$range": _range,
}

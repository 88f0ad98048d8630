"""Methods of builtin types that are guarded: what runs in place of each."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final, NoReturn

from anabranch.sandbox.arithmetic import is_over
from anabranch.sandbox.formats import format_mapping, format_text
from anabranch.sandbox.light import (
    hashed,
    in_order,
    light,
    of_key,
    of_light,
    sought,
)
from anabranch.sandbox.objects import (
    MAX_BITS,
    MAX_ITEMS,
    defaultdict,
    deque,
    refuse,
    too_large,
)
from anabranch.sandbox.running import RangeOf, consumed, join

# Values in and out of here can be of any type: that is what guards are for.
Value = Any


def _width(method: str) -> Callable[..., Value]:
    def padded(text: Value, width: Value, *fill: Value) -> Value:
        if is_over(width, MAX_ITEMS):
            too_large(f"{method}()", MAX_ITEMS, "characters")
        return getattr(text, method)(width, *fill)

    return padded


def _expandtabs(text: Value, tabsize: Value = 8) -> Value:
    if is_over(tabsize, MAX_ITEMS // max(1, len(text))):
        too_large("expandtabs()", MAX_ITEMS, "characters")
    return text.expandtabs(tabsize)


def _replace(text: Value, old: Value, new: Value, count: int = -1) -> Value:
    growth = len(new) - len(old)
    times = text.count(old) if count < 0 else min(count, text.count(old))
    if growth > 0 and len(text) + growth * times > MAX_ITEMS:
        too_large("replace()", MAX_ITEMS, "characters")
    return text.replace(old, new, count)


def _translate(text: Value, table: Value, /, *rest: Value) -> Value:
    if isinstance(text, str):
        if type(table) is not dict:
            refuse("translate() with this table", "make it with str.maketrans")
        longest = max((len(v) for v in table.values() if isinstance(v, str)), default=1)
        if len(text) * longest > MAX_ITEMS:
            too_large("translate()", MAX_ITEMS, "characters")
    return text.translate(table, *rest)


def _to_bytes(number: int, length: int = 1, *rest: Value, **named: Value) -> bytes:
    if is_over(length, MAX_ITEMS):
        too_large("to_bytes()", MAX_ITEMS, "bytes")
    return number.to_bytes(length, *rest, **named)


def _random_bits(chance: random.Random, bits: Value) -> int:
    if is_over(bits, MAX_BITS):
        too_large("getrandbits()", MAX_BITS, "bits")
    return chance.getrandbits(bits)


def _from_bytes(data: Value, *rest: Value, **named: Value) -> int:
    if isinstance(data, (bytes, bytearray)) and len(data) * 8 > MAX_BITS:
        too_large("from_bytes()", MAX_BITS, "bits")
    return int.from_bytes(consumed(data), *rest, **named)


def integer(*args: Value, **named: Value) -> int:
    """``int(...)``, which makes of a text with a base no larger number than others are."""
    text = args[0] if args else b""
    if isinstance(text, (str, bytes, bytearray)) and len(text) > MAX_BITS // 6:
        too_large("int()", MAX_BITS // 6, "digits")
    return int(*args, **named)


def _searched(method: str) -> Callable[..., Value]:
    """A search from the end, which takes time by the product of both lengths."""

    def searched(text: Value, *args: Value, **named: Value) -> Value:
        sought: Value = args[0] if args else named.get("sep")
        is_text = isinstance(sought, (str, bytes, bytearray))
        if is_text and len(text) * len(sought) > _MAX_COMPARED:
            too_large(f"{method}()", _MAX_COMPARED, "comparisons")
        return getattr(text, method)(*args, **named)

    return searched


_MAX_COMPARED: Final = 100_000_000


def _taking_all(cls: type, method: str) -> Callable[..., Value]:
    take = consumed if method in _KEEPING else hashed

    def taken(self: Value, *values: Value, **named: Value) -> Value:
        return getattr(cls, method)(self, *map(take, values), **named)

    return taken


#: What keeps values as they are, where the others hash them.
_KEEPING: Final = frozenset({"extend", "extendleft"})


def _index_of_range(values: range, item: Value) -> int:
    return values.index(item if isinstance(item, int) else _not_in(item))


def _count_in_range(values: range, item: Value) -> int:
    return int(item in RangeOf(values))


def _not_in(item: Value) -> NoReturn:
    raise ValueError(f"{light(item)!r} is not in range")


def _fromkeys(cls: type) -> Callable[..., Value]:
    def made(keys: Value, *value: Value) -> Value:
        return cls.fromkeys(hashed(keys), *value)  # type: ignore[attr-defined]

    return made


def _of(kind: type, name: str, guard: Callable[..., Value]) -> Callable[..., Value]:
    """A guard that, called by way of the class, takes its values and no others."""

    def called(text: Value, *args: Value, **named: Value) -> Value:
        if not isinstance(text, kind):
            raise TypeError(
                f"descriptor {name!r} for {kind.__name__!r} objects doesn't apply to a"
                f" {type(text).__name__!r} object"
            )
        return guard(text, *args, **named)

    return called


_OF_TEXTS: Final[dict[str, Callable[..., Value]]] = {
    "join": join,
    "replace": _replace,
    "translate": _translate,
    "expandtabs": _expandtabs,
    **{name: _width(name) for name in ("center", "ljust", "rjust", "zfill")},
    **{
        name: _searched(name)
        for name in "rfind rindex rpartition rsplit strip lstrip rstrip".split()
    },
}
_DICTS: Final = (dict, Counter, OrderedDict, defaultdict)
#: What makes a value, asked of a class or of one of its values, that needs such a look.
MAKERS: Final[dict[tuple[type, str], Callable[..., Value]]] = {
    (int, "from_bytes"): _from_bytes,
    (bool, "from_bytes"): _from_bytes,
    **{(cls, "fromkeys"): _fromkeys(cls) for cls in _DICTS if cls is not Counter},
}
#: Methods that need a look at what they are given, by class and name.
METHODS: Final[dict[tuple[type, str], Callable[..., Value]]] = {
    (str, "format"): format_text,
    (str, "format_map"): format_mapping,
    (int, "to_bytes"): _of(int, "to_bytes", _to_bytes),
    (bool, "to_bytes"): _of(int, "to_bytes", _to_bytes),
    (range, "index"): _index_of_range,
    (range, "count"): _count_in_range,
    **{
        (kind, name): _of(kind, name, guard)
        for kind in (str, bytes, bytearray)
        for name, guard in _OF_TEXTS.items()
    },
    (random.Random, "getrandbits"): _random_bits,
    (list, "sort"): in_order(list.sort),
    (Counter, "most_common"): of_light(Counter.most_common),
    (OrderedDict, "move_to_end"): of_key(OrderedDict, "move_to_end"),
    **{
        (kind, name): sought(kind, name)
        for kind, names in (
            (list, "index count remove"),
            (tuple, "index count"),
            (deque, "index count remove"),
        )
        for name in names.split()
    },
    **{
        (kind, name): of_key(kind, name)
        for kind, names in (
            *((kind, "get pop setdefault") for kind in _DICTS),
            (set, "add discard remove"),
        )
        for name in names.split()
    },
    **{
        (kind, name): _taking_all(kind, name)
        for kind, names in (
            (type({}.keys()), "isdisjoint"),
            (type({}.items()), "isdisjoint"),
            (list, "extend"),
            (bytearray, "extend"),
            (deque, "extend extendleft"),
            (dict, "update"),
            (Counter, "update subtract"),
            (OrderedDict, "update"),
            (defaultdict, "update"),
            (
                set,
                """update difference intersection union symmetric_difference isdisjoint
                issubset issuperset difference_update intersection_update
                symmetric_difference_update""",
            ),
            (
                frozenset,
                """difference intersection union symmetric_difference isdisjoint issubset
                issuperset""",
            ),
        )
        for name in names.split()
    },
}

"""``heapq`` for contained code: what C would compare unseen is weighed before."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import heapq
from typing import Any, Final

from anabranch.sandbox.light import SCALARS, compared, each_light, keyed, light
from anabranch.sandbox.running import consumed, live

__all__ = ["offered"]

Value = Any

#: Of fewer items all are weighed, which is done sooner than moving one by hand.
_FEW: Final = 50


def offered() -> dict[str, Value]:
    """What the view of ``heapq`` has."""
    return {
        "heapify": lambda heap: heapq.heapify(compared(heap)),
        # An item that is light is compared with what is above it, and with nothing else.
        "heappush": lambda heap, item: heapq.heappush(heap, light(item)),
        "heappop": _popped,
        "heapreplace": _replaced,
        "heappushpop": _pushed_and_popped,
        "merge": _merged,
        "nlargest": lambda n, values, key=None: heapq.nlargest(
            n, _chosen_from(values, key), key=keyed(key)
        ),
        "nsmallest": lambda n, values, key=None: heapq.nsmallest(
            n, _chosen_from(values, key), key=keyed(key)
        ),
    }


def _chosen_from(values: Value, key: Value) -> Value:
    return compared(values) if key is None else consumed(values)


def _merged(*parts: Value, key: Value = None, reverse: bool = False) -> Value:
    lazy = [live(each_light(part)) for part in parts]
    return live(heapq.merge(*lazy, key=keyed(key), reverse=reverse))


def _popped(heap: Value) -> Value:
    last = heap.pop()
    return _replaced(heap, last) if heap else last


def _pushed_and_popped(heap: Value, item: Value) -> Value:
    return _replaced(heap, item) if heap and _is_less(heap[0], item) else item


def _replaced(heap: Value, item: Value) -> Value:
    """The least item, in whose place another one goes down to where it belongs."""
    if len(heap) < _FEW:
        light(item)
        return heapq.heapreplace(light(heap), item)
    least, place, end = heap[0], 0, len(heap)
    # Down to a leaf, then up again, as heapq does: equal items come in the same order.
    while (child := 2 * place + 1) < end:
        if child + 1 < end and not _is_less(heap[child], heap[child + 1]):
            child += 1
        heap[place] = heap[child]
        place = child
    while place and _is_less(item, heap[(place - 1) // 2]):
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = item
    return least


def _is_less(a: Value, b: Value) -> Value:
    kind = type(a)
    if kind in SCALARS:
        return a < b
    if kind is tuple and type(b) is tuple and a and b:
        first, other = a[0], b[0]
        if type(first) in SCALARS and first is not other and first != other:
            return first < other  # as tuples are compared
    return light(a) < b

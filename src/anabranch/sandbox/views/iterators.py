"""Iterators for contained code: ``itertools``, by way of frames that can be stopped."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import itertools
from collections.abc import Callable
from typing import Any

from anabranch.sandbox.arithmetic import is_over
from anabranch.sandbox.light import each_light, light
from anabranch.sandbox.objects import Offered, too_large
from anabranch.sandbox.running import as_function, as_lazy, consumed, held, live, ticking

__all__ = ["of_itertools"]

Value = Any


def of_itertools() -> dict[str, Value]:
    """What the view of ``itertools`` has in place of its own."""

    def islice(values: Value, *bounds: Value) -> Value:
        return itertools.islice(ticking(values), *bounds)

    def dropwhile(test: Value, values: Value) -> Value:
        return itertools.dropwhile(as_function(test), ticking(values))

    def filterfalse(test: Value, values: Value) -> Value:
        return itertools.filterfalse(as_function(test), ticking(values))

    def compress(values: Value, chosen: Value) -> Value:
        return itertools.compress(ticking(values), ticking(chosen))

    def groupby(values: Value, key: Value = None) -> Value:
        if key is not None:
            return itertools.groupby(as_lazy(values), lambda value: light(key(value)))
        return itertools.groupby(live(each_light(values)))

    def product(*values: Value, repeat: int = 1) -> Value:
        if is_over(repeat, 100):
            too_large("product()", 100, "repeats")
        return itertools.product(*map(consumed, values), repeat=repeat)

    def of_pool(function: Callable[..., Value]) -> Callable[..., Value]:
        return lambda values, *size: function(consumed(values), *size)

    def running(function: Callable[..., Value], at: int) -> Callable[..., Value]:
        """A function that runs lazily through its argument at this place."""

        def called(*args: Value, **named: Value) -> Value:
            lazies = [
                as_function(arg)
                if callable(arg)
                else as_lazy(arg)
                if place >= at
                else held(arg)
                for place, arg in enumerate(args)
            ]
            return function(*lazies, **{key: held(value) for key, value in named.items()})

        return called

    return {
        **{
            name: running(getattr(itertools, name), at)
            for name, at in (
                ("accumulate", 0),
                ("pairwise", 0),
                ("starmap", 1),
                ("takewhile", 1),
                ("zip_longest", 0),
            )
        },
        "chain": Offered(
            itertools.chain,
            lambda *parts: itertools.chain(*map(ticking, parts)),
            {
                "from_iterable": lambda parts: live(
                    value for part in parts for value in part
                )
            },
        ),
        "combinations": of_pool(itertools.combinations),
        "combinations_with_replacement": of_pool(itertools.combinations_with_replacement),
        "compress": compress,
        "cycle": lambda values: itertools.cycle(consumed(values)),
        "dropwhile": dropwhile,
        "groupby": groupby,
        "filterfalse": filterfalse,
        "islice": islice,
        "permutations": of_pool(itertools.permutations),
        "product": product,
        "repeat": lambda value, *times: ticking(itertools.repeat(value, *times)),
        "count": lambda start=0, step=1: ticking(itertools.count(start, step)),
    }

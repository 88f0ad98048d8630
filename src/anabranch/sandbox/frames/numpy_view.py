"""The view of numpy."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

from anabranch.sandbox.frames.arguments import judged
from anabranch.sandbox.frames.names import NUMPY, NUMPY_LINALG, NUMPY_RANDOM
from anabranch.sandbox.frames.sizes import SIZED, by_chance
from anabranch.sandbox.objects import Given, class_of

__all__ = ["numpy_view"]

Value = Any


def numpy_view() -> Given:
    """The view of numpy, with a source of chance of its own."""
    return Given("module numpy", _Numpy(_names_of_numpy()))


@functools.cache
def _names_of_numpy() -> dict[str, Value]:
    import numpy as np

    names: dict[str, Value] = {}
    for name in NUMPY:
        found = getattr(np, name, None)
        if found is None and name != "newaxis":
            continue
        if name == "vectorize":
            names[name] = _vectorized
        elif isinstance(found, type) or not callable(found):
            names[name] = found
        else:
            names[name] = partial(SIZED.get(name, judged), name, found)
    names["linalg"] = Given(
        "module numpy.linalg",
        {
            name: partial(judged, name, getattr(np.linalg, name))
            for name in NUMPY_LINALG
            if hasattr(np.linalg, name)
        },
    )
    return names


def _vectorized(function: Callable[..., Value], **named: Value) -> Callable[..., Value]:
    import numpy as np

    return partial(judged, "vectorize", np.vectorize(class_of(function), **named))


class _Numpy(dict[str, Value]):
    """The names of numpy; its source of chance is made when it is asked for.

    Seeding it changes nothing for the next run.
    """

    def __missing__(self, name: str) -> Value:
        if name != "random":
            raise KeyError(name)
        import numpy as np

        own = np.random.RandomState()
        names = {
            each: partial(by_chance, each, getattr(own, each))
            for each in NUMPY_RANDOM
            if hasattr(own, each)
        }
        names["default_rng"] = partial(judged, "default_rng", np.random.default_rng)
        self[name] = Given("module numpy.random", names)
        return self[name]

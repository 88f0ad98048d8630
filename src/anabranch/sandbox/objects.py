"""What contained code is given instead of the things themselves, and how it is stopped."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import collections
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn
from weakref import WeakValueDictionary

from anabranch.errors import LimitExceeded, SandboxError, SourceRefused
from anabranch.sandbox.names import OF_CLASSES

# Values in and out of here can be of any type: that is what guards are for.
Value = Any

#: Bits of the largest integer, and items or characters of the longest value, that one
#: operation may make.
MAX_BITS: Final = 200_000
MAX_ITEMS: Final = 10_000_000


# Made in Python, the same classes free what they hold without recursion: a chain of them
# would overflow the stack of the interpreter.
deque: Final[Any] = type(
    "deque", (collections.deque,), {"__slots__": (), "__module__": "collections"}
)
defaultdict: Final = type(
    "defaultdict",
    (collections.defaultdict,),
    {"__slots__": (), "__module__": "collections"},
)


class Stopped(BaseException):
    """Ends contained code; no handler of it can catch this. Carries the caller's error."""

    def __init__(self, error: SandboxError) -> None:
        super().__init__(str(error))
        self.error = error


class Interrupt(BaseException):
    """Raised in code that is over a limit, from outside; no Exception, on purpose."""


class Offered:
    """A class as contained code sees it: to be called, compared, and asked for little."""

    __slots__ = ("__weakref__", "_attributes", "_call", "_cls")

    def __init__(
        self, cls: type, call: Callable[..., Value], attributes: Mapping[str, Value]
    ) -> None:
        self._cls = cls
        self._call = call
        self._attributes = attributes
        OFFERED.setdefault(cls, self)

    def __call__(self, *args: Value, **kwargs: Value) -> Value:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Value:
        if name in self._attributes:
            return self._attributes[name]
        if name in OF_CLASSES.get((self._cls.__module__, self._cls.__qualname__), ()):
            from anabranch.sandbox.attributes import of_class  # it knows of this class

            return of_class(self._cls, name)
        raise AttributeError(name)

    def __repr__(self) -> str:
        return repr(self._cls)

    def __or__(self, other: Value) -> tuple[Value, ...]:
        # `int | list` is only ever the second argument of isinstance.
        return (self, *(other if isinstance(other, tuple) else (other,)))

    __ror__ = __or__

    def __getitem__(self, item: Value) -> Offered:
        return self


#: By class, what code sees of it: so that two ways to get at a class give the same.
OFFERED: Final = WeakValueDictionary[type, Offered]()


class Given:
    """A view of names: of a module, or of an object that the caller gave."""

    __slots__ = ("_names", "_what")

    def __init__(self, what: str, names: Mapping[str, Value]) -> None:
        self._what = what
        self._names = names

    @classmethod
    def over(cls, view: Given, names: Mapping[str, Value]) -> Given:
        """A view with names of its own, and those of another one."""
        return cls(view._what, {**view._names, **names})

    def __getattr__(self, name: str) -> Value:
        try:
            return self._names[name]
        except KeyError:
            return refuse(f"the attribute {name!r} of {self._what}", "it is not offered")

    def __repr__(self) -> str:
        return f"<{self._what}>"


def class_of(value: Value) -> Value:
    """The class behind what contained code calls one."""
    return value._cls if type(value) is Offered else value  # noqa: SLF001  # it has no public one


#: Whose objects contained code is given as they are, with lists of what it may read.
LIBRARIES: Final = frozenset({"numpy", "pandas"})


def is_foreign(kind: type) -> bool:
    """Whether a class is one of numpy's or pandas'."""
    return kind.__module__.partition(".")[0] in LIBRARIES


def is_known(kind: type, name: str) -> bool:
    """Whether a class has an attribute; not asked of the value, which might compute it."""
    return any(name in vars(base) for base in kind.__mro__)


def refuse(construct: str, reason: str) -> NoReturn:
    """Stops the code: it asked for what the policy does not give."""
    raise Stopped(SourceRefused(line=None, construct=construct, reason=reason))


def too_large(what: str, allowed: int, unit: str) -> NoReturn:
    """Stops the code: one operation would make too large a value."""
    raise Stopped(
        LimitExceeded(
            f"{what} would make more than {allowed:,} {unit}; it was stopped before",
            limit="size",
            allowed=allowed,
        )
    )

"""How values, functions and failures travel between processes.

Pickle where it does, cloudpickle where it does not: for lambdas, for classes made inside
functions, and for all that lives in ``__main__``, which is another module over there. A
failure is rebuilt without calling its class's ``__init__`` again, since that is written
for whoever raises it: it may demand keywords or make the message longer once more.

A message is a list of byte strings. In front of it go their number and their lengths.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import struct
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, TypeAlias, cast

from anabranch.jobs.executors.protocol import Reply
from anabranch.jobs.notes import note, notes_of, said, shown
from anabranch.retry import chain_of

Part: TypeAlias = bytes | bytearray | memoryview
"""What a message consists of."""

# How long a worker without a job may take to end: its exit handlers are the user's.
EXIT_GRACE_S = 2.0

# Both ends keep so many functions of those that have travelled.
MOST_FUNCTIONS = 8

_COUNT = struct.Struct("!I")
# Modules that are another one over there; multiprocessing's children have the second.
_HERE = ("__main__", "__mp_main__")
_ASYNCIO = str(Path(asyncio.__file__).parent)

HEAD_BYTES = _COUNT.size
"""How long the beginning of every message is: it says how many lengths follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the parent was started, as far as a function's imports depend on it.

    Attributes:
        parent: Its process number.
        path: Its ``sys.path``.
        python_path: Its ``PYTHONPATH``.
    """

    parent: int
    path: list[str]
    python_path: str | None


def need_cloudpickle(who: str, extra: str) -> None:
    """Refuse to go on without the package, which an extra brings.

    Raises:
        ImportError: It is missing; the message has the command that installs it.
    """
    try:
        _cloudpickle()
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{who} needs cloudpickle: pip install 'anabranch[{extra}]'"
        ) from error


@cache
def _cloudpickle() -> Any:
    # It has no types.
    return import_module("cloudpickle")


def name_of(fn: object) -> str:
    """What to call a function in a message."""
    return str(getattr(fn, "__qualname__", None) or shown(fn))


def described(fn: object, items: Sequence[object]) -> str:
    """What a worker was doing: the function, and the item if there was only one."""
    what = shown(items[0]) if len(items) == 1 else f"one of {len(items)} items"
    return f"{name_of(fn)} on {what}"


# ------------------------------------------------------------------------- messages


def head(parts: Sequence[Part]) -> bytes:
    """What goes in front of the parts."""
    lengths = struct.pack(f"!{len(parts)}Q", *map(len, parts))
    return _COUNT.pack(len(parts)) + lengths


def count_in(beginning: Part) -> int:
    """How many parts a message has whose first ``HEAD_BYTES`` these are."""
    return int(_COUNT.unpack(beginning)[0])


def lengths_in(lengths: Part) -> tuple[int, ...]:
    """The length of each part; of eight bytes a part."""
    return struct.unpack(f"!{len(lengths) // 8}Q", lengths)


# --------------------------------------------------------------------------- values


def dumps(value: object) -> bytes:
    """A value that any process can load, whatever its class is.

    Raises:
        Exception: Of many types, if it has no such form.
    """
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return _dumps_by_value(value)
    if any(name.encode() in data for name in _HERE):
        return _dumps_by_value(value)
    return data


def _dumps_by_value(value: object) -> bytes:
    cloudpickle = _cloudpickle()
    if (script := sys.modules.get(_HERE[1])) is not None:
        cloudpickle.register_pickle_by_value(script)
    file = io.BytesIO()
    _value_pickler()(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


@cache
def _value_pickler() -> Any:
    base = _cloudpickle().Pickler

    def reducer_override(pickler: object, thing: object) -> Any:
        # In place of a file, cloudpickle sends all of its text.
        if _is_file(thing):
            raise TypeError(f"cannot pickle an open file, {getattr(thing, 'name', None)!r}")
        return base.reducer_override(pickler, thing)

    return type("_ValuePickler", (base,), {"reducer_override": reducer_override})


def _is_file(thing: object) -> bool:
    """Whether it is a text file, other than those which a worker has too."""
    return isinstance(thing, io.TextIOWrapper) and thing not in (sys.stdout, sys.stderr)


def dumps_function(fn: Callable[..., object]) -> bytes:
    """A function with all that it refers to; by its name if it is in a module.

    Raises:
        TypeError: It refers to something that cannot travel.
    """
    try:
        return _dumps_by_value(fn)
    except Exception as error:
        raise TypeError(
            f"{name_of(fn)} cannot be sent to another process: {said(error)}. Open "
            "clients, locks and files inside the function, not around it"
        ) from error


def loads(data: Part) -> Any:
    """What ``dumps`` was given."""
    # Only our own processes write to these sockets, with the rights that we have.
    return pickle.loads(data)  # noqa: S301


class Parcel:
    """A chunk of items on its way, without those that cannot travel.

    Attributes:
        sent: The encoded items.
    """

    def __init__(self, items: Sequence[object], where: str) -> None:
        self.sent: list[bytes] = []
        self._refused: dict[int, Reply] = {}
        self._size = len(items)
        for index, item in enumerate(items):
            try:
                self.sent.append(dumps(item))
            # An item's own __reduce__ may raise the last two, which would mean something
            # else to whoever runs us; Ctrl-C is not the item's.
            except (Exception, SystemExit, GeneratorExit) as error:
                refused = TypeError(
                    f"an item, a {type(item).__name__}, cannot be sent to {where}: "
                    f"{said(error)}"
                )
                self._refused[index] = (False, refused)

    def replies(self, came: Sequence[Reply]) -> list[Reply]:
        """A reply for each item, from those for the items that were sent."""
        answers = iter(came)
        return [
            self._refused[index] if index in self._refused else next(answers)
            for index in range(self._size)
        ]


# -------------------------------------------------------------------------- replies


def pack(fn: object, reply: Reply) -> tuple[bool, bytes]:
    """A reply, in the process that made it, for :func:`unpack` in the one that asked."""
    if reply[0]:
        try:
            return True, dumps(reply[1])
        except Exception as error:
            kind = type(reply[1]).__name__
            unsendable = TypeError(
                f"the result of {name_of(fn)}, a {kind}, cannot be sent back from its "
                f"process: {said(error)}. Return plain data instead"
            )
            return False, _dumps_error(unsendable)
    return False, _dumps_error(reply[1])


def unpack(ok: bool, data: Part) -> Reply:
    """The reply that was packed, in the process that asked."""
    if not ok:
        return False, _loads_error(data)
    try:
        value = loads(data)
    except Exception as error:
        unreadable = TypeError(
            f"what the function returned cannot be read here: {said(error)}"
        )
        unreadable.__cause__ = error
        return False, unreadable
    return True, value


def with_traceback(error: BaseException, where: str, ours: str) -> BaseException:
    """The error with its traceback as a note, since tracebacks do not travel.

    Args:
        error: Caught just now.
        where: The process.
        ours: The file that called the function: where the traceback begins, frames of it
            and of asyncio tell the user nothing.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(
        (ours, _ASYNCIO)
    ):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    note(error, f"in {where}:\n{''.join(lines).rstrip()}")
    return error


def _dumps_error(error: BaseException) -> bytes:
    """The exception and those that it was raised from, which pickle leaves out."""
    return pickle.dumps([_dumps_link(link) for link in chain_of(error)])


def _loads_error(data: Part) -> BaseException:
    first, *causes = [_loads_link(*link) for link in loads(data)]
    error = first
    for cause in causes:
        error.__cause__ = cause
        error = cause
    return first


def _dumps_link(error: BaseException) -> tuple[bytes, str, list[str], str]:
    """The exception, and what stands for it where it cannot be loaded."""
    data, whys = b"", list[str]()
    for form in (error, _Remains(error)):
        try:
            pickled = _pickled_error(form)
            if isinstance(loads(pickled), BaseException):  # some can only be written
                data = pickled
                break
            whys.append("what was pickled is no exception")
        except Exception as unfit:
            whys.append(said(unfit))
    what = f"{type(error).__module__}.{said(error)}"
    return data, what, notes_of(error), "".join(whys[:1])


def _loads_link(pickled: bytes, text: str, notes: list[str], why: str) -> BaseException:
    if pickled:
        try:
            error = loads(pickled)
        except Exception as unfit:
            why = f"in this process: {said(unfit)}"
        else:
            if isinstance(error, BaseException):
                return error
            why = "here: what was pickled is no exception"
    stand_in = RuntimeError(
        f"{text} (in place of the exception, which cannot be pickled: {why})"
    )
    for noted in notes:
        note(stand_in, noted)
    return stand_in


class _Remains:
    """Pickled in place of an exception: the same, without what cannot travel of it."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        state = {name: _portable(value) for name, value in vars(error).items()}
        changed = [name for name, value in vars(error).items() if state[name] is not value]
        if changed:
            text = f"instead of what cannot be pickled came copies: {', '.join(changed)}"
            state["__notes__"] = [*notes_of(error), text]
        return _rebuilt, (type(error), tuple(map(_portable, error.args)), state)


def _portable(value: Any) -> Any:
    """A value, or a copy of what :mod:`~anabranch.retry` reads of it, or its text."""
    try:
        loads(dumps(value))
    except Exception:
        if isinstance(value, Mapping):  # headers
            items = cast("Mapping[object, object]", value).items()
            return {str(name): _portable(entry) for name, entry in items}
        return _shape(value) or shown(value)
    return value


def _shape(value: object) -> SimpleNamespace | None:
    """What tells of a response that it is one."""
    told: dict[str, Any] = {}
    for name in ("status", "status_code", "code", "headers"):
        with suppress(Exception):
            if (fact := getattr(value, name)) is not None:
                told[name] = _portable(fact)
    return SimpleNamespace(**told) if told else None


def _pickled_error(error: object) -> bytes:
    file = io.BytesIO()
    _error_pickler()(file, pickle.HIGHEST_PROTOCOL).dump(error)
    return file.getvalue()


@cache
def _error_pickler() -> Any:
    base = _cloudpickle().Pickler

    def reducer_override(pickler: object, thing: object) -> Any:
        if isinstance(thing, BaseException) and _is_made_by_users_code(type(thing)):
            return _rebuilt, thing.__reduce__()
        return base.reducer_override(pickler, thing)

    return type("_ErrorPickler", (base,), {"reducer_override": reducer_override})


def _is_made_by_users_code(kind: type[BaseException]) -> bool:
    """Whether somebody has written how it is made, and nobody how it is pickled."""
    return isinstance(kind.__init__, FunctionType) and not any(
        isinstance(method, FunctionType)
        for method in (kind.__new__, kind.__reduce__, kind.__reduce_ex__)
    )


def _rebuilt(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any] | None = None
) -> BaseException:
    error = kind.__new__(kind, *args)
    for base in kind.__mro__:
        init = base.__dict__.get("__init__")
        if init is not None and not isinstance(init, FunctionType):
            init(error, *args)  # sets what the interpreter keeps, such as errno
            break
    error.__setstate__(state)
    return error

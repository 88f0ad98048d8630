"""Functions of this side that contained code may call."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any, Final

from anabranch.errors import UsageError, ValueRefused
from anabranch.sandbox import wire
from anabranch.sandbox.isolate import speech

TEXT_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Exposed:
    """A function that contained code may call, and how much of it.

    Args:
        fn: A plain or an async function. A plain one runs on the event loop: let it be
            short. It is called with plain values, in whatever number and of whatever type
            the code likes: check them. Where it runs code in the same sandbox, that needs
            a place beside the one of its caller: see ``standby``.
        call_s: Seconds that one call of an async function may take.
        calls: How many calls one run may make.

    Raises:
        UsageError: If it is not callable, or a limit is not positive.
    """

    fn: Callable[..., Any]
    call_s: float = 30.0
    calls: int = 1_000

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise UsageError(f"expose takes functions, not {self.fn!r}")
        if not (self.call_s > 0 and self.calls > 0):
            raise UsageError(
                f"Exposed(call_s={self.call_s!r}, calls={self.calls!r}): both must be "
                "positive"
            )


Functions = Mapping[str, Callable[..., Any] | Exposed]


def gathered(*given: Functions | None) -> dict[str, Exposed]:
    """One table of functions; the later ones hide earlier ones of the same name.

    Raises:
        UsageError: A name that code cannot write, or what is no function.
    """
    table: dict[str, Exposed] = {}
    for functions in given:
        for name, fn in (functions or {}).items():
            check_name("expose", name)
            table[name] = fn if isinstance(fn, Exposed) else Exposed(fn)
    return table


def check_name(where: str, name: object) -> None:
    """Raise UsageError if code could not write this name."""
    if not (isinstance(name, str) and name.isidentifier() and not iskeyword(name)):
        raise UsageError(f"{where}: {name!r} is no name that code can use")


class Desk:
    """Answers the calls of one run.

    Args:
        table: What may be called.
        most_bytes: How large the arguments of a call, and its result, may be.
    """

    def __init__(self, table: Mapping[str, Exposed], *, most_bytes: int) -> None:
        self._table = table
        self._most = most_bytes
        self._made: dict[str, int] = {}

    async def answer(self, call: speech.Heard) -> wire.Message:
        """The message that answers a call. What goes wrong is told to the code as text."""
        name = call.facts.get("name")
        exposed = self._table.get(name) if isinstance(name, str) else None
        if exposed is None or not isinstance(name, str):
            return _failed(f"there is no function {name!r:.80}")
        made = self._made[name] = self._made.get(name, 0) + 1
        if made > exposed.calls:
            return _failed(f"{name} may be called {exposed.calls} times in a run, no more")
        try:
            args, kwargs = self._arguments(call)
            result = await _called(exposed, args, kwargs)
            value = wire.encode(result, max_bytes=self._most)
        except asyncio.CancelledError as error:
            me = asyncio.current_task()
            if me and me.cancelling():  # the run has ended, by a limit say
                raise
            return _failed(f"{name}: {_sentence(error)}")
        except (Exception, SystemExit) as error:  # whatever it is, the run goes on
            return _failed(f"{name}: {_sentence(error)}")
        return speech.say({"do": "answer"}, value=value)

    def _arguments(self, call: speech.Heard) -> tuple[list[Any], dict[str, Any]]:
        asked: Any = call.value(max_bytes=self._most)
        if not (_is(asked, list) and len(asked) == 2):
            raise ValueRefused(path="arguments", reason="they are not a pair")
        args, kwargs = asked
        if not (_is(args, list) and _is(kwargs, dict) and all(_is(k, str) for k in kwargs)):
            raise ValueRefused(path="arguments", reason="they are no list and no keywords")
        return args, kwargs


async def _called(exposed: Exposed, args: list[Any], kwargs: dict[str, Any]) -> Any:
    deadline = asyncio.timeout(exposed.call_s)
    try:
        async with deadline:
            result = exposed.fn(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
    except TimeoutError:
        if deadline.expired():
            raise TimeoutError(f"it took longer than {exposed.call_s} s") from None
        raise


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind


def _failed(text: str) -> wire.Message:
    return speech.say({"do": "fail", "text": text[:TEXT_CHARS]})


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

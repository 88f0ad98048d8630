"""A step's body on an executor: in threads, in processes, or on other machines.

What travels is the workflow object without its engine, the step's name and its events; what
comes back is what the body returned. All of it is encoded here, so that whoever holds
something that cannot travel is told what it is.

Executors that have only a name are made here: one of each for an event loop, shared by all
steps on it. They let go of their threads and processes when no step has used them for a
while, and at the end of the loop. Python closes the asynchronous generators of a loop at
its end, after its last task, and one of ours waits for that: so no task is left behind, and
nothing that was started outlives ``asyncio.run``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast
from weakref import WeakKeyDictionary

from anabranch.errors import ExecutorClosed, WorkflowRuntimeError
from anabranch.jobs.executors import Dispatcher, Executor, Reply, ThreadExecutor, wire
from anabranch.jobs.executors.choice import executor_of
from anabranch.jobs.notes import said

Place: TypeAlias = Literal["thread", "process", "ray"] | Executor
"""Where a body runs."""

# How often a body goes to another worker if the first one died, where the executor itself
# does not send anything again: bodies run at least once, here as after any other crash.
RESEND: Final = 1
# How long workers without a step are kept. Starting one takes a tenth of a second.
KEEP_S: Final = 60.0

# What a workflow object has that stays where it is.
_HOME: Final = ("_anabranch_engine", "_anabranch_runtime")


@dataclass(frozen=True, slots=True)
class Remote:
    """One step of one workflow object, whose body runs elsewhere.

    Attributes:
        place: Where.
        owner: The workflow object; ``None`` if the step is a function outside a class.
        function: The step, bound to the object.
    """

    step: str
    place: Place
    owner: object | None
    function: Callable[..., Any]
    is_async: bool

    async def call(self, arguments: Mapping[str, Any], begun: Callable[[], None]) -> Any:
        """What the body returns.

        Args:
            arguments: What it is called with.
            begun: Is called when a worker is given it.

        Raises:
            WorkflowRuntimeError: The workflow object, an event or the result cannot travel.
            WorkerLost: The worker died, and so did the next one that had it.
            Exception: What the body raised.
        """
        shop = _workshop()
        place = await shop.executor(self.place)
        if isinstance(place, ThreadExecutor):
            return await shop.do(
                place, perform_here, Errand(self.step, self, arguments, begun)
            )
        data = _packed(self, arguments)
        fn = perform_later if self.is_async else perform
        came = await shop.do(place, fn, Errand(self.step, data, None, begun))
        return wire.loads(came)


class Errand:
    """A body on its way to a worker; its text is what an error says of it.

    Attributes:
        work: What is to be done; encoded, unless it stays in this process.
        begun: Is called when a worker is given it, the first time.
    """

    __slots__ = ("arguments", "begun", "step", "work")

    def __init__(
        self,
        step: str,
        work: Any,
        arguments: Mapping[str, Any] | None,
        begun: Callable[[], None] | None = None,
    ) -> None:
        self.step = step
        self.work = work
        self.arguments = arguments
        self.begun = begun

    def __reduce__(self) -> tuple[Any, ...]:
        return Errand, (self.step, self.work, self.arguments)

    def __repr__(self) -> str:
        return f"step {self.step!r}"


# ------------------------------------------------------------------- in the worker


def perform_here(errand: Errand) -> Any:
    """Call a body that is in this process."""
    return errand.work.function(**errand.arguments or {})


def perform(errand: Errand) -> bytes:
    """Call a body that has come from another process."""
    body, arguments = wire.loads(errand.work)
    return _packed_result(errand.step, body(**arguments))


async def perform_later(errand: Errand) -> bytes:
    """Call and await a body that has come from another process."""
    body, arguments = wire.loads(errand.work)
    return _packed_result(errand.step, await body(**arguments))


def _packed_result(step: str, value: Any) -> bytes:
    try:
        return wire.dumps(value)
    except Exception as error:
        raise WorkflowRuntimeError(
            f"what step {step!r} returned, {_a(value)}, cannot be sent back from the "
            f"process that it ran in ({said(error)}): return events with plain data in them"
        ) from error


# -------------------------------------------------------------------- what travels


class _Body:
    """Travels as a step that is bound to a copy of its workflow object."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def __reduce__(self) -> tuple[Any, ...]:
        remote = self._remote
        if remote.owner is None:
            return _same, (remote.function,)
        return _bound, (type(remote.owner), _state_of(remote.owner), remote.step)


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _bound(kind: type[Any], state: Any, step: str) -> Callable[..., Any]:
    owner: Any = object.__new__(kind)
    if hasattr(owner, "__setstate__"):
        owner.__setstate__(state)
    else:
        parts = cast("Any", state if isinstance(state, tuple) else (state,))
        for attributes in filter(None, parts):  # in a dictionary, and in slots
            for name, value in attributes.items():
                object.__setattr__(owner, name, value)
    return cast("Callable[..., Any]", getattr(owner, step))


def _state_of(owner: object) -> Any:
    """What pickle would take of a workflow object, without what drives it."""
    state: Any = owner.__getstate__()
    if isinstance(state, tuple):
        attributes, slots = cast("tuple[Any, Any]", state)
        return _without_engine(attributes), slots
    return _without_engine(state)


def _without_engine(attributes: Any) -> Any:
    if not isinstance(attributes, dict):
        return attributes
    held = cast("dict[str, Any]", attributes)
    return {name: value for name, value in held.items() if name not in _HOME}


def _packed(remote: Remote, arguments: Mapping[str, Any]) -> bytes:
    try:
        return wire.dumps((_Body(remote), dict(arguments)))
    except Exception as error:
        raise WorkflowRuntimeError(
            f"step {remote.step!r} cannot be sent to another process: "
            f"{_what_stays(remote, arguments) or said(error)}"
        ) from error


def _what_stays(remote: Remote, arguments: Mapping[str, Any]) -> str | None:
    """A sentence on what cannot travel, and what to do."""
    for value in arguments.values():
        if (why := _refusal(value)) is not None:
            return f"{_a(value)} cannot travel ({why}): give events plain data"
    if remote.owner is None:
        return None
    kind = type(remote.owner)
    if (why := _refusal(kind)) is not None:
        return (
            f"the class {kind.__name__} cannot travel ({why}): define it in a module that "
            "a worker can import"
        )
    state = _state_of(remote.owner)
    if isinstance(state, dict):
        for name, value in cast("dict[str, Any]", state).items():
            if (why := _refusal(value)) is not None:
                return (
                    f"self.{name}, {_a(value)}, cannot travel ({why}): make it in the "
                    "step's body, or leave it out of copies with __getstate__"
                )
    return None


def _refusal(value: object) -> str | None:
    try:
        wire.dumps(value)
    except Exception as error:
        return said(error)
    return None


def _a(value: object) -> str:
    return f"a {type(value).__name__}"


# ------------------------------------------------------------------------ executors


class _Told:
    """An executor that tells errands when a worker is given them."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self.chunk = inner.chunk
        self.resend = max(inner.resend, RESEND)

    @property
    def slots(self) -> int:
        return self._inner.slots

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        for item in items:
            begun, item.begun = item.begun, None
            if begun is not None:
                begun()
        return await self._inner.run(fn, items)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Workshop:
    """The executors that the steps of one event loop use."""

    def __init__(self) -> None:
        self._own: dict[str, Executor] = {}
        self._dispatchers: dict[tuple[int, object], Dispatcher[Errand, Any]] = {}
        self._at_work = 0
        self._ending: AsyncGenerator[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def executor(self, place: Place) -> Executor:
        """The executor that is meant; its workers are not started yet.

        Raises:
            ImportError: An extra is missing; the message has the command that installs it.
        """
        if self._ending is None:
            self._ending = self._until_the_end()
            await anext(self._ending)
        if not isinstance(place, str):
            return place
        if place not in self._own:
            self._own[place] = _made(place)
        return self._own[place]

    async def do(
        self, executor: Executor, perform: Callable[[Errand], Any], errand: Errand
    ) -> Any:
        """What comes of an errand.

        Who is cancelled is gone at once; the executor then ends the body as well as it can.
        """
        key = id(executor), perform
        if key not in self._dispatchers:
            self._dispatchers[key] = Dispatcher(_Told(executor), perform)
        dispatcher = self._dispatchers[key]
        self._at_work += 1
        if self._idle is not None:
            self._idle.cancel()
        try:
            return await dispatcher(errand)
        except ExecutorClosed:
            # Its owner may use it again; the dispatcher has seen it closed, once for all.
            if self._dispatchers.get(key) is dispatcher:
                del self._dispatchers[key]
            raise
        finally:
            self._at_work -= 1
            if not self._at_work:
                loop = asyncio.get_running_loop()
                self._idle = loop.call_later(KEEP_S, self._let_go, loop)

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        self._closing = loop.create_task(self._close_own(), name="idle executors")

    async def _close_own(self) -> None:
        for executor in self._own.values():
            await executor.aclose()  # it may be used again

    async def _until_the_end(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            _workshops.pop(asyncio.get_running_loop(), None)
            if self._idle is not None:
                self._idle.cancel()
            for dispatcher in self._dispatchers.values():
                await dispatcher.aclose()
            await self._close_own()


_workshops: WeakKeyDictionary[asyncio.AbstractEventLoop, Workshop] = WeakKeyDictionary()


def _workshop() -> Workshop:
    """Where steps of the running loop have their executors."""
    loop = asyncio.get_running_loop()
    shop = _workshops.get(loop)
    if shop is None:
        shop = _workshops[loop] = Workshop()
    return shop


def _made(name: str) -> Executor:
    if name != "ray":
        return executor_of(name, perform)
    from anabranch.jobs.executors import RayExecutor

    # One body a chunk: those of a chunk come back together, when the last has ended.
    return RayExecutor(chunk=1)

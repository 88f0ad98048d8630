"""Asking a contained process to run something; and one that is asked more than once."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Coroutine, Mapping
from typing import Any, NoReturn, cast

from anabranch.errors import (
    IsolateDied,
    LimitExceeded,
    TimeLimitExceeded,
    UsageError,
    ValueRefused,
)
from anabranch.sandbox import wire
from anabranch.sandbox.isolate import speech
from anabranch.sandbox.isolate.exposed import Desk, Exposed, Functions, check_name, gathered
from anabranch.sandbox.isolate.keeper import told
from anabranch.sandbox.isolate.peer import Exit, Forging, Gone, Peer
from anabranch.sandbox.isolate.runner import NOTE_BYTES
from anabranch.sandbox.limits import Limits
from anabranch.sandbox.result import CodeError, Result

__all__ = ["Session"]

_TEXT_CHARS = 20_000  # of a text that the child gives


class Session:
    """A contained process that keeps its variables; from :meth:`Sandbox.session`.

    Runs that are started at the same time go one after another, in the order of their
    calls. Cancelling one kills the process, and so ends the session.
    """

    def __init__(self, peer: Peer, limits: Limits, table: Mapping[str, Exposed]) -> None:
        self._peer = peer
        self._limits = limits
        self._table = table
        self._turn = asyncio.Lock()

    async def run(
        self,
        source: str,
        values: Mapping[str, Any] | None = None,
        *,
        expose: Functions | None = None,
    ) -> Result:
        """Run code where the earlier runs of this session have left off.

        What the code raises leaves the session as it is, and so does a value that is
        refused on the way in or out.

        Raises:
            SandboxError: As :meth:`Sandbox.run` does.
            IsolateDied: The session has ended.
        """
        table = {**self._table, **gathered(expose)} if expose else self._table
        async with self._turn:
            if self._peer.ended:
                raise IsolateDied(
                    "this session has ended, by a limit, a cancellation or its own doing: "
                    "open another"
                )
            return await ask(
                self._peer, source, values or {}, limits=self._limits, table=table
            )


async def ask(
    peer: Peer,
    source: str,
    values: Mapping[str, Any],
    *,
    limits: Limits,
    table: Mapping[str, Exposed],
) -> Result:
    """Have a child run code, and answer its calls. If it does not end well it is killed.

    Raises:
        SandboxError: As :meth:`Sandbox.run` says.
    """
    request = _request(source, values, limits, table)
    desk = Desk(table, most_bytes=limits.result_bytes)
    peer.expect(limits.result_bytes + 2 * (limits.output_bytes + NOTE_BYTES))
    began = time.perf_counter()
    deadline = asyncio.timeout(limits.wall_s)
    try:
        async with deadline:
            heard = await _conversation(peer, request, desk)
    except Gone:
        peer.kill()  # it may have closed its socket only
        _raise_fate(await peer.fate(), limits)
    except TimeoutError:
        peer.kill()
        if not deadline.expired():
            raise
        raise TimeLimitExceeded(
            f"the code took longer than {limits.wall_s} s and was killed: give it "
            "more with Limits(wall_s=...)",
            limit="wall_s",
            allowed=limits.wall_s,
        ) from None
    except BaseException:
        peer.kill()
        raise
    try:
        return _result(heard, limits, time.perf_counter() - began)
    except Forging:
        peer.kill()
        raise


def _request(
    source: str, values: Mapping[str, Any], limits: Limits, table: Mapping[str, Exposed]
) -> wire.Message:
    _check_source(source)
    for name in values:
        check_name("values", name)
    facts = {
        "do": "run",
        "source": source,
        "expose": list(table),
        "output_bytes": limits.output_bytes,
        "result_bytes": limits.result_bytes,
    }
    return speech.say(facts, value=wire.encode(dict(values), max_bytes=2**40))


def _check_source(source: object) -> None:
    if not isinstance(source, str):
        raise UsageError(f"the source must be text, not {type(source).__name__}")


async def _conversation(peer: Peer, request: wire.Message, desk: Desk) -> speech.Heard:
    """Send the request, answer calls, and return what comes in the end."""
    await peer.send(request)
    while (heard := await peer.receive()).facts.get("is") == "call":
        await peer.send(await _while_alive(peer, desk.answer(heard)))
    return heard


async def _while_alive(peer: Peer, work: Coroutine[Any, Any, wire.Message]) -> wire.Message:
    """What the work gives; it is cancelled if the child ends before that.

    Raises:
        Gone: The child ended. It may also be a :class:`Forging`.
    """
    task = asyncio.ensure_future(work)
    try:
        ends: set[asyncio.Future[Any]] = {task, peer.over}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if peer.ended:
            await peer.receive()  # raises why
        return task.result()
    finally:
        if not task.done():
            peer.kill()  # first: a function may take its time to be cancelled
            task.cancel()
            await asyncio.wait({task})


def _result(heard: speech.Heard, limits: Limits, wall_s: float) -> Result:
    match heard.facts:
        case {
            "is": "done",
            "error": error,
            "cpu_s": cpu_s,
            "memory_bytes": memory_bytes,
        } if (
            _is_count(cpu_s, float)
            and _is_count(memory_bytes, int)
            and len(heard.buffers) > 2
        ):
            stdout, stderr = (_text(buffer, limits) for buffer in heard.buffers[:2])
            value = heard.value(after=2, max_bytes=limits.result_bytes)
            told_error = None if error is None else _error(error)
            return Result(value, stdout, stderr, told_error, wall_s, cpu_s, memory_bytes)
        case {"is": "refused", "path": str(path), "reason": str(reason)}:
            raise ValueRefused(path=path[:_TEXT_CHARS], reason=reason[:_TEXT_CHARS])
        case {"is": "too large", "bytes": int(size)}:
            raise LimitExceeded(
                f"the value takes {size} bytes and {limits.result_bytes} are allowed: "
                "return less, or give it more with Limits(result_bytes=...)",
                limit="result_bytes",
                allowed=limits.result_bytes,
            )
        case {"is": "out of memory"}:
            raise _out_of_memory(limits)
        case _:
            raise Forging("what is no answer")


def _is_count(value: object, kind: type) -> bool:
    """Whether it is a number that counts something: what the child says is not trusted."""
    return type(value) in (int, kind) and 0 <= cast("float", value) < 2**60


def _text(buffer: speech.Part, limits: Limits) -> str:
    if len(buffer) > limits.output_bytes + NOTE_BYTES:
        raise Forging("more output than it may")
    return bytes(buffer).decode("utf-8", "replace")


def _error(facts: object) -> CodeError:
    match facts:
        case {
            "type_name": str(type_name),
            "message": str(message),
            "line": int() | None as line,
            "traceback": str(text),
        }:
            line = line if line and line > 0 else None
            return CodeError(
                type_name[:_TEXT_CHARS], message[:_TEXT_CHARS], line, text[:_TEXT_CHARS]
            )
        case _:
            raise Forging("what is no error")


def _raise_fate(exited: Exit | None, limits: Limits) -> NoReturn:
    """Raise what the end of a child means."""
    status = exited.status if exited else 0
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    spent = exited is not None and exited.cpu_s >= math.ceil(limits.cpu_s) - 0.1
    if number == signal.SIGXCPU or (number == signal.SIGKILL and spent):
        raise LimitExceeded(
            f"the code took more than {limits.cpu_s} s of processor time and was killed: "
            "give it more with Limits(cpu_s=...)",
            limit="cpu_s",
            allowed=limits.cpu_s,
        )
    if number is None and os.waitstatus_to_exitcode(status) == speech.OUT_OF_MEMORY:
        raise _out_of_memory(limits)
    raise IsolateDied(
        f"the process that ran the code ended before it had answered ({told(exited)}): the "
        "code ended or crashed it, or this machine is out of memory"
    )


def _out_of_memory(limits: Limits) -> LimitExceeded:
    return LimitExceeded(
        f"the code needed more memory than it was given ({limits.memory_bytes} bytes): let "
        "it do with less, or give it more with Limits(memory_bytes=...)",
        limit="memory_bytes",
        allowed=limits.memory_bytes,
    )

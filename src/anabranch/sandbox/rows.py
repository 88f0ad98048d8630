"""One expression of a stranger's over many rows, a chunk of them in each process."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from anabranch.errors import (
    CodeFailed,
    IsolateDied,
    LimitExceeded,
    SandboxError,
    ValueRefused,
)
from anabranch.jobs.executors import Reply
from anabranch.sandbox.result import Result
from anabranch.sandbox.source import parsed

__all__ = ["RowsExecutor"]

# A fresh process costs as much as the evaluation of a few hundred simple rows.
CHUNK: Final = 256
# Into how many parts a chunk is cut that came to nothing. One bad row of 256 then costs 32
# processes more, and its time limit is waited for twice more: halves would be fewer
# processes and eight waits, single rows one wait and 256 processes.
PARTS: Final = 16

_PROGRAM: Final = """
def _evaluated(source, rows, given):
    code = compile(source, "<expression>", "eval")
    for row in rows:
        fields = row if isinstance(row, dict) else {}
        names = {name: fields[name] for name in fields if isinstance(name, str)}
        try:
            yield True, eval(code, {**given, **names, "row": row})
        except BaseException as error:
            yield False, [type(error).__name__, str(error)[:4_000]]

def _given(imports):
    hidden = {"source", "rows", "imports", "_evaluated", "_given"}
    given = {name: value for name, value in globals().items() if name not in hidden}
    return given | {name.partition(".")[0]: __import__(name) for name in imports}

list(_evaluated(source, rows, _given(imports)))
"""


class _Runs(Protocol):
    async def run(self, source: str, values: Mapping[str, Any] | None = None) -> Result: ...


class RowsExecutor:
    """Evaluates an expression on chunks of rows, each in a fresh, confined process.

    What it sees: :meth:`~anabranch.sandbox.Sandbox.executor_for`. A chunk that comes to
    nothing is tried again in parts, down to the single rows that are to blame.

    Args:
        sandbox: Where it runs.
        source: The expression.
        imports: The modules that it may use.
        slots: How many processes there are at once.

    Raises:
        SyntaxError: It is no expression; or :class:`~anabranch.errors.SourceRefused`, if
            nobody can tell, as it is too deep say.
    """

    chunk = CHUNK
    resend = 0

    def __init__(
        self, sandbox: _Runs, source: str, *, imports: Sequence[str], slots: int
    ) -> None:
        compile(parsed(source, "eval"), "<expression>", "eval", dont_inherit=True)
        self._sandbox = sandbox
        self._source = source.strip()
        self._imports = list(imports)
        self.slots = slots

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        """Evaluate the expression on each item; :class:`CodeFailed` is what it raised."""
        given = {"source": self._source, "rows": list(items), "imports": self._imports}
        try:
            result = await self._sandbox.run(_PROGRAM, given)
            return _replies(result.unwrap(), len(items))
        except (CodeFailed, IsolateDied, LimitExceeded, ValueRefused) as error:
            if len(items) == 1:
                return [(False, _of_one_row(error))]
        size = -(-len(items) // PARTS)
        parts = [items[at : at + size] for at in range(0, len(items), size)]
        return [reply for part in parts for reply in await self.run(fn, part)]

    async def aclose(self) -> None:
        """Nothing: what runs is the sandbox's."""


def _replies(told: Any, count: int) -> list[Reply]:
    """What a process told of each row; the expression had it in its hands."""
    if type(told) is not list:
        raise _nonsense()
    replies = [_reply(of_a_row) for of_a_row in told]
    if len(replies) != count:
        raise _nonsense()
    return replies


def _reply(told: Any) -> Reply:
    match told:
        case (True, value):
            return True, value
        case (False, [str(name), str(message)]):
            return False, CodeFailed(type_name=name, message=message, line=None)
        case _:
            raise _nonsense()


def _nonsense() -> IsolateDied:
    return IsolateDied("the process that evaluated the rows answered nonsense")


def _of_one_row(error: SandboxError) -> SandboxError:
    """The error, as if the row and its value had been sent as such."""
    if not isinstance(error, ValueRefused):
        return error
    path = error.path.replace("value['rows'][0]", "row", 1).replace("value[0][1]", "value")
    return ValueRefused(path=path, reason=error.reason)

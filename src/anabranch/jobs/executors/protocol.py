"""What runs functions elsewhere: the shape that every home of jobs has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

Reply: TypeAlias = tuple[Literal[True], Any] | tuple[Literal[False], BaseException]
"""How one job ended: ``(True, value)`` or ``(False, exception)``.

A plain tuple, since one is made for every item. A failure travels as a value, so an
answer that nobody waits for any more makes no noise.
"""


@runtime_checkable
class Executor(Protocol):
    """Runs functions outside the event loop: in threads, processes or other machines.

    It serves one event loop at a time. What it needs is started with its first use; after
    ``aclose`` it may be used again.
    """

    @property
    def slots(self) -> int:
        """How many chunks it runs at once."""
        ...

    @property
    def chunk(self) -> int:
        """How many items a chunk may have."""
        ...

    @property
    def resend(self) -> int:
        """How often an item that was alone with a lost worker is sent again."""
        ...

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        """Run ``fn`` on every item of a chunk: a reply each, in their order.

        A job's own exception is a failed reply; across processes it keeps its type,
        arguments, attributes and notes, and gets its traceback there as another note.
        When this is cancelled, it ends what it runs before it lets the cancellation on.

        Raises:
            WorkerLost: The worker died. Any of the items may have had effects.
        """
        ...

    async def aclose(self) -> None:
        """End everything that was started, and return when it has ended."""
        ...


@runtime_checkable
class RunsSource(Protocol):
    """Runs source text instead of functions: a :class:`anabranch.sandbox.Sandbox`, say."""

    def executor_for(self, source: str) -> Executor:
        """What runs this source on items; it holds nothing that would need closing.

        Raises:
            SyntaxError: It cannot be run.
        """
        ...

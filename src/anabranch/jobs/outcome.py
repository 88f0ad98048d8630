"""How one job ended, and what a run does about a failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Errors: TypeAlias = Literal["raise", "return", "skip"]
"""``raise``: the first failure ends the run. ``return``: every job gives an
:class:`Outcome`. ``skip``: failed jobs leave no result."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T, R]):
    """How one job ended.

    Attributes:
        index: The item's place in the input, from 0.
        item: What the job was given.
        value: What it returned; ``None`` if it failed.
        error: What it raised, the same object; ``None`` if it succeeded.
        attempts: How often it was started.
        elapsed_s: From its first start to its end.
    """

    index: int
    item: T
    value: R | None
    error: BaseException | None
    attempts: int
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether the job succeeded: its value may well be ``None``."""
        return self.error is None

    def result(self) -> R:
        """The value, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # R may itself allow None

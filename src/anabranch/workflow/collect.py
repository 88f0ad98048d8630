"""How a step that takes a list of events wants its fan-out joined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["All", "Cardinality", "Collect", "Take"]


@dataclass(frozen=True)
class Cardinality:
    """How many events a step waits for: :class:`All` or :class:`Take`."""


@dataclass(frozen=True)
class All(Cardinality):
    """Every event of the fan-out, when all its branches have ended."""


@dataclass(frozen=True)
class Take(Cardinality):
    """The first ``n`` events, as soon as they are there.

    The other branches go on, and what they give does not reach the step. If all branches
    have ended and there are fewer than ``n``, it is called with those.
    """

    n: int

    def __post_init__(self) -> None:
        n: Any = self.n
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"Take(n) needs an integer of at least 1, not {n!r}")


@dataclass(frozen=True)
class Collect:
    """Marks a step's parameter: ``events: Annotated[list[Done], Collect()]``.

    The step is called once for each list that a step before it returned, when the branches
    of that list have ended, also if some of them gave nothing or were recovered from a
    failure. ``events: list[Done]`` means the same.
    """

    cardinality: Cardinality = field(default_factory=All)

"""Every order in which concurrent tasks may run, or many of them.

asyncio runs tasks that are ready in the order in which they became so. Nothing promises
that order: a little more time here or there, and it is another. A program that is right is
right in all of them.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from anabranch.testing.clock import VirtualLoop

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Exploration(Generic[R]):
    """What was found.

    Attributes:
        results: What the program gave, in each order that was tried.
        complete: Whether every order was tried.
    """

    results: list[R]
    complete: bool


class _Schedule:
    """Which of the tasks that are ready comes next, each time there are several."""

    def __init__(self, plan: Sequence[int], draw: random.Random | None) -> None:
        self.choices: list[int] = []
        self.options: list[int] = []
        self._plan = plan
        self._draw = draw

    def choose(self, options: int) -> int:
        place = len(self.choices)
        if place < len(self._plan):
            choice = self._plan[place]
        else:
            choice = self._draw.randrange(options) if self._draw else 0
        self.choices.append(choice)
        self.options.append(options)
        return choice

    def next_plan(self) -> list[int] | None:
        """The next order, counting up from the last choice; ``None`` after the last."""
        for place in reversed(range(len(self.choices))):
            if self.choices[place] + 1 < self.options[place]:
                return [*self.choices[:place], self.choices[place] + 1]
        return None


class _Ready(deque[asyncio.Handle]):
    """A loop's queue of what is ready. What is no task's keeps its order and goes first."""

    def __init__(self, schedule: _Schedule) -> None:
        super().__init__()
        self._schedule = schedule

    def popleft(self) -> asyncio.Handle:
        tasks: list[int] = []
        for index, handle in enumerate(self):
            # A task's own steps and wake-ups are methods of it.
            callback = getattr(handle, "_callback", None)
            if not isinstance(getattr(callback, "__self__", None), asyncio.Task):
                tasks = [index]
                break
            tasks.append(index)
        chosen = tasks[self._schedule.choose(len(tasks))] if len(tasks) > 1 else tasks[0]
        handle = self[chosen]
        del self[chosen]
        return handle


class _ExploredLoop(VirtualLoop):
    def __init__(self, schedule: _Schedule) -> None:
        super().__init__()
        self._ready = _Ready(schedule)


def explore(
    program: Callable[[], Coroutine[Any, Any, R]],
    *,
    most: int = 1000,
    seed: int | None = None,
) -> Exploration[R]:
    """Run a program in every order of its tasks, up to ``most``, in virtual time.

    Each time several tasks are ready, another choice makes another order. The orders come
    depth first, so a program that takes too many is tried near one end; a ``seed`` draws
    ``most`` of them at random instead.

    Args:
        program: A coroutine function that begins anew each time.
        most: How many orders to try.
        seed: Of the random choice.

    Raises:
        Exception: What the program raised, with a note that has the order for
            :func:`replay`.
    """
    results: list[R] = []
    draw = None if seed is None else random.Random(seed)
    plan: list[int] | None = []
    while plan is not None and len(results) < most:
        schedule = _Schedule(plan, draw)
        results.append(_run(program, schedule))
        plan = schedule.next_plan() if draw is None else []
    return Exploration(results, complete=plan is None)


def replay(program: Callable[[], Coroutine[Any, Any, R]], order: Sequence[int]) -> R:
    """Run a program in one order, as :func:`explore` has noted it on an error."""
    return _run(program, _Schedule(order, None))


def _run(program: Callable[[], Coroutine[Any, Any, R]], schedule: _Schedule) -> R:
    try:
        with asyncio.Runner(loop_factory=lambda: _ExploredLoop(schedule)) as runner:
            return runner.run(program())
    except BaseException as error:
        error.add_note(f"in this order: replay(program, {schedule.choices})")
        raise

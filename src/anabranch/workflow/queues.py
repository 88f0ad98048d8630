"""Limits that many runs share: how many executions may be at work, and begin in a time.

The rules only. A store keeps, for each queue, who is inside and until when that holds,
tickets of those who wait in the order in which they came, and one number for the rate. Who
wants to begin asks; the answer is that it may, or when to ask again::

    (asks) ──▶ ticket ──(asks again)──▶ inside ──(leaves, or its lease ends)──▶ gone

Nobody is overtaken: one may begin if there is room for all who came before as well. Who
does not ask again within :data:`TICKET_S` loses the ticket, so the dead hold nobody up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from anabranch.errors import WorkflowValidationError
from anabranch.jobs.limits.rate import Bucket, RateLimit

__all__ = ["Queue"]

# How soon to ask again when there is no room, times the number of those before; but who is
# in the same process as the one who leaves is told at once.
POLL_S: Final = 0.1
MOST_POLL_S: Final = 1.0
# One asks again at least so often, however long the rate lets one wait.
MOST_WAIT_S: Final = 5.0
TICKET_S: Final = 15.0
# What a clock cannot tell from now.
INSTANT_S: Final = 1e-6
MOST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Queue:
    """A limit that steps share by its name, whatever workflow and run they are in.

    Across all workers with the same store; without a store, in this process.

    ::

        LLM = Queue("llm", concurrency=10, rate=RateLimit(requests=60, per=60.0))


        class Flow(Workflow):
            @step(queue=LLM)
            async def ask(self, ev: StartEvent) -> StopEvent: ...

    Each step goes by the numbers of its own queue, so give one name the same everywhere.

    Attributes:
        name: What is shared.
        concurrency: How many executions may be at work at once; ``None`` for any number.
        rate: How many may begin in a time; ``None`` for any number.
        lease: Seconds after which the place of a process that died is free. One that lives
            renews it three times as often.

    Raises:
        WorkflowValidationError: There can be no such queue.
    """

    name: str
    concurrency: int | None = None
    rate: RateLimit | None = None
    lease: float = 30.0

    def __post_init__(self) -> None:
        given: Any = self.name
        if (
            not isinstance(given, str)
            or not 0 < len(given) <= MOST_NAME
            or not given.isprintable()
        ):
            raise WorkflowValidationError(
                f"a queue's name is a text of 1 to {MOST_NAME} printable characters, not "
                f"{given!r}"
            )
        most: Any = self.concurrency
        if most is not None and (
            isinstance(most, bool) or not isinstance(most, int) or most < 1
        ):
            raise WorkflowValidationError(
                f"queue {given!r}: concurrency must be an integer greater than 0, or None, "
                f"not {most!r}"
            )
        self._check_rate()
        lease: Any = self.lease
        if not isinstance(lease, int | float) or not 0 < lease < float("inf"):
            raise WorkflowValidationError(
                f"queue {given!r}: lease must be a number of seconds greater than 0, not "
                f"{lease!r}"
            )

    def _check_rate(self) -> None:
        rate: Any = self.rate
        if rate is None:
            if self.concurrency is None:
                raise WorkflowValidationError(
                    f"queue {self.name!r} limits nothing: give it concurrency=, rate= or "
                    "both"
                )
        elif not isinstance(rate, RateLimit) or rate.requests is None or rate.tokens:
            raise WorkflowValidationError(
                f"queue {self.name!r}: rate must count executions, as "
                f"RateLimit(requests=60, per=60.0) does, not {rate!r}: what a step costs "
                "in tokens is not known before it runs"
            )


@dataclass(frozen=True, slots=True)
class Line:
    """How a queue stands for one who asks.

    Attributes:
        now: By the clock of the store.
        inside: How many others are at work.
        ahead: How many tickets are older than one's own.
        full_at: When the rate's allowance is full again, as :func:`after` said last.
    """

    now: float
    inside: int
    ahead: int
    full_at: float


def wait_s(queue: Queue, line: Line) -> float:
    """0 if an execution may begin; else the seconds after which to ask again."""
    wait = 0.0
    if queue.concurrency is not None:
        missing = line.ahead + 1 - (queue.concurrency - line.inside)
        if missing > 0:
            wait = min(MOST_POLL_S, POLL_S * missing)
    if (bucket := _bucket(queue, line)) is not None:
        wait = max(wait, bucket.wait_s(line.now, line.ahead + 1))
    return min(MOST_WAIT_S, wait) if wait > INSTANT_S else 0.0


def after(queue: Queue, line: Line) -> float:
    """When the rate's allowance is full again, now that one begins."""
    if (bucket := _bucket(queue, line)) is None:
        return line.full_at
    bucket.take(line.now, 1)
    return bucket.full_at


def _bucket(queue: Queue, line: Line) -> Bucket | None:
    if queue.rate is None or queue.rate.requests is None:
        return None
    requests, per = queue.rate.requests, queue.rate.per
    # Further off it can only be if the clock was set back, or the rate is another now.
    latest = line.now + max(per, per / requests)
    return Bucket(requests, per, min(line.full_at, latest))

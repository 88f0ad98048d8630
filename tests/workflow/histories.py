"""Random histories of a run: what a driver could tell the machine, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from anabranch.workflow import (
    Collect,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Take,
    Workflow,
    catch_error,
    step,
)
from anabranch.workflow.engine import engine_of
from anabranch.workflow.facts import (
    Began,
    Cancelled,
    Collected,
    Command,
    Edited,
    Ended,
    Fact,
    Failed,
    Fired,
    Interrupt,
    Received,
    Remembered,
    Resumed,
    Retried,
    Returned,
    Sent,
    SetTimer,
    Start,
    Waited,
    Wake,
    Written,
)
from anabranch.workflow.machine import Machine
from anabranch.workflow.state import RunState


class Page(Event):
    n: int = 0


class Part(Event):
    n: int = 0


class Piece(Event):
    n: int = 0


class PageDone(Event):
    n: int = 0


class Ping(Event):
    n: int = 0


class Pong(Event):
    n: int = 0


class Nobodys(Event):
    n: int = 0


class Everything(Workflow):
    """Has one of each: lists in lists, joins, handlers, limits, waits."""

    @step
    async def start(self, ev: StartEvent) -> list[Page] | Ping | Pong | InputRequiredEvent:
        raise NotImplementedError

    @step(num_workers=2, timeout=5)
    async def split(self, ev: Page) -> list[Part]:
        raise NotImplementedError

    @step(num_workers=3)
    async def work(self, ev: Part) -> Piece | None:
        raise NotImplementedError

    @step(num_workers=1)
    async def gather(
        self, pieces: Annotated[list[Piece], Collect(Take(2))]
    ) -> PageDone | None:
        raise NotImplementedError

    @step
    async def finish(
        self, ctx: Context, pages: list[PageDone]
    ) -> StopEvent | list[Page] | Ping | Pong:
        raise NotImplementedError

    @step(num_workers=1)
    async def meet(self, one: Ping, other: Pong) -> Ping | Pong | None:
        raise NotImplementedError

    @step
    async def told(self, ev: HumanResponseEvent) -> Ping | Pong | StopEvent:
        raise NotImplementedError

    @catch_error(for_steps=["work", "split"], max_recoveries=2)
    async def recover(self, ev: StepFailedEvent) -> Piece | PageDone | None:
        raise NotImplementedError


PLAN = engine_of(Everything()).plan
CODEC = engine_of(Everything()).codec

Draw = Callable[[int], int]
"""A number from 0 up to, and without, its argument."""


class History:
    """A run that a random driver drives, with all that it told the machine."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.facts: list[Fact] = []
        self.written: list[dict[str, Any]] = []  # the state after each fact
        self.commands: list[list[Command]] = []
        self.machine = Machine(PLAN, RunState("r"))
        self.machine.watched = True
        self.now = 1000.0
        self.bodies: dict[int, int] = {}  # executions at work, and their attempt
        self.timers: list[tuple[Any, ...]] = []
        self.tell(Began(self.now, StartEvent(topic="x"), 100.0))

    def tell(self, fact: Fact) -> None:
        self.now += self.draw(3)
        fact.at = self.now
        self.facts.append(fact)
        # As it is read back, so that nothing is shared with the record of it.
        commands = self.machine.apply(CODEC.read_fact(CODEC.write_fact(fact)))
        self.commands.append(commands)
        self.written.append(CODEC.write(self.machine.state))
        for command in commands:
            match command:
                case Start(execution) | Wake(execution, _):
                    self.bodies[execution.id] = execution.attempt
                case SetTimer(key, _):
                    self.timers.append(key)
                case Interrupt(execution):
                    self.tell(
                        Failed(
                            0, execution.id, execution.attempt, TimeoutError("slow"), None
                        )
                    )
                    return
                case Ended():
                    self.bodies.clear()
                case _:
                    pass

    def go_on(self, facts: int) -> None:
        """Let up to so many things happen."""
        for _ in range(facts):
            outcome = self.machine.state.outcome
            if outcome is None:
                self.happen()
            elif outcome.end == "completed" or self.draw(3):
                break
            else:
                self.tell(Retried(0))
                self._resume(away_s=5.0)

    def happen(self) -> None:
        draw = self.draw
        number = self._body()
        what = draw(20)
        if number is None or what >= 17:
            self._outside(draw(8))
            return
        attempt = self.bodies[number]
        if what < 11:
            del self.bodies[number]
            self._return(number, attempt)
        elif what < 13:
            del self.bodies[number]
            retry_s = [None, 0.0, 2.0][draw(3)]
            self.tell(Failed(0, number, attempt, ValueError("bad"), retry_s))
        elif what < 14:
            kind: type[Event] = HumanResponseEvent if draw(2) else Ping
            key = f"w#{draw(3)}"
            execution = self.machine.state.executions[number]
            if not (execution.answers and key in execution.answers):
                asks = InputRequiredEvent() if draw(2) else None
                needs = {"n": 1} if draw(2) else {}
                self.tell(Waited(0, number, key, kind, needs, [None, 4.0][draw(2)], asks))
        elif what < 15:
            self._leave_a_trace(number)
        else:
            some: list[type[Event]] = [Ping, Pong][: 1 + draw(2)]
            event = some[draw(len(some))](n=number)
            self.tell(Collected(0, number, f"b{draw(2)}", event, some * (1 + draw(2))))

    def _leave_a_trace(self, number: int) -> None:
        draw = self.draw
        event = [Ping, Pong, Part, Nobodys][draw(4)](n=draw(2))
        match draw(5):
            case 0:
                self.tell(Written(0, event, number))
            case 1:
                self.tell(Edited(0, "", {"n": draw(9)}, number))
            case 2:
                self.tell(Remembered(0, number, f"k{draw(2)}", draw(9), {"x": draw(3)}))
            case _:
                self.tell(Sent(0, event, None, number, bool(draw(2))))

    def _body(self) -> int | None:
        """An execution that is at work, and not waiting."""
        executions = self.machine.state.executions
        ready = [
            number
            for number, attempt in self.bodies.items()
            if number in executions
            and executions[number].attempt == attempt
            and executions[number].status == "running"
        ]
        return ready[self.draw(len(ready))] if ready else None

    def _return(self, number: int, attempt: int) -> None:
        draw = self.draw
        step_plan = PLAN.steps[self.machine.state.executions[number].step]
        listed, single = step_plan.fans_out, step_plan.returns
        if listed and (not single or draw(2)):
            events = [listed[draw(len(listed))](n=draw(9)) for _ in range(draw(4))]
            self.tell(Returned(0, number, attempt, events, fans_out=True))
        elif single and draw(6):
            kind = single[draw(len(single))]
            event = kind(n=draw(2)) if kind is not StopEvent else StopEvent(result=number)
            self.tell(Returned(0, number, attempt, [event]))
        else:
            self.tell(Returned(0, number, attempt, []))

    def _outside(self, what: int) -> None:
        draw = self.draw
        if what < 3 and self.timers:
            key = self.timers.pop(draw(len(self.timers)))
            if key != ("run",) or draw(4) == 0:
                self.tell(Fired(0, key))
        elif what < 6:
            kinds: list[type[Event]] = [HumanResponseEvent, Ping, Pong, Nobodys]
            kind = kinds[draw(4)]
            target = [None, None, "meet"][draw(3)]
            if draw(2):
                self.tell(Sent(0, kind(n=draw(2)), target, None))
            else:
                self.tell(Received(0, kind(n=draw(2)), target))
        elif what == 6:
            self.tell(Edited(0, "", {"n": draw(9)}))
        elif draw(10) == 0:
            self.tell(Cancelled(0))
        elif draw(3) == 0:
            self._resume(away_s=float(draw(50)))

    def _resume(self, away_s: float) -> None:
        """The process is gone; another one takes the run up."""
        self.bodies.clear()
        self.timers.clear()
        self.now += away_s
        self.tell(Resumed(0, away_s, stood_still=bool(self.draw(2))))

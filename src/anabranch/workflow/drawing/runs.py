"""The drawing of what a run did: groups of executions, and the events between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from anabranch.workflow.drawing.graph import Draft, EdgeKind, Graph, Kind, Node, Tone
from anabranch.workflow.drawing.record import (
    EARLIER,
    OUTSIDE,
    Attempt,
    Execution,
    Folding,
    Group,
    RunRecord,
    Status,
    StepFacts,
    executions,
    groups,
)
from anabranch.workflow.drawing.text import (
    counted,
    number,
    one_line,
    quartiles,
    seconds,
    shortened,
)

_MOST_TOLD: Final = 5  # executions of a group that are told of one by one
_ERROR_LENGTH: Final = 200
_UNDER_WAY: Final[tuple[Status, ...]] = ("running", "waiting", "queued", "retrying")
_UNKNOWN: Final = StepFacts("each", recovers=False, fans_out=frozenset())
_STATES: Final[tuple[Status, ...]] = (
    "running",
    "waiting",
    "queued",
    "retrying",
    "failed",
    "recovered",
    "cut off",
)


def run_graph(record: RunRecord) -> Graph:
    """The graph of a run."""
    found, folding = groups(executions(record))
    return _Sketch(record, found).graph(folding)


def summary(record: RunRecord) -> list[tuple[str, str]]:
    """What a person wants to know of a run first, as pairs of a name and a text."""
    everything = executions(record)
    states = Counter(execution.status for execution in everything)
    retries = sum(execution.retries for execution in everything)
    pairs = [("outcome", record.end or "under way")]
    if record.began_at is not None:
        pairs.append(("time", seconds(record.now - record.began_at)))
    pairs.append(("executions", number(len(everything))))
    if retries:
        pairs.append(("retries", number(retries)))
    pairs += [(state, number(states[state])) for state in _STATES if states[state]]
    if record.error:
        pairs.append(("error", shortened(one_line(record.error), _ERROR_LENGTH)))
    return pairs


def remarks(record: RunRecord, folding: Folding) -> Iterator[str]:
    """What the drawing leaves out or puts together."""
    if record.is_cut:
        many = counted(len(record.attempts), "attempt", "attempts")
        yield f"Some of this run is no longer remembered: the last {many} are drawn."
    if folding == "loops":
        yield "All turns of a loop are drawn as one, because there are so many."
    elif folding == "steps":
        yield "All executions of a step are drawn as one, because there are so many."


class _Sketch:
    """A graph of a run in the making."""

    def __init__(self, record: RunRecord, found: Sequence[Group]) -> None:
        self._record = record
        self._groups = found
        self._draft = Draft(record.workflow)
        self._home = {e.id: group.number for group in found for e in group.executions}
        # By group and event: how many of its executions gave one, and how many took one.
        self._given: Counter[tuple[int, str]] = Counter()
        self._taken: Counter[tuple[int, str, int]] = Counter()

    def graph(self, folding: Folding) -> Graph:
        for group in self._groups:
            for execution in group.executions:
                for name in execution.outputs:
                    self._given[group.number, name] += 1
                for name in execution.inputs:
                    for source in self._sources(group, execution, name):
                        self._taken[source, name, group.number] += 1
        for group in self._groups:
            recovers = self._facts(group.step).recovers
            self._draft.add(_node(self._id(group.number), group, recovers))
        for source, name, target in self._taken:
            self._join(source, name, target)
        for source, name in self._given:
            self._draft.join(
                self._id(source), self._event(source, name), self._list(source, name)
            )
        self._join_answers()
        self._join_empty()
        return self._draft.graph(tuple(remarks(self._record, folding)))

    def _id(self, source: int) -> str:
        return "earlier" if source < 0 else f"step_{source}_{self._groups[source].step}"

    def _facts(self, step: str) -> StepFacts:
        return self._record.steps.get(step, _UNKNOWN)

    def _list(self, source: int, name: str) -> str:
        if source < 0:
            return ""
        return "list" if name in self._facts(self._groups[source].step).fans_out else ""

    def _sources(self, group: Group, execution: Execution, name: str) -> list[int]:
        """The groups from which an execution had its event of this type."""
        cause = self._home.get(execution.cause, EARLIER) if execution.cause else OUTSIDE
        trigger = self._facts(group.step).trigger
        if trigger == "each" or cause == OUTSIDE:
            return [cause]
        if trigger == "join":
            if self._gave(cause, name):
                return [cause]
            before = (g.number for g in self._groups if self._gave(g.number, name))
            return list(before)[-1:] or [cause]
        # What a list led to has come together.
        inside = {cause}
        for other in self._groups:
            if other is not group and inside.intersection(other.causes):
                inside.add(other.number)
        return [n for n in sorted(inside) if self._gave(n, name)] or [cause]

    def _gave(self, number_of_group: int, name: str) -> bool:
        return number_of_group >= 0 and any(
            name in execution.outputs
            for execution in self._groups[number_of_group].executions
        )

    def _join(self, source: int, name: str, target: int) -> None:
        event = self._event(source, name)
        kind: EdgeKind = "failure" if self._kind(name) == "failure" else "flow"
        trigger = self._facts(self._groups[target].step).trigger
        label = {"each": "", "join": "join", "collect": "collect"}[trigger]
        if source != OUTSIDE:
            self._draft.join(self._id(source), event, self._list(source, name), kind)
        if source == EARLIER:
            self._draft.add(
                Node(id=self._id(EARLIER), kind="earlier", label="earlier, not remembered")
            )
        self._draft.join(event, self._id(target), label, kind)

    def _event(self, source: int, name: str) -> str:
        takers = [
            count
            for (giver, event, _), count in self._taken.items()
            if (giver, event) == (source, name)
        ]
        many = max([self._given[source, name], *takers], default=0)
        return self._draft.add(
            Node(
                id=f"event_{source}_{name}".replace("-", "m"),
                kind=self._kind(name),
                label=f"{name} × {number(many)}" if many > 1 else name,
            )
        )

    def _kind(self, name: str) -> Kind:
        if name == "StepFailedEvent":
            return "failure"
        return self._record.kinds.get(name, "event")

    def _join_answers(self) -> None:
        """What was asked, to what came from outside."""
        asks = [(source, name) for source, name in self._given if self._kind(name) == "ask"]
        answers = {
            (source, name)
            for source, name, _ in self._taken
            if source == OUTSIDE and self._kind(name) == "answer"
        }
        for ask in asks:
            for answer in sorted(answers):
                self._draft.join(self._event(*ask), self._event(*answer), kind="person")

    def _join_empty(self) -> None:
        """A step that collected nothing was called all the same."""
        for group in self._groups:
            if any(target == group.number for _, _, target in self._taken):
                continue
            for cause in group.causes:
                if cause >= 0:
                    self._draft.join(
                        self._id(cause), self._id(group.number), "collect: nothing"
                    )


# ---------------------------------------------------------------------- a node


def _node(name: str, group: Group, recovers: bool) -> Node:
    states = Counter[Status](execution.status for execution in group.executions)
    retries = sum(execution.retries for execution in group.executions)
    return Node(
        id=name,
        kind="handler" if recovers else "step",
        label=group.step,
        notes=tuple(_notes(group, states, retries)),
        details=tuple(_details(group, states, retries)),
        tone=_tone(states, retries),
    )


def _notes(group: Group, states: Counter[Status], retries: int) -> Iterator[str]:
    many = len(group.executions)
    if many > 1:
        yield f"× {number(many)}"
    times = _times(group)
    if len(times) == 1:
        yield seconds(times[0])
    elif times:
        least, middle, most = map(seconds, quartiles(times))
        if least == most:
            yield f"{most} each"
        else:
            yield f"min {least} · median {middle} · max {most}"
    said = [_state(state, states[state], many > 1) for state in _STATES if states[state]]
    if retries:
        said.insert(0, counted(retries, "retry", "retries"))
    for start in range(0, len(said), 3):
        yield " · ".join(said[start : start + 3])
    error = _last_error(group.executions[0])
    if many == 1 and error and not states["cut off"]:
        yield shortened(one_line(error), 48)


def _state(state: str, count: int, counts: bool) -> str:
    return f"{number(count)} {state}" if counts else state


def _tone(states: Counter[Status], retries: int) -> Tone:
    if states["failed"]:
        return "bad"
    if states["recovered"] or states["cut off"]:
        return "warned"
    if any(states[state] for state in _UNDER_WAY):
        return "busy"
    return "warned" if retries else "good"


def _times(group: Group) -> list[float]:
    return [a.ended_at - a.began_at for e in group.executions for a in e.attempts]


def _last_error(execution: Execution) -> str | None:
    return execution.attempts[-1].error if execution.attempts else None


def _details(
    group: Group, states: Counter[Status], retries: int
) -> Iterator[tuple[str, str]]:
    many = group.executions
    yield "executions", number(len(many))
    yield "states", ", ".join(f"{number(n)} {state}" for state, n in states.items())
    if retries:
        yield "retries", number(retries)
    times = _times(group)
    if times:
        least, middle, most = map(seconds, quartiles(times))
        yield "an attempt took", f"{least} at least, {middle} median, {most} at most"
        yield "together", seconds(sum(times))
    if len(times) > 1:
        longest = sorted(
            (a for e in many for a in e.attempts),
            key=lambda a: (a.began_at - a.ended_at, a.execution),
        )
        yield "the longest", _listed([_attempt(a) for a in longest], len(longest))
    errors = [
        f"{_attempt(a)}: {shortened(one_line(a.error), _ERROR_LENGTH)}"
        for e in many
        for a in e.attempts
        if a.error is not None and not a.is_cut_off
    ]
    if errors:
        yield "errors", _listed(errors, len(errors))


def _listed(said: Sequence[str], all_of_them: int) -> str:
    more = all_of_them - _MOST_TOLD
    tail = [f"and {number(more)} more"] if more > 0 else []
    return "\n".join([*said[:_MOST_TOLD], *tail])


def _attempt(attempt: Attempt) -> str:
    again = f", attempt {attempt.number}" if attempt.number > 1 else ""
    return f"#{attempt.execution}{again} ({seconds(attempt.ended_at - attempt.began_at)})"

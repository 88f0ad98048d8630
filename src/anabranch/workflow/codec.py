"""A run's state, and the facts of its journal, as plain data and back.

Plain data is what ``json`` can write. It has a version; an older one is brought up to date
step by step, and one that cannot be is refused with a sentence.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, cast

from pydantic_core import PydanticSerializationError, to_json

from anabranch.errors import ContextSerdeError
from anabranch.workflow.context.serializers import (
    KIND,
    PLAIN,
    BaseSerializer,
    JsonSerializer,
)
from anabranch.workflow.facts import (
    Adopted,
    Began,
    Cancelled,
    Collected,
    Edited,
    Fact,
    Failed,
    Fired,
    Received,
    Remembered,
    Resumed,
    Retried,
    Returned,
    Sent,
    Waited,
    Written,
)
from anabranch.workflow.integrity import check
from anabranch.workflow.plan import Plan
from anabranch.workflow.state import (
    Execution,
    Lane,
    Outcome,
    RunState,
    Scope,
    Wait,
)

VERSION: Final = 1

# From each older version to the next one.
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

_FACTS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        Began, Resumed, Adopted, Retried, Returned, Failed, Sent, Received, Written,
        Remembered, Collected, Waited, Edited, Fired, Cancelled,
    )
}  # fmt: skip


def loads(written: bytes | str) -> Any:
    """Plain data from its JSON."""
    try:
        return json.loads(written)
    except ValueError:
        # Python refuses to read integers of thousands of digits, which it can write.
        return json.loads(written, parse_int=_integer)


def _integer(digits: str) -> int:
    number, size = 0, 4000
    sign, digits = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
    for begin in range(0, len(digits), size):
        part = digits[begin : begin + size]
        number = number * 10 ** len(part) + int(part)
    return sign * number


def dumps(plain: Any) -> bytes:
    """Plain data as JSON, as ``json.loads`` reads it back."""
    try:
        # Five times as fast as the standard library's, which takes what this does not.
        return to_json(plain, inf_nan_mode="constants")
    except PydanticSerializationError:
        return json.dumps(plain).encode()


# The parts of facts that hold what users made; the others are ours, and always JSON.
_USERS: Final = frozenset(
    ("asks", "error", "event", "events", "requirements", "store", "value")
)
_PARTS: Final[Mapping[type[Any], tuple[str, ...]]] = {
    kind: tuple(field.name for field in fields(kind)) for kind in _FACTS.values()
}


class Codec:
    """Writes and reads, with a serializer for what users put into events and state.

    Attributes:
        frame: Writes what is not users' own, as JSON whatever the serializer.
    """

    def __init__(self, serializer: BaseSerializer) -> None:
        self._serializer = serializer
        # For classes of events, and for what was written without knowing the workflow.
        self.frame = (
            serializer if isinstance(serializer, JsonSerializer) else JsonSerializer()
        )

    def to_plain(self, value: Any) -> Any:
        """A user's value as plain data."""
        if isinstance(self._serializer, JsonSerializer):
            return self._serializer.to_plain(value)
        return {KIND: "text", "v": self._serializer.serialize(value)}

    def from_plain(self, plain: Any) -> Any:
        """A user's value."""
        if isinstance(self._serializer, JsonSerializer):
            return self._serializer.from_plain(plain)
        if not isinstance(plain, dict) or cast("Any", plain).get(KIND) != "text":
            raise ContextSerdeError(
                "a payload was not written with this serializer: read it with the one that "
                "wrote it"
            )
        return self._serializer.deserialize(cast("Any", plain)["v"])

    # -------------------------------------------------------------------- state

    def write(self, state: RunState) -> dict[str, Any]:
        """The whole state of a run, but for the state that steps share."""
        return {
            "run_id": state.run_id,
            "now": state.now,
            "began_at": state.began_at,
            "deadline": state.deadline,
            "timeout": state.timeout,
            "last_id": state.last_id,
            "lanes": {
                name: [list(lane.queue or ()), [list(item) for item in lane.woken or ()]]
                for name, lane in state.lanes.items()
                if lane.queue or lane.woken
            },
            "executions": [self._record(e) for e in state.executions.values()],
            "scopes": {str(n): self._record(scope) for n, scope in state.scopes.items()},
            "waits": [
                self._record(wait)
                for waits in state.waits.values()
                for wait in waits.values()
            ],
            "buffers": [
                [
                    step,
                    buffer,
                    self.to_plain([list(held) for held in kinds.values() if held]),
                ]
                for (step, buffer), kinds in state.buffers.items()
                if any(kinds.values())
            ],
            "joins": [
                [step, scope, self.to_plain([list(slot) for slot in slots])]
                for (step, scope), slots in state.joins.items()
            ],
            "mail": self.to_plain(state.mail),
            "outcome": None if state.outcome is None else self._record(state.outcome),
        }

    def read(self, data: Mapping[str, Any], plan: Plan) -> RunState:
        """The state of a run of this plan.

        Raises:
            ContextSerdeError: The data is damaged, or is of a workflow with other steps.
        """
        try:
            state = self._read(data, plan)
            check(state, plan)
            return state
        except ContextSerdeError:
            raise
        except (
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:
            raise ContextSerdeError(
                f"a payload does not hold a run that can be read: {error!r}"
            ) from error

    def _read(self, data: Mapping[str, Any], plan: Plan) -> RunState:
        state = RunState(
            run_id=data["run_id"],
            now=data["now"],
            began_at=data["began_at"],
            deadline=data["deadline"],
            timeout=data["timeout"],
            last_id=data["last_id"],
        )
        for held in data["executions"]:
            execution = self._load(Execution, held)
            state.executions[execution.id] = execution
        for number, held in data["scopes"].items():
            scope = self._load(Scope, held)
            scope.released = set(scope.released)
            state.scopes[int(number)] = scope
        named = {e.step for e in state.executions.values()}
        named |= {scope.step for scope in state.scopes.values()}
        if missing := sorted(named - plan.steps.keys()):
            raise ContextSerdeError(
                f"the run is in steps that workflow {plan.workflow} does not have: "
                f"{', '.join(missing)}; go on with the workflow that wrote it"
            )
        for held in data["waits"]:
            wait = self._load(Wait, held)
            state.waits.setdefault(wait.kind, {})[wait.execution, wait.key] = wait
        for step, buffer, plain in data["buffers"]:
            kinds = [deque(events) for events in self.from_plain(plain) if events]
            state.buffers[step, buffer] = {type(events[0]): events for events in kinds}
        for step, scope, plain in data["joins"]:
            state.joins[step, scope] = [deque(slot) for slot in self.from_plain(plain)]
        for name in plan.steps:
            queue, woken = data["lanes"].get(name, ((), ()))
            running = sum(
                e.step == name and e.status == "running" for e in state.executions.values()
            )
            lane = Lane(running, deque(queue), deque((n, key) for n, key in woken))
            state.lanes[name] = lane
        if data["outcome"] is None:
            state.active = sum(e.status != "waiting" for e in state.executions.values())
        state.idle = state.active == 0
        state.mail = self.from_plain(data["mail"])
        if data["outcome"] is not None:
            state.outcome = self._load(Outcome, data["outcome"])
        return state

    def _record(self, record: Any) -> dict[str, Any]:
        """A record without what is as it was made."""
        plain = {
            field.name: self.to_plain(value)
            for field in fields(record)
            if (value := getattr(record, field.name)) is not None
        }
        return {name: value for name, value in plain.items() if value not in ([], {})}

    def _load(self, kind: type[Any], held: Mapping[str, Any]) -> Any:
        values = {name: self.from_plain(plain) for name, plain in held.items()}
        for name in _DEFAULTS.get(kind, {}):
            values.setdefault(name, _DEFAULTS[kind][name]())
        return kind(**values)

    # -------------------------------------------------------------------- facts

    def write_fact(self, fact: Fact) -> list[Any]:
        """A fact: its kind, and its fields in their order."""
        to_plain, frame = self.to_plain, self.frame.to_plain
        plain: list[Any] = [type(fact).__name__]
        for name in _PARTS[type(fact)]:
            value = getattr(fact, name)
            if name in _USERS:
                plain.append(to_plain(value))
            else:
                plain.append(value if type(value) in PLAIN else frame(value))
        return plain

    def read_fact(self, plain: list[Any]) -> Fact:
        """A fact.

        Raises:
            ContextSerdeError: It is of a kind that is not known here.
        """
        name, *held = plain
        kind = _FACTS.get(name)
        if kind is None or len(held) != len(_PARTS[kind]):
            raise ContextSerdeError(
                f"a journal holds a {name!r} that is not known here: it was written by "
                "another version"
            )
        values = [
            self.from_plain(plain) if part in _USERS else self.frame.from_plain(plain)
            for part, plain in zip(_PARTS[kind], held, strict=True)
        ]
        fact: Fact = kind(*values)
        return fact


_DEFAULTS: Final[Mapping[type[Any], Mapping[str, Callable[[], Any]]]] = {
    Execution: {"events": list, "recoveries": dict},
    Scope: {"recoveries": dict},
    Wait: {"requirements": dict, "deadline": lambda: None},
}


def up_to_date(data: Mapping[str, Any]) -> dict[str, Any]:
    """A payload of the present version.

    Raises:
        ContextSerdeError: It is of a version that cannot be read, or is no payload.
    """
    version = data.get("version")
    if "machine" not in data or not isinstance(version, int):
        whose = (
            "it was written by another library" if "workers" in data else "it is damaged"
        )
        raise ContextSerdeError(
            f"this is no payload of Context.to_dict ({whose}): let the program that wrote "
            "it finish its runs, or start them anew"
        )
    current = dict(data)
    while version < VERSION:
        migrate = MIGRATIONS.get(version)
        if migrate is None:
            raise ContextSerdeError(
                f"the payload has format {data['version']}, which is too old: this version "
                f"reads format {VERSION}; finish the run with the version that wrote it"
            )
        current = migrate(current)
        version += 1
    if version > VERSION:
        raise ContextSerdeError(
            f"the payload has format {version}, and this version reads {VERSION}: a newer "
            "anabranch wrote it; upgrade to that one"
        )
    return current

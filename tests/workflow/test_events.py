"""Events: declared fields, free attributes, and both as data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import Field, PrivateAttr, ValidationError

from anabranch.workflow import Event, StartEvent, StopEvent
from anabranch.workflow.events import StepState


class Scored(Event):
    score: int = Field(ge=0)


class Private(Event):
    name: str
    _secret: int = PrivateAttr(default=1)


class Computed(StopEvent):
    def _get_result(self) -> Any:
        return 6 * 7


def test_declared_fields_are_validated_and_others_are_free() -> None:
    event = Scored(score="3", note="free")  # type: ignore[arg-type, call-arg]
    assert (event.score, event.note) == (3, "free")
    with pytest.raises(ValidationError):
        Scored(score=-1)
    with pytest.raises(AttributeError, match="nothing"):
        _ = event.nothing
    event.later = [1]
    assert event["later"] == [1]


def test_free_attributes_are_a_dictionary() -> None:
    event = Event(a=1)
    event["b"] = 2
    assert (event["a"], event.b, event.get("c"), event.get("c", 3)) == (1, 2, None, 3)
    assert "a" in event
    assert "c" not in event
    assert len(event) == 2
    assert list(event) == list(event.keys()) == ["a", "b"]
    assert list(event.values()) == [1, 2]
    assert dict(event.items()) == event.to_dict() == dict(event) == {"a": 1, "b": 2}
    del event["a"]
    assert event.to_dict() == {"b": 2}
    with pytest.raises(KeyError):
        _ = event["a"]
    assert Event()
    assert len(Scored(score=1)) == 0


def test_data_has_both_and_makes_an_equal_event() -> None:
    event = Scored(score=1, tags=["x"])  # type: ignore[call-arg]
    assert event.model_dump() == {"score": 1, "tags": ["x"]}
    assert json.loads(event.model_dump_json()) == event.model_dump()
    assert Scored(**event.model_dump()) == event
    assert Scored.model_validate(event.model_dump()) == event
    assert event != Scored(score=1)


def test_private_attributes_may_be_given() -> None:
    event = Private(name="n", _secret=5, free=1)  # type: ignore[call-arg]
    assert (event.name, event._secret, event.free) == ("n", 5, 1)
    assert Private(name="n")._secret == 1
    assert event.model_dump() == {"name": "n", "free": 1}


def test_a_stop_event_carries_a_result() -> None:
    assert StopEvent("x").result == StopEvent(result="x").result == "x"
    assert StopEvent().result is None
    assert StopEvent(result=1, note=2).model_dump() == {"note": 2, "result": 1}
    assert StopEvent().model_dump() == {}
    assert repr(StopEvent(result="x")) == "StopEvent(result='x')"
    assert str(StopEvent(result="x")) == "x"
    assert StopEvent.model_validate({"result": [1]}).result == [1]
    assert Computed().result == 42
    assert StopEvent(result=1) != StopEvent(result=2)


def test_events_of_other_classes_are_not_equal() -> None:
    assert StartEvent() != Event()
    assert StepState.RUNNING.value == "running"

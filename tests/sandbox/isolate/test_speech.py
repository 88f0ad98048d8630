"""What parent and child say to each other, without either."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.errors import ValueRefused
from anabranch.sandbox import wire
from anabranch.sandbox.isolate import speech
from anabranch.sandbox.isolate.runner import Runner


def heard(data: bytes) -> wire.Frame:
    (frame,) = wire.Frames(2**20).feed(data)
    return frame


@pytest.mark.parametrize("value", [None, {"a": [1, 2.5]}, b"x" * 1000, {1: {2, 3}}])
def test_what_is_said_is_heard(value: Any) -> None:
    said = speech.say({"is": "x"}, [b"one", b""], wire.encode(value, max_bytes=2**20))
    frame = heard(speech.framed(said, apart=False))
    assert speech.facts_of(frame) == {"is": "x"}
    assert not speech.lies_apart(frame)
    message = speech.Heard({}, tuple(part for part in frame.buffers if part is not None))
    assert [bytes(part) for part in message.buffers[:2]] == [b"one", b""]
    assert message.value(after=2, max_bytes=2**20) == value


def test_of_a_message_that_lies_apart_the_sizes_are_said() -> None:
    said = speech.say({}, [b"x" * speech.INLINE_BYTES, b"y"])
    assert speech.is_large(said)
    frame = heard(speech.framed(said, apart=True))
    assert speech.lies_apart(frame)
    assert frame.sizes == (speech.INLINE_BYTES, 1)


def test_a_message_without_buffers_is_never_apart() -> None:
    assert not speech.is_large(speech.say({"text": "x" * 2 * speech.INLINE_BYTES}))


@pytest.mark.parametrize("header", [b"", b"[]", b"1", b"\xff", b"{", b"[" * 100_000])
def test_facts_that_are_none_are_a_forgery(header: Any) -> None:
    with pytest.raises(speech.Forged):
        speech.facts_of(heard(b"".join(wire.pack(0, wire.Message(header)))))


def test_another_kind_of_frame_is_a_forgery() -> None:
    with pytest.raises(speech.Forged):
        speech.facts_of(heard(b"".join(wire.pack(1, wire.Message(b"{}")))))


def test_a_value_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueRefused):
        speech.Heard({}, (b"a",)).value(after=2, max_bytes=100)


def test_a_runner_leaves_the_streams_and_the_main_module_as_they_were() -> None:
    import sys

    before = sys.stdout, sys.stderr, sys.stdin, sys.modules["__main__"]
    ran = Runner().run("import sys\nsys.stdout = None\nprint('x')\n5", {}, output_bytes=10)
    assert ran.value == 5
    assert (sys.stdout, sys.stderr, sys.stdin, sys.modules["__main__"]) == before

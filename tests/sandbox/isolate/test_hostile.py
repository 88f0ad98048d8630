"""Children that die, stall, flood, forge and lie: a clear error each time, and life goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from anabranch.errors import IsolateDied, LimitExceeded, TimeLimitExceeded, ValueRefused
from anabranch.sandbox.isolate import speech
from anabranch.sandbox.isolate.peer import FACTS_BYTES, Forging, Peer
from anabranch.sandbox.limits import Limits
from tests.sandbox.isolate.lab import (
    MEDDLER,
    QUICK,
    Lab,
    busy,
    descendants,
    descriptors,
    frame,
    kill,
    opened,
    peers,
    until,
    zygote,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

DONE = {"is": "done", "error": None, "cpu_s": 0.0, "memory_bytes": 0}


@pytest.fixture(scope="module")
def one() -> Iterator[Lab]:
    with opened() as lab:
        yield lab


@pytest.fixture
def lab(one: Lab) -> Iterator[Lab]:
    """Whatever a test does to its child, nothing is left of it."""
    one.run("1")
    before = descriptors()
    yield one
    assert one.run("40 + 2").unwrap() == 42
    assert descriptors() <= before + 4  # two more children may be ready now


def send(
    lab: Lab,
    *frames: Any,
    then: Any = "time.sleep(60)",
    limits: Any = QUICK,
    **options: Any,
) -> Any:
    """Has the code send this through its own socket, and then do something else."""
    source = MEDDLER + "for data in frames:\n    while data:\n"
    source += "        data = data[os.write(wire, data):]\n" + then
    return lab.run(source, {"frames": list(frames)}, limits=limits, **options)


# ------------------------------------------------------------------ killed at every stage


def test_killed_before_a_request(lab: Lab) -> None:
    async def story() -> Any:
        killed = peers(lab.sandbox)
        for peer in killed:
            kill(peer)
        await until(lambda: all(peer.ended for peer in killed))
        return (await lab.sandbox.run("1")).value

    assert lab.do(story()) == 1


def test_killed_while_a_request_is_on_its_way(lab: Lab) -> None:
    async def story() -> Any:
        killed = peers(lab.sandbox)
        for peer in killed:
            kill(peer)
        try:
            return (await lab.sandbox.run("1")).value
        except IsolateDied:
            return 1  # the signal was sent, and had not arrived when it was given
        finally:
            await until(lambda: all(peer.ended for peer in killed))

    assert lab.do(story()) == 1


@pytest.mark.parametrize("source", ["while True: pass", "import time\ntime.sleep(60)"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_killed_while_the_code_runs(lab: Lab, source: Any, number: Any) -> None:
    async def story() -> Any:
        def now() -> None:
            for peer in busy(lab.sandbox):
                kill(peer, number)

        return await lab.sandbox.run(f"now()\n{source}", expose={"now": now})

    with pytest.raises(IsolateDied, match=signal.Signals(number).name):
        lab.do(story())


def test_killed_while_it_calls_a_function_which_is_cancelled(lab: Lab) -> None:
    cancelled = []

    async def forever() -> None:
        for peer in busy(lab.sandbox):
            kill(peer)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    with pytest.raises(IsolateDied, match="SIGKILL"):
        lab.run("forever()", expose={"forever": forever})
    assert cancelled == [True]


def test_killed_while_it_waits_for_an_answer(lab: Lab) -> None:
    async def answer() -> Any:
        for peer in busy(lab.sandbox):
            kill(peer)
        return 1

    with pytest.raises(IsolateDied):
        lab.run("answer()\nwhile True: pass", expose={"answer": answer})


def test_killed_while_it_writes_its_answer(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_room = Peer._make_room

    async def and_kill(peer: Any, size: Any) -> None:
        kill(peer)  # it waits for this memory
        await make_room(peer, size)

    monkeypatch.setattr(Peer, "_make_room", and_kill)
    with pytest.raises(IsolateDied, match="SIGKILL"):
        lab.run("b'a' * 1_000_000")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_dead_in_the_middle_of_an_answer(lab: Lab, share: Any) -> None:
    whole = frame(DONE, (b"", b"", b"p1" * 50))
    with pytest.raises(IsolateDied, match="exit status 3"):
        send(lab, whole[: int(len(whole) * share)], then="os._exit(3)")


@pytest.mark.parametrize(
    ("source", "how"),
    [
        ("import os\nos._exit(0)", "exit status 0"),
        ("import os\nos.abort()", "SIGABRT|SIGSEGV"),
        ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
        ("import os\nos.closerange(0, 64)", "SIGKILL|exit status"),
        (MEDDLER + "os.close(wire)\ntime.sleep(60)", "SIGKILL"),
        (
            MEDDLER
            + "import socket\nsocket.socket(fileno=wire).shutdown(2)\ntime.sleep(60)",
            "SIGKILL",
        ),
    ],
)
def test_a_process_that_ends_itself_is_an_error_that_says_how(
    lab: Lab, source: Any, how: Any
) -> None:
    with pytest.raises(IsolateDied, match=how):
        lab.run(source, limits=QUICK)


def test_the_zygote_is_replaced_when_it_dies(lab: Lab) -> None:
    async def story() -> None:
        first = zygote(lab.sandbox)
        run = asyncio.create_task(
            lab.sandbox.run(
                "now()\nwhile True: pass",
                expose={"now": lambda: os.kill(first, signal.SIGKILL)},
            )
        )
        with pytest.raises(IsolateDied):
            await run
        assert (await lab.sandbox.run("1")).value == 1
        assert zygote(lab.sandbox) != first

    lab.do(story())


def test_the_zygote_is_replaced_when_it_dies_idle(lab: Lab) -> None:
    async def story() -> None:
        first = zygote(lab.sandbox)
        os.kill(first, signal.SIGKILL)
        runs = (lab.sandbox.run("1") for _ in range(5))
        results: list[Any] = await asyncio.gather(*runs, return_exceptions=True)
        # Those that had a child in that moment may find it dead.
        assert all(isinstance(r, IsolateDied) or r.value == 1 for r in results)
        assert (await lab.sandbox.run("1")).value == 1
        assert not descendants(first)

    lab.do(story())


# ------------------------------------------------------------------ stalls


def test_a_stopped_child_is_ended_by_the_time_limit(lab: Lab) -> None:
    def stop() -> None:
        for peer in busy(lab.sandbox):
            kill(peer, signal.SIGSTOP)

    with pytest.raises(TimeLimitExceeded):
        lab.run("stop()", expose={"stop": stop}, limits=Limits(wall_s=0.3))


def test_a_child_that_does_not_read_is_ended_by_the_time_limit(lab: Lab) -> None:
    call = frame({"is": "call", "name": "f"}, (b"t[[],{}]",))
    with pytest.raises((TimeLimitExceeded, IsolateDied)):
        send(lab, call, limits=Limits(wall_s=0.5), expose={"f": lambda: "x" * 250_000})


def test_the_end_of_the_zygote_reaches_who_waits_to_send(lab: Lab) -> None:
    answer = "x" * 250_000
    call = frame({"is": "call", "name": "f"}, (b"p[[],{}]",))
    pid = zygote(lab.sandbox)

    async def fills() -> str:
        # A second answer finds no room: nobody reads the first.
        asyncio.get_running_loop().call_later(0.2, os.kill, pid, signal.SIGKILL)
        return answer

    with pytest.raises(IsolateDied):
        send(lab, call, expose={"f": fills})


def test_half_a_message_is_ended_by_the_time_limit(lab: Lab) -> None:
    with pytest.raises(TimeLimitExceeded):
        send(lab, frame(DONE)[:-1], limits=Limits(wall_s=0.3))


# ------------------------------------------------------------------ floods


def test_a_flood_of_bytes_is_cut_off_at_once(lab: Lab) -> None:
    with pytest.raises(IsolateDied, match="instead of an answer"):
        send(lab, then="while True: os.write(wire, b'x' * 65536)")


def test_a_flood_of_messages_is_cut_off_at_once(lab: Lab) -> None:
    with pytest.raises(IsolateDied, match=r"several messages|no answer"):
        send(lab, frame({"is": "ready"}) * 1000)


def test_a_flood_while_a_function_runs_is_cut_off_and_the_function_cancelled(
    lab: Lab,
) -> None:
    cancelled = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    call = frame({"is": "call", "name": "forever"}, (b"p[[],{}]",))
    with pytest.raises(IsolateDied, match=r"several messages|instead of"):
        send(
            lab,
            call,
            then="while True: os.write(wire, b'x' * 65536)",
            expose={"forever": forever},
        )
    assert cancelled in ([True], [])  # it may not even have begun


def test_a_flood_between_the_runs_of_a_session_ends_it(lab: Lab) -> None:
    async def story() -> None:
        source = MEDDLER + "import threading\n"
        source += "def flood():\n    while True: os.write(wire, frame)\n"
        source += "threading.Thread(target=flood, daemon=True).start()"
        async with lab.sandbox.session(limits=Limits(processes=3)) as session:
            with pytest.raises(IsolateDied):
                for _ in range(100):
                    await session.run(source, {"frame": frame({"is": "ready"})})

    lab.do(story())


def test_output_without_end_is_ended_by_the_time_limit_and_costs_no_memory(
    lab: Lab,
) -> None:
    with pytest.raises(TimeLimitExceeded):
        lab.run("while True: print('a' * 100_000)", limits=Limits(wall_s=0.5))


# ------------------------------------------------------------------ forgeries


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"is": "nonsense"},
        {"is": "ready"},
        {"is": ["done"]},
        {"is": "done"},
        {**DONE, "cpu_s": "much"},
        {**DONE, "memory_bytes": None},
        {**DONE, "error": {"type_name": 3}},
        {**DONE, "error": "text"},
        {**DONE, "error": {"type_name": "E", "message": "m", "line": "1", "traceback": ""}},
        {"is": "refused", "path": 3, "reason": None},
        {"is": "too large", "bytes": "many"},
        {"is": "room", "bytes": -1},
        {"is": "room", "bytes": 0},
        {"is": "room", "bytes": 2**62},
        {"is": "room", "bytes": True},
        {"is": "room", "bytes": "x" * 1000},
        {"is": "room"},
    ],
    ids=str,
)
def test_a_message_that_says_nothing_is_no_answer(lab: Lab, facts: Any) -> None:
    with pytest.raises(Forging, match="killed"):
        send(lab, frame(facts, (b"", b"", b"p1")))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        b"\x00" * 64,
        b"\x00\x00\x00\x00" + b"\xff" * 4 + b"\x00" * 8,
        frame({"is": "ready"}).replace(b'"is"', b"\xff\xfe{}"),
        frame({"is": "ready"}).replace(b'{"is": "ready"}', b"[[[[[[[[[[[[[[]"),
        frame({"a": "b"}).replace(b'{"a": "b"}', b"1234567890"),
        b"\x07" + frame(DONE, (b"", b"", b"p1"))[1:],
    ],
    ids=range(7),
)
def test_bytes_that_are_no_message_are_no_answer(lab: Lab, data: Any) -> None:
    with pytest.raises(Forging):
        send(lab, data)


def test_deep_json_is_no_answer(lab: Lab) -> None:
    deep = b"[" * (FACTS_BYTES - 100)
    data = frame({"x": "y" * (len(deep) - 10)})
    head = data[: data.index(b"{")]
    with pytest.raises(Forging):
        send(lab, head + deep + b"]" * (len(data) - len(head) - len(deep)))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"p",
        b"p{",
        b'p{"a":',
        b"t[[[",
        b't{"$date":["x"]}',
        b't{"$array":[9]}',
        b"p" + b"[" * 1000,
    ],
    ids=repr,
)
def test_a_value_that_is_none_is_refused(lab: Lab, value: Any) -> None:
    with pytest.raises(ValueRefused):
        send(lab, frame(DONE, (b"", b"", value)))


def test_a_forged_answer_is_taken_for_what_the_code_wants_us_to_believe(lab: Lab) -> None:
    result = send(lab, frame(DONE, (b"out", b"err", b"p[1,2]")))
    assert (result.value, result.stdout, result.stderr) == ([1, 2], "out", "err")


def test_an_error_that_is_forged_is_cut(lab: Lab) -> None:
    error = {
        "type_name": "E" * 50_000,
        "message": "m",
        "line": -5,
        "traceback": "t" * 50_000,
    }
    result = send(lab, frame({**DONE, "error": error}, (b"", b"", b"pnull")))
    assert len(result.error.type_name) <= 20_000
    assert len(result.error.traceback) <= 20_000


def test_more_output_than_allowed_is_no_answer(lab: Lab) -> None:
    with pytest.raises(Forging, match="output"):
        send(lab, frame(DONE, (b"x" * 1000, b"", b"p1")), limits=Limits(output_bytes=10))


def test_calls_of_what_is_not_exposed_are_answered_with_an_error(lab: Lab) -> None:
    source = MEDDLER + "os.write(wire, frame)\nanswer = os.read(wire, 10_000)\nanswer"
    for name in ("__import__", "missing", 3, None, ["f"]):
        call = frame({"is": "call", "name": name}, (b"p[[],{}]",))
        answer = lab.run(source, {"frame": call}, expose={"f": lambda: 1}).unwrap()
        assert b"there is no function" in answer


@pytest.mark.parametrize(
    "arguments",
    [
        b"",
        b"p1",
        b"p[]",
        b"p[1,2]",
        b"p[[],{},1]",
        b"p[{},[]]",
        b't[[],{"$dict":[[1],[2]]}]',
        b"\xff",
    ],
)
def test_arguments_that_are_none_are_answered_with_an_error(
    lab: Lab, arguments: Any
) -> None:
    source = MEDDLER + "os.write(wire, frame)\nanswer = os.read(wire, 10_000)\nanswer"
    called = []
    call = frame({"is": "call", "name": "f"}, (arguments,))
    answer = lab.run(
        source, {"frame": call}, expose={"f": lambda: called.append(1)}
    ).unwrap()
    assert b"ValueRefused" in answer
    assert not called


def test_a_call_without_arguments_is_answered_with_an_error(lab: Lab) -> None:
    source = MEDDLER + "os.write(wire, frame)\nanswer = os.read(wire, 10_000)\nanswer"
    call = frame({"is": "call", "name": "f"})
    assert b"ValueRefused" in lab.run(source, {"frame": call}, expose={"f": print}).unwrap()


ROOM = (
    MEDDLER
    + """
import mmap, socket
def room(size):
    os.write(wire, wish)
    there = socket.socket(fileno=os.dup(wire))
    data, places, _, _ = socket.recv_fds(there, 4096, 4)
    return places[0]
"""
)
SIZE = 4096
WISH = frame({"is": "room", "bytes": SIZE})


def away(*sizes: int) -> bytes:
    """The frame of an answer whose buffers lie in shared memory."""
    message = speech.say(DONE, tuple(b"x" * size for size in sizes))
    return speech.framed(message, apart=True)


@pytest.mark.parametrize(
    ("body", "answer", "reason"),
    [
        ("", away(1, 1, 1), "lie nowhere"),
        ("room(1)\n", away(10, 10, 5000), "more buffers than"),
        ("held = mmap.mmap(room(1), 4096)\n", away(1, 1, 1), "still write"),
        (
            "first, second = room(1), room(1)\nheld = mmap.mmap(second, 4096)\n",
            away(1, 1, 1),
            "more memory than one message",
        ),
    ],
    ids=["none", "too small", "still mapped", "two of them"],
)
def test_shared_memory_that_is_not_what_it_should_be_is_no_answer(
    lab: Lab, body: Any, answer: Any, reason: Any
) -> None:
    source = ROOM + body + "os.write(wire, answer)\ntime.sleep(60)"
    with pytest.raises(Forging, match=reason):
        lab.run(source, {"wish": WISH, "answer": answer}, limits=QUICK)


def test_a_buffer_in_two_places_is_no_answer(lab: Lab) -> None:
    data = bytearray(frame(DONE, (b"", b"", b"p1")))
    data[16 + 7] |= 0x80  # the first of the sizes: out of band
    with pytest.raises(IsolateDied):
        send(lab, bytes(data))


def test_shared_memory_cannot_be_changed_after_it_was_looked_at(lab: Lab) -> None:
    source = (
        ROOM
        + """
place = room(1)
area = mmap.mmap(place, 4096)
area[0:2] = b"p1"
area[64:66] = b"p1"
area[128:130] = b"p7"
area.close()
os.write(wire, answer)
time.sleep(60)
"""
    )
    result = lab.run(source, {"wish": WISH, "answer": away(0, 0, 2)}, limits=QUICK)
    assert result.value in {1, 7}


def test_memory_for_an_answer_is_no_larger_than_the_limit(lab: Lab) -> None:
    wish = frame({"is": "room", "bytes": 200 * 2**20})
    with pytest.raises(Forging, match="wish"):
        send(lab, wish)
    with pytest.raises(LimitExceeded):
        lab.run("b'x' * (100 * 2**20)")


# ------------------------------------------------------------------ cancellation


def test_cancelling_kills_the_child_and_all_that_it_forked(lab: Lab) -> None:
    source = """
import os
for _ in range(3):
    if not os.fork():
        os.fork()
        while True: pass
begun()
while True: pass
"""

    async def story() -> None:
        began = asyncio.Event()
        pid = zygote(lab.sandbox)
        run = lab.sandbox.run(
            source, limits=Limits(processes=16), expose={"begun": began.set}
        )
        task = asyncio.create_task(run)
        await began.wait()
        await until(lambda: len(descendants(pid)) >= 8)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(descendants(pid)) <= 3)  # the zygote, and who stand by

    lab.do(story())


@pytest.mark.parametrize("turns", range(0, 40, 3))
def test_cancelling_at_any_moment_loses_no_child(lab: Lab, turns: Any) -> None:
    async def story() -> Any:
        task = asyncio.create_task(lab.sandbox.run("1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [(await lab.sandbox.run("x", {"x": x})).value for x in range(3)]

    assert lab.do(story()) == [0, 1, 2]

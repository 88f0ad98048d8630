"""Sessions, and functions of the parent that code may call."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from anabranch.errors import IsolateDied, LimitExceeded, TimeLimitExceeded, ValueRefused
from anabranch.sandbox.isolate.exposed import Exposed
from anabranch.sandbox.limits import Limits
from tests.sandbox.isolate.lab import Lab, opened

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with opened() as lab:
        yield lab


def in_session(lab: Lab, *sources: Any, **options: Any) -> Any:
    async def story() -> Any:
        async with lab.sandbox.session(**options) as session:
            return [await session.run(source) for source in sources]

    return lab.do(story())


def test_a_session_keeps_its_names(lab: Lab) -> None:
    ends = in_session(lab, "x = 1", "def f(): return x + 1", "x = 5", "f()")
    assert ends[-1].unwrap() == 6


def test_a_session_goes_on_after_an_exception(lab: Lab) -> None:
    ends = in_session(lab, "x = 1\nnope", "x", "import asyncio\nawait asyncio.sleep(0)\nx")
    assert ends[0].error.type_name == "NameError"
    assert [end.value for end in ends[1:]] == [1, 1]


def test_lines_are_those_of_the_source_that_runs(lab: Lab) -> None:
    ends = in_session(lab, "def f():\n    raise ValueError", "\n\nf()")
    assert ends[1].error.line == 3
    assert "    raise ValueError" in ends[1].error.traceback


def test_a_session_goes_on_after_a_refused_value(lab: Lab) -> None:
    async def story() -> Any:
        async with lab.sandbox.session() as session:
            await session.run("x = 1")
            with pytest.raises(ValueRefused):
                await session.run("object()")
            with pytest.raises(ValueRefused):
                await session.run("1", {"o": object()})
            with pytest.raises(LimitExceeded):
                await session.run("b'a' * (1 << 27)")
            return (await session.run("x")).value

    assert lab.do(story()) == 1


def test_large_values_go_both_ways_again_and_again(lab: Lab) -> None:
    async def story() -> None:
        async with lab.sandbox.session() as session:
            for _ in range(5):
                assert (
                    await session.run("x + x", {"x": b"a" * 400_000})
                ).value == b"a" * 800_000

    lab.do(story())


def test_a_time_limit_ends_the_session_and_nothing_else(lab: Lab) -> None:
    async def story() -> Any:
        async with lab.sandbox.session(limits=Limits(wall_s=0.3)) as session:
            assert (await session.run("1")).value == 1
            with pytest.raises(TimeLimitExceeded):
                await session.run("while True: pass")
            with pytest.raises(IsolateDied, match="session has ended"):
                await session.run("1")
        return (await lab.sandbox.run("2")).value

    assert lab.do(story()) == 2


def test_runs_of_a_session_take_turns(lab: Lab) -> None:
    async def story() -> Any:
        async with lab.sandbox.session() as session:
            await session.run("seen = []")
            runs = (session.run("seen.append(n)", {"n": n}) for n in range(10))
            await asyncio.gather(*runs)
            return (await session.run("seen")).value

    assert lab.do(story()) == list(range(10))


def test_sessions_do_not_take_the_place_of_runs(lab: Lab) -> None:
    async def story() -> Any:
        async with (
            lab.sandbox.session() as a,
            lab.sandbox.session() as b,
            lab.sandbox.session() as c,
        ):
            for session in (a, b, c):
                await session.run("x = 1")
            return (await lab.sandbox.run("3")).value

    assert lab.do(story()) == 3


# ------------------------------------------------------------------ exposed functions


def test_code_calls_functions_of_the_parent(lab: Lab) -> None:
    async def search(query: Any, *, top: Any = 1) -> Any:
        await asyncio.sleep(0)
        return [{"text": query, "rank": rank} for rank in range(top)]

    source = "[hit['rank'] for hit in search('a', top=3)] + [double(4)]"
    expose = {"search": search, "double": lambda x: x * 2}
    assert lab.run(source, expose=expose).unwrap() == [0, 1, 2, 8]


def test_large_arguments_and_answers_travel_too(lab: Lab) -> None:
    answer = lab.run("len(f(b'a' * 500_000))", expose={"f": lambda x: x + x})
    assert answer.unwrap() == 1_000_000


def test_what_a_function_raises_is_a_runtime_error_in_the_code(lab: Lab) -> None:
    async def fails(x: Any) -> None:
        raise KeyError(x)

    source = (
        "try:\n    fails('q')\nexcept RuntimeError as error:\n    text = str(error)\ntext"
    )
    assert lab.run(source, expose={"fails": fails}).unwrap() == "fails: KeyError: 'q'"
    assert lab.run("fails('q')", expose={"fails": fails}).error.line == 1
    missing = lab.run("fails()", expose={"fails": fails}).error
    assert "missing 1 required positional argument" in missing.message


def test_a_function_gets_and_gives_plain_values_only(lab: Lab) -> None:
    assert "plain data" in lab.run("f()", expose={"f": object}).error.message
    with_class = lab.run("class A: pass\nf(A())", expose={"f": same})
    assert with_class.error.type_name == "ValueRefused"


def test_a_function_that_cancels_itself_or_exits_has_failed_and_the_run_goes_on(
    lab: Lab,
) -> None:
    async def cancels() -> None:
        raise asyncio.CancelledError

    def exits() -> None:
        raise SystemExit(3)

    source = "said = []\nfor f in (cancels, exits):\n    try:\n        f()\n"
    source += "    except RuntimeError as error:\n        said.append(str(error))\nsaid"
    told = lab.run(source, expose={"cancels": cancels, "exits": exits}).unwrap()
    assert told == ["cancels: CancelledError", "exits: SystemExit: 3"]


def test_calls_are_limited_in_time_and_number(lab: Lab) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    slow = {"f": Exposed(forever, call_s=0.05)}
    assert "longer than 0.05 s" in lab.run("f()", expose=slow).error.message
    few = {"f": Exposed(lambda: 1, calls=2)}
    error = lab.run("f()\nf()\nf()", expose=few).error
    assert error.line == 3
    assert "2 times" in error.message


def test_the_time_limit_holds_while_a_function_runs_and_the_function_is_cancelled(
    lab: Lab,
) -> None:
    ended = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(TimeLimitExceeded):
        lab.run("f()", expose={"f": forever}, limits=Limits(wall_s=0.2))
    assert ended == [True]


def test_a_function_may_run_code_in_the_sandbox_itself(lab: Lab) -> None:
    async def nested(source: Any) -> Any:
        return (await lab.sandbox.run(source)).value

    assert lab.run("nested('1 + 1') + 1", expose={"nested": nested}).unwrap() == 3


def test_functions_of_the_sandbox_and_of_the_run_are_both_there() -> None:
    with opened(expose={"a": lambda: "sandbox", "b": lambda: "sandbox"}) as lab:
        assert lab.run("[a(), b()]", expose={"b": lambda: "run"}).unwrap() == [
            "sandbox",
            "run",
        ]
        assert lab.run("b()").unwrap() == "sandbox"


def test_many_sandboxed_runs_call_at_once_and_each_gets_its_answer(lab: Lab) -> None:
    async def echo(x: Any) -> Any:
        await asyncio.sleep(0.001)
        return x

    async def story() -> Any:
        runs = (
            lab.sandbox.run(
                "[echo(x + n) for n in range(5)]", {"x": x}, expose={"echo": echo}
            )
            for x in range(0, 100, 10)
        )
        return [result.value for result in await asyncio.gather(*runs)]

    assert lab.do(story()) == [[x + n for n in range(5)] for x in range(0, 100, 10)]


def test_threads_of_the_code_may_call_while_a_run_is_at_work(lab: Lab) -> None:
    source = """
import threading
seen, refused = [], []
def work():
    for n in range(5):
        seen.append(f(n))
def hammer():
    while not refused:
        try:
            f(0)
        except RuntimeError as error:
            refused.append(str(error))
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
late = threading.Thread(target=hammer)
late.start()
len(seen)
"""

    async def story() -> Any:
        options: dict[str, Any] = {"limits": Limits(processes=4), "expose": {"f": same}}
        async with lab.sandbox.session(**options) as session:
            assert (await session.run(source)).unwrap() == 10
            return (await session.run("late.join()\nlen(refused)")).unwrap()

    assert lab.do(story()) == 1


def same(x: Any) -> Any:
    return x

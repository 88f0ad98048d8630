"""A run, written down at any instant, goes on elsewhere as if nothing had happened."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import subprocess
import sys
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    field_serializer,
    field_validator,
)

from anabranch.testing import run_virtual
from anabranch.workflow import (
    Collect,
    Context,
    ContextSerdeError,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    JsonPickleSerializer,
    JsonSerializer,
    PickleSerializer,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Take,
    UnreconstructedException,
    Workflow,
    catch_error,
    step,
)
from anabranch.workflow.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Job(Event):
    n: int


class Done(Event):
    n: int


class Pair(Event):
    n: int


class State(BaseModel):
    log: list[str] = Field(default_factory=list)


class Everything(Workflow):
    """In the middle of it there are executions in every state there is."""

    @step
    async def start(self, ev: StartEvent) -> list[Job]:
        return [Job(n=n) for n in range(6)]

    @step(
        num_workers=3,
        retry_policy=retry_policy(wait=wait_fixed(2), stop=stop_after_attempt(3)),
    )
    async def work(self, ctx: Context[State], ev: Job) -> Done | Pair | None:
        if ev.n == 1 and ctx.retry_info().retry_number < 2:
            raise ValueError("not yet")
        if ev.n == 2:
            answer = await ctx.wait_for_event(
                HumanResponseEvent,
                waiter_event=InputRequiredEvent(prefix="?"),
                timeout=None,
            )
            assert answer.value == "yes"
        if ev.n == 3:
            ctx.send_event(Pair(n=1))
        await asyncio.sleep(ev.n)
        if ev.n == 4:
            raise KeyError("for good")
        async with ctx.store.edit_state() as state:
            state.log.append(f"worked {ev.n}")
        return Done(n=ev.n)

    @catch_error
    async def recover(self, ev: StepFailedEvent) -> Done:
        assert isinstance(ev.exception, KeyError)
        return Done(n=100)

    @step
    async def pair(self, ctx: Context[State], ev: Pair) -> StopEvent | None:
        got = ctx.collect_events(ev, [Pair, Pair])
        if got is None:
            return None
        return StopEvent(result=[(await ctx.store.get_state()).log, [p.n for p in got]])

    @step
    async def join(self, ctx: Context, done: Annotated[list[Done], Collect()]) -> Pair:
        return Pair(n=sum(d.n for d in done))


EXPECTED = [[f"worked {n}" for n in (0, 1, 2, 3, 5)], [1, 111]]


def said(result: Any) -> Any:
    return [sorted(result[0]), result[1]]


async def until(seconds: float, timeout: float | None = None) -> dict[str, Any]:
    """A run of all that, written down in the middle and left behind."""
    handler = Everything(timeout=timeout).run()
    if seconds >= 0:
        await asyncio.sleep(seconds)
    written = json.loads(json.dumps(handler.ctx.to_dict()))
    await handler.cancel_run()
    return dict(written)


async def finish(written: dict[str, Any]) -> Any:
    flow = Everything(timeout=None)
    ctx: Context[Any] = Context.from_dict(flow, written)
    assert ctx.is_running
    handler = flow.run(ctx=ctx)
    for _ in range(3):
        await asyncio.sleep(0.001)
    answered = asyncio.get_running_loop()
    answered.call_later(60, handler.ctx.send_event, HumanResponseEvent(value="yes"))
    return said(await handler)


@pytest.mark.parametrize("seconds", [-1, 0.0, 0.5, 1.5, 2.5, 3.5, 5.5, 9.5, 50])
def test_a_run_goes_on_from_any_instant(seconds: float) -> None:
    written = run_virtual(until(seconds))
    assert run_virtual(finish(written)) == EXPECTED


def test_a_run_can_be_written_down_again_and_again() -> None:
    async def handed_on(written: dict[str, Any], seconds: float) -> dict[str, Any]:
        flow = Everything(timeout=None)
        handler = flow.run(ctx=Context.from_dict(flow, written))
        await asyncio.sleep(seconds)
        again = json.loads(json.dumps(handler.ctx.to_dict()))
        await handler.cancel_run()
        return dict(again)

    written = run_virtual(until(0.1))
    for _ in range(10):
        written = run_virtual(handed_on(written, 1.2))
    assert run_virtual(finish(written)) == EXPECTED


def test_what_had_finished_does_not_run_again() -> None:
    class Chain(Workflow):
        @step
        async def first(self, ev: StartEvent) -> Job:
            ran.append("first")
            return Job(n=1)

        @step
        async def second(self, ctx: Context, ev: Job) -> Done:
            ran.append("second")
            ctx.send_event(Pair(n=1))
            ctx.send_event(Pair(n=2))
            await asyncio.sleep(10)
            return Done(n=1)

        @step
        async def aside(self, ctx: Context, ev: Pair) -> None:
            ran.append(f"aside {ev.n}")

        @step
        async def last(self, ev: Done) -> StopEvent:
            ran.append("last")
            return StopEvent(result=ev.n)

    async def main() -> Any:
        chain = Chain(skip_graph_checks={"terminal_event"}, disable_validation=True)
        handler = chain.run()
        await asyncio.sleep(5)
        written = json.loads(json.dumps(handler.ctx.to_dict()))
        await handler.cancel_run()
        return await chain.run(ctx=Context.from_dict(chain, written))

    ran: list[str] = []
    assert run_virtual(main()) == 1
    assert ran == ["first", "second", "aside 1", "aside 2", "second", "last"]


def test_a_join_that_was_called_is_not_called_again() -> None:
    class First(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Job]:
            return [Job(n=n) for n in range(3)]

        @step
        async def work(self, ev: Job) -> Done:
            await asyncio.sleep(10 * ev.n)
            return Done(n=ev.n)

        @step
        async def join(
            self, done: Annotated[list[Done], Collect(Take(1))]
        ) -> StopEvent | None:
            joined.append([d.n for d in done])
            await asyncio.sleep(100)
            return StopEvent(result=joined)

    async def main() -> Any:
        handler = First(timeout=None).run()
        await asyncio.sleep(5)
        written = json.loads(json.dumps(handler.ctx.to_dict()))
        await handler.cancel_run()
        joined.clear()
        again = First(timeout=None)
        return await again.run(ctx=Context.from_dict(again, written))

    joined: list[list[int]] = []
    assert run_virtual(main()) == [[0]]


class Asks(Workflow):
    """Sends before, between and after two waits, in branches that are joined."""

    @step
    async def start(self, ev: StartEvent) -> list[Job]:
        return [Job(n=n) for n in range(3)]

    @step(num_workers=1)
    async def ask(self, ctx: Context, ev: Job) -> Done:
        at_work.append(ev.n)
        assert len(at_work) == 1
        ctx.send_event(Done(n=10 + ev.n))
        at_work.remove(ev.n)
        await ctx.wait_for_event(HumanResponseEvent, requirements={"n": ev.n})
        at_work.append(ev.n)
        ctx.send_event(Done(n=20 + ev.n))
        await asyncio.sleep(0)
        assert len(at_work) == 1
        at_work.remove(ev.n)
        await ctx.wait_for_event(HumanResponseEvent, requirements={"n": 10 + ev.n})
        return Done(n=ev.n)

    @step
    async def join(self, done: Annotated[list[Done], Collect()]) -> StopEvent:
        return StopEvent(result=sorted(d.n for d in done))


at_work: list[int] = []


@pytest.mark.parametrize("turn", range(7))
def test_what_was_sent_before_a_wait_is_not_sent_again_nor_are_workers_exceeded(
    turn: int,
) -> None:
    answers = [0, 1, 10, 2, 12, 11]

    async def main() -> Any:
        at_work.clear()
        flow = Asks(timeout=60)
        handler = flow.run()
        for number, answer in enumerate([*answers, None]):
            for _ in range(20):
                await asyncio.sleep(0)
            if number == turn and not handler.is_done():
                written = json.loads(json.dumps(handler.ctx.to_dict()))
                await handler.cancel_run()
                at_work.clear()
                handler = flow.run(ctx=Context.from_dict(flow, written))
                for _ in range(20):
                    await asyncio.sleep(0)
            if answer is not None:
                handler.ctx.send_event(HumanResponseEvent(n=answer))
        return await handler

    assert run_virtual(main()) == [0, 1, 2, 10, 11, 12, 20, 21, 22]


def test_an_answer_that_was_sent_before_the_run_has_begun_is_written_down() -> None:
    class Waits(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> InputRequiredEvent:
            return InputRequiredEvent()

        @step
        async def told(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent(result=ev.value)

    async def main() -> Any:
        flow = Waits(num_concurrent_runs=1)
        first = flow.run()
        handler = flow.run()  # waits for its turn
        await asyncio.sleep(1)
        handler.ctx.send_event(HumanResponseEvent(value="early"))
        written = json.loads(json.dumps(handler.ctx.to_dict()))
        for each in (first, handler):
            await each.cancel_run()
        context: Context[Any] = Context.from_dict(flow, written)
        again = json.loads(json.dumps(context.to_dict()))
        return await flow.run(ctx=Context.from_dict(flow, again))

    assert run_virtual(main()) == "early"


def test_it_can_be_written_down_in_a_synchronous_step() -> None:
    class Wide(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Job]:
            return [Job(n=n) for n in range(500)]

        @step(num_workers=8)
        def work(self, ctx: Context, ev: Job) -> Done:
            if ev.n % 50 == 0:
                assert ctx.to_dict()["is_running"]
            return Done(n=ev.n)

        @step
        async def join(self, done: list[Done]) -> StopEvent:
            return StopEvent(result=len(done))

    async def main() -> Any:
        return await Wide().run()

    assert asyncio.run(main()) == 500


def test_a_run_whose_end_has_come_is_not_written_down_as_running() -> None:
    class Ends(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                await asyncio.sleep(10)
            finally:
                written.append(ctx.to_dict()["is_running"])
            return StopEvent()

    async def main() -> None:
        handler = Ends().run()
        await asyncio.sleep(1)
        await handler.cancel_run()

    written: list[bool] = []
    run_virtual(main())
    assert written == [False]


def damaged(written: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """The same, but for a few places."""
    payload = copy.deepcopy(written)
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        holder: Any = payload
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw.choice(keys)
            inner = holder[key]
            if isinstance(inner, dict | list) and inner and draw.random() < 0.8:
                holder = inner
                continue
            rubbish: list[Any] = [
                None,
                -1,
                0,
                7,
                1.5,
                "x",
                [],
                {},
                [[]],
                {"x": 1},
                True,
                1e308,
            ]
            if draw.random() < 0.2:
                del holder[key]
            else:
                holder[key] = draw.choice(rubbish)
            break
    return payload


async def survives(payload: dict[str, Any]) -> str:
    flow = Everything(timeout=100)
    try:
        ctx: Context[Any] = Context.from_dict(flow, payload)
    except ContextSerdeError:
        return "refused"
    try:
        handler = flow.run(ctx=ctx)
        handler.ctx.send_event(HumanResponseEvent(value="yes"))
    except Exception:
        return "refused"
    try:
        await asyncio.wait_for(asyncio.shield(handler), 5000)
    except Exception:
        assert handler.is_done(), "it hangs"
    return "ended"


def payloads() -> list[dict[str, Any]]:
    return [run_virtual(until(seconds, 100)) for seconds in (0.0, 0.5, 2.5, 3.5)]


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_payload_is_refused_or_its_run_ends(seed: int) -> None:
    draw = random.Random(seed)
    written = payloads()
    found = [run_virtual(survives(damaged(draw.choice(written), draw))) for _ in range(60)]
    assert "refused" in found


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_thousands_of_damaged_payloads_are_refused_or_their_runs_end() -> None:
    draw = random.Random(99)
    written = payloads()
    for _ in range(5000):
        run_virtual(survives(damaged(draw.choice(written), draw)))


def test_time_in_which_nobody_ran_it_does_not_count() -> None:
    class Waits(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            event = await ctx.wait_for_event(HumanResponseEvent, timeout=30)
            return StopEvent(result=event.value)

    async def begin() -> dict[str, Any]:
        handler = Waits(timeout=40).run()
        await asyncio.sleep(20)
        written = handler.ctx.to_dict()
        await handler.cancel_run()
        # As if it had been written an hour ago.
        machine = written["machine"]
        for name in ("began_at", "deadline", "now"):
            machine[name] -= 3600
        for wait in machine["waits"]:
            wait["deadline"] -= 3600
        return written

    async def go_on(written: dict[str, Any]) -> Any:
        flow = Waits(timeout=40)
        handler = flow.run(ctx=Context.from_dict(flow, written))
        await asyncio.sleep(9)
        handler.ctx.send_event(HumanResponseEvent(value="in time"))
        return await handler

    assert run_virtual(go_on(run_virtual(begin()))) == "in time"


PROGRAM = """
import asyncio, json, sys
from anabranch.workflow import *

class Ask(InputRequiredEvent):
    prefix: str

class Flow(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Ask:
        await ctx.store.set("before", ev.topic)
        return Ask(prefix="name?")

    @step
    async def end(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=[await ctx.store.get("before"), ev.response])

async def main():
    flow = Flow()
    if sys.argv[1] == "begin":
        handler = flow.run(topic="rivers")
        async for event in handler.stream_events():
            if isinstance(event, Ask):
                print(json.dumps(handler.ctx.to_dict()), flush=True)
                import os; os.kill(os.getpid(), 9)
    handler = flow.run(ctx=Context.from_dict(flow, json.load(sys.stdin)))
    handler.ctx.send_event(HumanResponseEvent(response="ann"))
    print(await handler)

asyncio.run(main())
"""


def test_a_person_may_answer_in_another_process(tmp_path: Path) -> None:
    program = tmp_path / "flow.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program)]
    begun = subprocess.run([*command, "begin"], capture_output=True, text=True)
    assert begun.returncode == -9, begun.stderr
    ended = subprocess.run(
        [*command, "end"], input=begun.stdout, capture_output=True, text=True
    )
    assert ended.stdout == "['rivers', 'ann']\n", ended.stderr


# ------------------------------------------------------------------- serializers


class Colour(Enum):
    RED = "r"


class Access(Flag):
    READ = 1
    WRITE = 2


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    value: T


class Aliased(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")
    c: int = Field(validation_alias=AliasChoices("x", "y"))


class Shouts(BaseModel):
    said: str

    @field_validator("said")
    @classmethod
    def shout(cls, said: str) -> str:
        return said + "!"


@dataclass
class Seeded:
    seed: InitVar[int]
    value: int = 0

    def __post_init__(self, seed: int) -> None:
        self.value = 2 * seed


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)
    _cached: int = field(default=0, init=False)


class Model(BaseModel):
    name: str = Field(alias="Name")
    when: datetime
    _secret: int = PrivateAttr(default=0)


class Numbers(RootModel[list[int]]):
    pass


def model() -> Model:
    made = Model(Name="n", when=datetime(2026, 1, 2, tzinfo=UTC))
    made._secret = 7
    return made


VALUES: list[Any] = [
    None, True, 1, 2.5, "text", [1, [2]], {"a": {"b": 1}}, {1: "one", (2, 3): "pair"},
    {"__anabranch__": "dict"}, (1, 2), {1, 2}, frozenset({1}), b"\x00\xff", bytearray(b"x"),
    datetime(2026, 1, 2, 3, 4, tzinfo=UTC), timedelta(days=1, microseconds=5),
    Decimal("1.10"), UUID(int=5), Path("/a/b"), 1 + 2j, Colour.RED, Point(1, ["t"]), model(),
    Access.READ | Access.WRITE, Box[int](value=3), Box[Colour](value=Colour.RED),
    Aliased.model_validate({"b": 1, "a": 2, "x": 3}), Shouts(said="a"), Seeded(4), Box[int],
    Numbers([1, 2]), Job(n=1), Event(free={"x": (1,)}), StopEvent(result=[Job(n=2)]), Job,
]  # fmt: skip


@pytest.mark.parametrize("kind", [JsonSerializer, PickleSerializer])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_written_is_read_back_equal(kind: type[JsonSerializer], value: Any) -> None:
    text = kind().serialize(value)
    json.loads(text)
    again = kind().deserialize(text)
    assert again == value
    assert type(again) is type(value)


def test_private_attributes_and_results_are_kept() -> None:
    serializer = JsonSerializer()
    assert serializer.deserialize(serializer.serialize(model()))._secret == 7
    assert serializer.deserialize(serializer.serialize(StopEvent(result=5))).result == 5


class Handle:
    def __init__(self, name: str) -> None:
        self.name = name


class Holding(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    handle: Handle
    note: str = ""

    @field_serializer("handle")
    def write_handle(self, handle: Handle) -> str:
        return handle.name

    @field_validator("handle", mode="before")
    @classmethod
    def read_handle(cls, value: Any) -> Any:
        return Handle(value) if isinstance(value, str) else value


def test_a_model_that_says_how_it_is_written_is_written_so() -> None:
    serializer = JsonSerializer()
    text = serializer.serialize([Holding(handle=Handle("h"), note="n")])
    [again] = serializer.deserialize(text)
    assert (again.handle.name, again.note) == ("h", "n")


def test_exceptions_come_back_by_type_and_message_if_the_type_is_known() -> None:
    serializer = JsonSerializer()
    again = serializer.deserialize(serializer.serialize(ValueError("bad")))
    assert (type(again), str(again)) == (ValueError, "bad")
    again = serializer.deserialize(serializer.serialize(KeyError("a", 1)))
    assert again.args == ("a", 1)
    odd = UnicodeDecodeError("utf-8", b"x", 0, 1, "odd")  # takes more than a message
    again = serializer.deserialize(serializer.serialize(odd))
    assert isinstance(again, UnreconstructedException)
    assert again.original_type == "builtins.UnicodeDecodeError"
    assert str(again) == str(odd)
    assert serializer.serialize(again) == serializer.serialize(odd)


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "builtins.eval", "subprocess.Popen", "builtins.object", "nowhere.Thing",
        "antigravity.Model", "threading.Thread", "pydantic.main.BaseModel.model_validate",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["model", "enum", "dataclass", "class"])
def test_hostile_and_unknown_types_are_refused(name: str, kind: str) -> None:
    text = json.dumps({"__anabranch__": kind, "t": name, "v": {}})
    for serializer in (JsonSerializer(), PickleSerializer()):
        with pytest.raises(
            ContextSerdeError, match=f"names '{name}', which is not accepted"
        ):
            serializer.deserialize(text)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("value", ["_member_map_", "mro", "__class__", "name", "BLUE"])
def test_of_an_enumeration_only_members_are_given(value: str) -> None:
    name = f"{Colour.__module__}.Colour"
    text = json.dumps({"__anabranch__": "enum", "t": name, "v": value})
    with pytest.raises(ContextSerdeError, match="damaged"):
        JsonSerializer().deserialize(text)


def test_a_module_that_is_loaded_at_its_first_use_is_not_loaded(tmp_path: Path) -> None:
    program = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("lazy", sys.argv[1])
spec.loader = importlib.util.LazyLoader(spec.loader)
module = sys.modules["lazy"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from anabranch.workflow import ContextSerdeError, JsonSerializer
try:
    JsonSerializer().deserialize('{"__anabranch__": "model", "t": "lazy.X", "v": {}}')
except ContextSerdeError:
    print("refused")
"""
    (tmp_path / "lazy.py").write_text("print('imported')\n")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "lazy.py")],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "refused\n", done.stderr


def test_what_could_not_be_found_again_is_refused_when_it_is_written() -> None:
    class Local(BaseModel):
        pass

    with pytest.raises(
        ContextSerdeError, match=r"Local cannot be written.*top of a module"
    ):
        JsonSerializer().serialize(Local())
    assert JsonSerializer(allowed_types=[Local]).serialize(Local())
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(ContextSerdeError):
        JsonSerializer().serialize(deep)


def test_classes_that_events_declare_may_be_local() -> None:
    class Inner(BaseModel):
        n: int

    class Outer(Event):
        inner: list[Inner | None]

    class Flow(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Outer:
            return Outer(inner=[Inner(n=3)])

        @step
        async def end(self, ev: Outer) -> StopEvent:
            await asyncio.sleep(1)
            assert ev.inner[0] is not None
            return StopEvent(result=ev.inner[0].n)

    async def main() -> Any:
        flow = Flow()
        handler = flow.run()
        await asyncio.sleep(0.5)
        written = json.loads(json.dumps(handler.ctx.to_dict()))
        await handler.cancel_run()
        return await flow.run(ctx=Context.from_dict(flow, written))

    assert run_virtual(main()) == 3


def test_with_a_list_of_types_no_other_is_accepted() -> None:
    text = JsonSerializer().serialize([Job(n=1)])
    assert JsonSerializer(allowed_types=[Job]).deserialize(text) == [Job(n=1)]
    with pytest.raises(ContextSerdeError, match="Job', which is not accepted"):
        JsonSerializer(allowed_types=[Done]).deserialize(text)
    # Events of the library itself are always known.
    text = JsonSerializer().serialize(HumanResponseEvent(x=1))
    assert JsonSerializer(allowed_types=[]).deserialize(text) == HumanResponseEvent(x=1)


class Odd:
    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd) and other.n == self.n

    __hash__ = None  # type: ignore[assignment]


def test_pickles_are_read_only_by_who_asks_for_them() -> None:
    assert JsonPickleSerializer is PickleSerializer
    with pytest.raises(ContextSerdeError, match="Odd cannot be written as JSON"):
        JsonSerializer().serialize({"odd": Odd(1)})
    text = PickleSerializer().serialize({"odd": Odd(1)})
    assert PickleSerializer().deserialize(text) == {"odd": Odd(1)}
    with pytest.raises(ContextSerdeError, match="can run any code"):
        JsonSerializer().deserialize(text)
    assert PickleSerializer(allowed_types=[Odd]).deserialize(text) == {"odd": Odd(1)}
    with pytest.raises(ContextSerdeError, match="Odd', which is not accepted"):
        PickleSerializer(allowed_types=[Job]).deserialize(text)
    with pytest.raises(ContextSerdeError, match="cannot be pickled"):
        PickleSerializer().serialize(lambda: 1)


@pytest.mark.parametrize(
    "text",
    [
        "{", '{"__anabranch__": "zebra", "v": 1}', '{"__anabranch__": "Decimal", "v": "x"}',
        '{"__anabranch__": "pickle", "v": "!"}', '{"__anabranch__": "model"}',
    ],
)  # fmt: skip
def test_rubbish_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ContextSerdeError, match=r"payload"):
        PickleSerializer().deserialize(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: {**d, "version": 99}, "a newer anabranch wrote it"),
        (lambda d: {**d, "version": 0}, "too old"),
        (lambda d: {"version": 2, "workers": {}, "state": {}}, "another library"),
        (lambda d: {}, "damaged"),
        (json.dumps, "not from a str"),
        (lambda d: {**d, "machine": {}}, "does not hold a run that can be read"),
        (lambda d: {**d, "start": "rubbish"}, "'rubbish' is no event"),
        (lambda d: {**d, "store": "rubbish"}, "no model"),
        (lambda d: {k: v for k, v in d.items() if k != "store"}, "damaged"),
        (lambda d: {**d, "machine": {**d["machine"], "now": "x"}}, "'now' cannot be"),
    ],
)  # fmt: skip
def test_a_context_that_cannot_be_read_says_why(change: Any, said: str) -> None:
    written = run_virtual(until(1))
    with pytest.raises(ContextSerdeError, match=said):
        Context.from_dict(Everything(), change(written))


def test_a_run_of_other_steps_is_refused() -> None:
    class Other(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    written = run_virtual(until(1))
    with pytest.raises(ContextSerdeError, match=r"does not have: (start, )?work"):
        Context.from_dict(Other(), written)


def test_the_state_may_be_left_out() -> None:
    async def main() -> None:
        flow = Everything()
        ctx: Context[Any] = Context(flow)
        await ctx.store.set("log", ["x"])
        assert Context.from_dict(flow, ctx.to_dict()).store.whole().log == ["x"]
        bare = ctx.to_dict(include_state=False)
        assert Context.from_dict(flow, bare).store.whole().log == []

    asyncio.run(main())

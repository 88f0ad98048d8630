"""Workflow engines: the same few workflows in each one's own words.

An engine is a set of makers, one a workflow. A maker imports the engine, builds the
workflow once, as a program does, and returns what runs it; only that is timed. Where an
engine has no word for what a workflow does, a sentence says so instead.

Nothing is tuned: everywhere the defaults, except what would stop a long run (timeouts,
limits of recursion) and what would send statistics to somebody.
"""

# No postponed annotations here: what engines read from them are local classes.

import asyncio
import operator
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, TypeAlias, TypedDict

WORKERS = 16

Once: TypeAlias = Callable[[], Awaitable[Any]]  # one run: True
Chain: TypeAlias = Callable[[int], Awaitable[int]]  # of that many steps: how many are left
Fan: TypeAlias = Callable[[int], Awaitable[int]]  # that many events: how many came back


@dataclass(frozen=True, slots=True)
class Idle:
    """A run that waits for somebody's answer.

    Attributes:
        start: Starts a run, whose number nobody else has, and ends when it waits.
        answer: Answers what ``start`` gave, and ends with the run's result, the answer.
    """

    start: Callable[[int], Awaitable[Any]]
    answer: Callable[[Any, str], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Who runs workflows.

    Attributes:
        run: From start to stop in one step.
        chain: A step that gives itself work until nothing is left.
        fan: A step that gives out many events, a step for each of them, in 16 workers,
            and one that has them all.
        fan_by_hand: The same, sent and collected by calls.
        many: As ``run``; the step suspends once.
        idle: A step that waits for an answer.
        idle_between: A step that asks, and another one that is given the answer.
    """

    run: Callable[[], Once] | str
    chain: Callable[[], Chain] | str
    fan: Callable[[], Fan] | str
    fan_by_hand: Callable[[], Fan] | str = "has one way only"
    many: Callable[[], Once] | str
    idle: Callable[[], Idle] | str
    idle_between: Callable[[], Idle] | str = "has one way only"


# ------------------------------------------------------------------------------- the floor
# What one writes by hand: a queue of events and one task a step. It knows no failure, no
# timeout, no stream of events and no check of what is in an event.


@dataclass(slots=True)
class _Given:
    left: int


@dataclass(slots=True)
class _Done:
    left: int


@dataclass(slots=True)
class _Stopped:
    result: Any


_Step: TypeAlias = Callable[[Any], Coroutine[Any, Any, Any]]


async def _drive(steps: dict[type, _Step], event: Any) -> Any:
    """Every event to the step of its type, in at most 16 tasks, until one stops."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    waiting: deque[Any] = deque([event])
    running: set[asyncio.Task[None]] = set()

    async def work(event: Any) -> None:
        events.put_nowait(await steps[type(event)](event))

    while True:
        while waiting and len(running) < WORKERS:
            task = asyncio.create_task(work(waiting.popleft()))
            running.add(task)
            task.add_done_callback(running.discard)
        given = await events.get()
        if type(given) is _Stopped:
            return given.result
        if isinstance(given, list):
            waiting.extend(given)
        elif given is not None:
            waiting.append(given)


def _floor_run() -> Once:
    async def only(_: _Given) -> _Stopped:
        return _Stopped(result=True)

    return lambda: _drive({_Given: only}, _Given(0))


def _floor_chain() -> Chain:
    async def go(given: _Given) -> _Given | _Stopped:
        return _Given(given.left - 1) if given.left else _Stopped(given.left)

    return lambda count: _drive({_Given: go}, _Given(count))


def _floor_fan() -> Fan:
    async def fan(count: int) -> int:
        collected: list[_Done] = []

        async def split(_: _Stopped) -> list[_Given]:
            return [_Given(number) for number in range(count)]

        async def work(given: _Given) -> _Done:
            return _Done(given.left)

        async def collect(done: _Done) -> _Stopped | None:
            collected.append(done)
            return _Stopped(len(collected)) if len(collected) == count else None

        class Begun:
            pass

        return await _drive({Begun: split, _Given: work, _Done: collect}, Begun())

    return fan


def _floor_many() -> Once:
    async def only(_: _Given) -> _Stopped:
        await asyncio.sleep(0)
        return _Stopped(result=True)

    return lambda: _drive({_Given: only}, _Given(0))


def _floor_idle() -> Idle:
    async def start(_: int) -> Any:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def ask(_: _Given) -> _Stopped:
            asked.set_result(None)
            return _Stopped(await answer)

        run = asyncio.create_task(_drive({_Given: ask}, _Given(0)))
        await asked
        return run, answer

    async def answer(started: Any, words: str) -> str:
        run, waits = started
        waits.set_result(words)
        return await run

    return Idle(start, answer)


# ------------------------------------------------------------ anabranch and its twin by API
# One text for both: they share their words, so that they do the same.


_Words: TypeAlias = Callable[[], SimpleNamespace]


def _anabranch() -> SimpleNamespace:
    from anabranch import workflow

    return SimpleNamespace(**{name: getattr(workflow, name) for name in workflow.__all__})


def _llamaindex() -> SimpleNamespace:
    import workflows
    from workflows import collect, events

    return SimpleNamespace(**{**vars(events), **vars(collect), **vars(workflows)})


def _typed_run(words: _Words) -> Once:
    said = words()

    class Run(said.Workflow):
        @said.step
        async def only(self, ev: said.StartEvent) -> said.StopEvent:
            return said.StopEvent(result=True)

    return Run(timeout=None).run


def _typed_chain(words: _Words) -> Chain:
    said = words()

    class Go(said.Event):
        left: int

    class Chain(said.Workflow):
        @said.step
        async def start(self, ev: said.StartEvent) -> Go:
            return Go(left=ev.count)

        @said.step
        async def go(self, ev: Go) -> Go | said.StopEvent:
            if ev.left:
                return Go(left=ev.left - 1)
            return said.StopEvent(result=ev.left)

    workflow = Chain(timeout=None)
    return lambda count: workflow.run(count=count)


def _typed_fan(words: _Words) -> Fan:
    said = words()

    class Given(said.Event):
        number: int

    class Done(said.Event):
        number: int

    class Fan(said.Workflow):
        @said.step
        async def split(self, ev: said.StartEvent) -> list[Given]:
            return [Given(number=number) for number in range(ev.count)]

        @said.step(num_workers=WORKERS)
        async def work(self, ev: Given) -> Done:
            return Done(number=ev.number)

        @said.step
        async def join(self, evs: Annotated[list[Done], said.Collect()]) -> said.StopEvent:
            return said.StopEvent(result=len(evs))

    workflow = Fan(timeout=None)
    return lambda count: workflow.run(count=count)


def _typed_fan_by_hand(words: _Words) -> Fan:
    said = words()

    class Given(said.Event):
        number: int

    class Done(said.Event):
        number: int

    class Fan(said.Workflow):
        def __init__(self, count: int) -> None:
            super().__init__(timeout=None)
            self.count = count

        @said.step
        async def split(self, ctx: said.Context, ev: said.StartEvent) -> Given | None:
            for number in range(self.count):
                ctx.send_event(Given(number=number))

        @said.step(num_workers=WORKERS)
        async def work(self, ev: Given) -> Done:
            return Done(number=ev.number)

        @said.step
        async def join(self, ctx: said.Context, ev: Done) -> said.StopEvent | None:
            # The list is made at each call, as the documentation of both has it.
            evs = ctx.collect_events(ev, [Done] * self.count)
            return None if evs is None else said.StopEvent(result=len(evs))

    return lambda count: Fan(count).run()


def _typed_many(words: _Words) -> Once:
    said = words()

    class Turn(said.Workflow):
        @said.step
        async def only(self, ev: said.StartEvent) -> said.StopEvent:
            await asyncio.sleep(0)
            return said.StopEvent(result=True)

    return Turn(timeout=None).run


def _typed_idle(words: _Words) -> Idle:
    said = words()

    class Ask(said.Workflow):
        @said.step
        async def ask(self, ctx: said.Context, ev: said.StartEvent) -> said.StopEvent:
            answer = await ctx.wait_for_event(
                said.HumanResponseEvent,
                waiter_event=said.InputRequiredEvent(prefix="go on?"),
                timeout=None,
            )
            return said.StopEvent(result=answer.response)

    return _asked(said, Ask(timeout=None))


def _typed_idle_between(words: _Words) -> Idle:
    said = words()

    class Ask(said.Workflow):
        @said.step
        async def ask(self, ev: said.StartEvent) -> said.InputRequiredEvent:
            return said.InputRequiredEvent(prefix="go on?")

        @said.step
        async def told(self, ev: said.HumanResponseEvent) -> said.StopEvent:
            return said.StopEvent(result=ev.response)

    return _asked(said, Ask(timeout=None))


def _asked(said: Any, workflow: Any) -> Idle:
    async def start(_: int) -> Any:
        handler = workflow.run()
        async for event in handler.stream_events():
            if isinstance(event, said.InputRequiredEvent):
                return handler
        raise RuntimeError("the run is over and asked nothing")

    async def answer(handler: Any, words: str) -> str:
        handler.ctx.send_event(said.HumanResponseEvent(response=words))
        return await handler

    return Idle(start, answer)


def _typed(words: _Words) -> Engine:
    return Engine(
        run=partial(_typed_run, words),
        chain=partial(_typed_chain, words),
        fan=partial(_typed_fan, words),
        fan_by_hand=partial(_typed_fan_by_hand, words),
        many=partial(_typed_many, words),
        idle=partial(_typed_idle, words),
        idle_between=partial(_typed_idle_between, words),
    )


# ------------------------------------------------------------------------------- LangGraph
# Its events are one dictionary of state; nodes at once, a superstep at a time.


def _langgraph_only(step: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(_Asked)
    graph.add_node("only", step)
    graph.add_edge(START, "only")
    graph.add_edge("only", END)
    return graph.compile(**options)


class _Asked(TypedDict):
    result: Any


def _langgraph_run() -> Once:
    async def only(_: _Asked) -> _Asked:
        return {"result": True}

    graph = _langgraph_only(only)

    async def run() -> Any:
        return (await graph.ainvoke({"result": None}))["result"]

    return run


def _langgraph_chain() -> Chain:
    from langgraph.graph import END, START, StateGraph

    class State(TypedDict):
        left: int

    async def go(state: State) -> State:
        return {"left": state["left"] - 1}

    graph = StateGraph(State)
    graph.add_node("go", go)
    graph.add_edge(START, "go")
    graph.add_conditional_edges("go", lambda state: "go" if state["left"] else END)
    compiled = graph.compile()

    async def chain(count: int) -> int:
        options = {"recursion_limit": count + 1}
        return (await compiled.ainvoke({"left": count}, options))["left"]

    return chain


def _langgraph_fan() -> Fan:
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    class State(TypedDict):
        count: int
        done: Annotated[list[int], operator.add]
        result: int

    class Given(TypedDict):
        number: int

    def split(state: State) -> list[Send]:
        return [Send("work", {"number": number}) for number in range(state["count"])]

    async def work(given: Given) -> dict[str, list[int]]:
        return {"done": [given["number"]]}

    async def join(state: State) -> dict[str, int]:
        return {"result": len(state["done"])}

    graph = StateGraph(State)
    graph.add_node("work", work)
    graph.add_node("join", join)
    graph.add_conditional_edges(START, split, ["work"])
    graph.add_edge("work", "join")
    graph.add_edge("join", END)
    compiled = graph.compile()

    async def fan(count: int) -> int:
        options = {"max_concurrency": WORKERS}
        return (await compiled.ainvoke({"count": count, "done": []}, options))["result"]

    return fan


def _langgraph_many() -> Once:
    async def only(_: _Asked) -> _Asked:
        await asyncio.sleep(0)
        return {"result": True}

    graph = _langgraph_only(only)

    async def run() -> Any:
        return (await graph.ainvoke({"result": None}))["result"]

    return run


def _langgraph_idle() -> Idle:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command, interrupt

    async def ask(_: _Asked) -> _Asked:
        return {"result": interrupt("go on?")}

    graph = _langgraph_only(ask, checkpointer=InMemorySaver())

    async def start(number: int) -> Any:
        options = {"configurable": {"thread_id": str(number)}}
        if not (await graph.ainvoke({"result": None}, options))["__interrupt__"]:
            raise RuntimeError("the run is over and asked nothing")
        return options

    async def answer(options: Any, words: str) -> str:
        return (await graph.ainvoke(Command(resume=words), options))["result"]

    return Idle(start, answer)


# -------------------------------------------------------------------------- pydantic-graph


def _pydantic_only(step: Callable[[Any], Awaitable[bool]]) -> Once:
    from pydantic_graph import GraphBuilder

    build = GraphBuilder(output_type=bool)
    only = build.step(step, node_id="only")
    build.add(build.edge_from(build.start_node).to(only))
    build.add(build.edge_from(only).to(build.end_node))
    return build.build().run


def _pydantic_run() -> Once:
    async def only(_: Any) -> bool:
        return True

    return _pydantic_only(only)


def _pydantic_chain() -> Chain:
    # By node classes, which cost it less than steps and decisions do.
    from pydantic_graph import BaseNode, End, GraphBuilder, GraphRunContext, StepContext

    @dataclass
    class Go(BaseNode[None, None, int]):
        left: int

        async def run(self, ctx: GraphRunContext[None, None]) -> "Go | End[int]":
            return Go(self.left - 1) if self.left else End(self.left)

    build = GraphBuilder(input_type=int, output_type=int)

    @build.step
    async def start(ctx: StepContext[None, None, int]) -> Go:
        return Go(ctx.inputs)

    build.add(build.node(Go), build.edge_from(build.start_node).to(start))
    graph = build.build()
    return lambda count: graph.run(inputs=count)


def _pydantic_fan() -> Fan:
    # It bounds no number of workers: all events of a map run at once.
    from pydantic_graph import GraphBuilder, StepContext, reduce_list_append

    build = GraphBuilder(input_type=int, output_type=int)

    @build.step
    async def split(ctx: StepContext[None, None, int]) -> list[int]:
        return list(range(ctx.inputs))

    @build.step
    async def work(ctx: StepContext[None, None, int]) -> int:
        return ctx.inputs

    @build.step
    async def join(ctx: StepContext[None, None, list[int]]) -> int:
        return len(ctx.inputs)

    collect = build.join(reduce_list_append, initial_factory=list[int])
    build.add(
        build.edge_from(build.start_node).to(split),
        build.edge_from(split).map().to(work),
        build.edge_from(work).to(collect),
        build.edge_from(collect).to(join),
        build.edge_from(join).to(build.end_node),
    )
    graph = build.build()
    return lambda count: graph.run(inputs=count)


def _pydantic_many() -> Once:
    async def only(_: Any) -> bool:
        await asyncio.sleep(0)
        return True

    return _pydantic_only(only)


# ------------------------------------------------------------------------------------ Burr
# Its graph is built once; its application is one run, so each run builds one.


def _burr_only(graph: Any) -> Once:
    from burr.core import ApplicationBuilder

    async def run() -> Any:
        made = ApplicationBuilder().with_graph(graph).with_entrypoint("only")
        application = await made.with_state(result=None).abuild()
        _, _, state = await application.arun(halt_after=["only"])
        return state["result"]

    return run


def _burr_run() -> Once:
    from burr.core import GraphBuilder, State, action

    @action(reads=[], writes=["result"])
    async def only(state: State) -> State:
        return state.update(result=True)

    return _burr_only(GraphBuilder().with_actions(only).build())


def _burr_chain() -> Chain:
    from burr.core import ApplicationBuilder, GraphBuilder, State, action, default, expr

    @action(reads=["left"], writes=["left"])
    async def go(state: State) -> State:
        return state.update(left=state["left"] - 1)

    @action(reads=["left"], writes=["result"])
    async def stop(state: State) -> State:
        return state.update(result=state["left"])

    made = GraphBuilder().with_actions(go, stop)
    graph = made.with_transitions(("go", "go", expr("left > 0")), ("go", "stop", default))
    built = graph.build()

    async def chain(count: int) -> int:
        made = ApplicationBuilder().with_graph(built).with_entrypoint("go")
        application = await made.with_state(left=count).abuild()
        _, _, state = await application.arun(halt_after=["stop"])
        return state["result"]

    return chain


def _burr_fan() -> Fan:
    # Async tasks are gathered: it bounds no number of workers.
    from burr.core import ApplicationBuilder, GraphBuilder, State, action
    from burr.core.parallelism import MapStates

    @action(reads=["number"], writes=["done"])
    async def work(state: State) -> State:
        return state.update(done=state["number"])

    class Split(MapStates):
        def is_async(self) -> bool:
            return True

        def action(self, state: State, inputs: dict[str, Any]) -> Any:
            return work

        async def states(self, state: State, context: Any, inputs: dict[str, Any]) -> Any:
            for number in range(state["count"]):
                yield state.update(number=number)

        async def reduce(self, state: State, states: Any) -> State:
            done = [each["done"] async for each in states]
            return state.update(result=len(done))

        @property
        def reads(self) -> list[str]:
            return ["count"]

        @property
        def writes(self) -> list[str]:
            return ["result"]

    graph = GraphBuilder().with_actions(split=Split()).build()

    async def fan(count: int) -> int:
        made = ApplicationBuilder().with_graph(graph).with_entrypoint("split")
        application = await made.with_state(count=count).abuild()
        _, _, state = await application.arun(halt_after=["split"])
        return state["result"]

    return fan


def _burr_many() -> Once:
    from burr.core import GraphBuilder, State, action

    @action(reads=[], writes=["result"])
    async def only(state: State) -> State:
        await asyncio.sleep(0)
        return state.update(result=True)

    return _burr_only(GraphBuilder().with_actions(only).build())


def _burr_idle() -> Idle:
    # The application stops before the action that needs what a human says.
    from burr.core import ApplicationBuilder, GraphBuilder, State, action

    @action(reads=[], writes=["asked"])
    async def ask(state: State) -> State:
        return state.update(asked="go on?")

    @action(reads=[], writes=["result"])
    async def take(state: State, words: str) -> State:
        return state.update(result=words)

    graph = GraphBuilder().with_actions(ask, take).with_transitions(("ask", "take"))
    built = graph.build()

    async def start(_: int) -> Any:
        made = ApplicationBuilder().with_graph(built).with_entrypoint("ask")
        application = await made.with_state(asked=None).abuild()
        _, _, state = await application.arun(halt_before=["take"])
        if not state["asked"]:
            raise RuntimeError("the run is over and asked nothing")
        return application

    async def answer(application: Any, words: str) -> str:
        _, _, state = await application.arun(halt_after=["take"], inputs={"words": words})
        return state["result"]

    return Idle(start, answer)


# -------------------------------------------------------------------------------- Haystack


def _haystack() -> SimpleNamespace:
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    import haystack
    from haystack.core.component.types import GreedyVariadic

    return SimpleNamespace(
        Pipeline=haystack.Pipeline,
        component=haystack.component,
        GreedyVariadic=GreedyVariadic,
    )


def _haystack_run() -> Once:
    said = _haystack()

    @said.component
    class Only:
        @said.component.output_types(result=bool)
        def run(self, given: bool) -> dict[str, bool]:
            return {"result": given}

        @said.component.output_types(result=bool)
        async def run_async(self, given: bool) -> dict[str, bool]:
            return {"result": given}

    return _haystack_only(said, Only())


def _haystack_many() -> Once:
    said = _haystack()

    @said.component
    class Only:
        @said.component.output_types(result=bool)
        def run(self, given: bool) -> dict[str, bool]:
            return {"result": given}

        @said.component.output_types(result=bool)
        async def run_async(self, given: bool) -> dict[str, bool]:
            await asyncio.sleep(0)
            return {"result": given}

    return _haystack_only(said, Only())


def _haystack_only(said: SimpleNamespace, only: Any) -> Once:
    pipeline = said.Pipeline()
    pipeline.add_component("only", only)

    async def run() -> Any:
        return (await pipeline.run_async({"only": {"given": True}}))["only"]["result"]

    return run


def _haystack_chain() -> Chain:
    # No component may be connected to itself: two give each other the work, each a step.
    said = _haystack()

    @said.component
    class Go:
        @said.component.output_types(left=int, result=int)
        def run(self, given: said.GreedyVariadic[int]) -> dict[str, int]:
            (left,) = given
            return {"left": left - 1} if left else {"result": left}

        @said.component.output_types(left=int, result=int)
        async def run_async(self, given: said.GreedyVariadic[int]) -> dict[str, int]:
            (left,) = given
            return {"left": left - 1} if left else {"result": left}

    pipeline = said.Pipeline(max_runs_per_component=10**9)
    pipeline.add_component("ping", Go())
    pipeline.add_component("pong", Go())
    pipeline.connect("ping.left", "pong.given")
    pipeline.connect("pong.left", "ping.given")

    async def chain(count: int) -> int:
        done = await pipeline.run_async({"ping": {"given": count}})
        return (done.get("ping") or done["pong"])["result"]

    return chain


# Ours last: a picture sets the last row off.
ENGINES = {
    "asyncio": Engine(
        run=_floor_run,
        chain=_floor_chain,
        fan=_floor_fan,
        many=_floor_many,
        idle=_floor_idle,
    ),
    "haystack": Engine(
        run=_haystack_run,
        chain=_haystack_chain,
        fan="a pipeline has as many components as were added to it",
        many=_haystack_many,
        idle="a run cannot wait for an answer",
    ),
    "langgraph": Engine(
        run=_langgraph_run,
        chain=_langgraph_chain,
        fan=_langgraph_fan,
        many=_langgraph_many,
        idle=_langgraph_idle,
    ),
    "llama-index": _typed(_llamaindex),
    "pydantic-graph": Engine(
        run=_pydantic_run,
        chain=_pydantic_chain,
        fan=_pydantic_fan,
        many=_pydantic_many,
        idle="a graph has no word for an answer from outside",
    ),
    "burr": Engine(
        run=_burr_run,
        chain=_burr_chain,
        fan=_burr_fan,
        many=_burr_many,
        idle=_burr_idle,
    ),
    "anabranch": _typed(_anabranch),
}

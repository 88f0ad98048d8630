"""What drawings of workflows and runs show, and that nothing in them can do harm."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import pytest
from pydantic import BaseModel

from anabranch.errors import UsageError
from anabranch.testing import run_virtual
from anabranch.workflow import (
    Collect,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    Resource,
    ResourceConfig,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Workflow,
    WorkflowHandler,
    catch_error,
    step,
)
from anabranch.workflow.drawing import (
    draw_all_possible_flows,
    draw_all_possible_flows_mermaid,
    draw_all_possible_flows_svg,
    draw_most_recent_execution,
    draw_most_recent_execution_mermaid,
    draw_most_recent_execution_svg,
)
from anabranch.workflow.drawing.record import Attempt, RunRecord
from anabranch.workflow.drawing.runs import run_graph
from anabranch.workflow.retry_policy import retry_policy, stop_after_attempt, wait_fixed

SVG = "{http://www.w3.org/2000/svg}"


class Question(Event):
    text: str = ""


class Part(Event):
    number: int


class Done(Event):
    number: int


class Rejected(Event):
    turn: int = 0


class Draft(Event):
    turn: int = 0


class Approval(InputRequiredEvent):
    pass


class Decision(HumanResponseEvent):
    is_yes: bool = True


class Answering(Workflow):
    @step
    async def read(self, ev: StartEvent) -> Question:
        """Understand what is asked."""
        await asyncio.sleep(0.25)
        return Question()

    @step
    async def end(self, ev: Question) -> StopEvent:
        await asyncio.sleep(0.5)
        return StopEvent(result=42)


class Improving(Workflow):
    turns = 2

    @step
    async def write(self, ev: StartEvent | Rejected) -> Draft:
        return Draft(turn=ev.turn if isinstance(ev, Rejected) else 0)

    @step
    async def judge(self, ev: Draft) -> Rejected | StopEvent:
        if ev.turn < self.turns:
            return Rejected(turn=ev.turn + 1)
        return StopEvent(result=ev.turn)


class Fanning(Workflow):
    """A thousand parts; some fail once, some fail for good."""

    parts = 1000

    @step
    async def divide(self, ev: StartEvent) -> list[Part]:
        self.failed = set[int]()
        return [Part(number=number) for number in range(self.parts)]

    @step(
        num_workers=50,
        retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)),
    )
    async def work(self, ev: Part) -> Done:
        await asyncio.sleep(0.1 + ev.number % 5 / 10)
        if ev.number % 100 == 7:
            raise ValueError(f"part {ev.number} is broken")
        if ev.number % 100 == 8 and ev.number not in self.failed:
            self.failed.add(ev.number)
            raise ConnectionError("reset")
        return Done(number=ev.number)

    @catch_error(for_steps=["work"])
    async def replace(self, ev: StepFailedEvent) -> Done:
        return Done(number=-1)

    @step
    async def gather(self, parts: Annotated[list[Done], Collect()]) -> StopEvent:
        return StopEvent(result=len(parts))


class Asking(Workflow):
    @step
    async def propose(self, ev: StartEvent) -> Approval:
        return Approval()

    @step
    async def act(self, ev: Decision) -> StopEvent:
        return StopEvent(result=ev.is_yes)


class Client:
    pass


class Settings(BaseModel):
    top: int = 5


def make_pool() -> Client:
    return Client()


def make_client(pool: Annotated[Client, Resource(make_pool)]) -> Client:
    return Client()


class Using(Workflow):
    @step
    async def search(
        self,
        ev: StartEvent,
        client: Annotated[Client, Resource(make_client)],
        settings: Annotated[Settings, ResourceConfig("settings.json", "search")],
    ) -> StopEvent:
        return StopEvent()


class Nesting(Workflow):
    @step
    async def delegate(self, ev: StartEvent, helper: Answering) -> StopEvent:
        return StopEvent(result=await helper.run())


HOSTILE = "</style></svg><script>alert('x')</script>\"'`&\x1b[31m\x00\ud800 --> end"


class Failing(Workflow):
    @step
    async def read(self, ev: StartEvent) -> Question:
        return Question()

    @step
    async def answer(self, ev: Question) -> StopEvent:
        raise RuntimeError(HOSTILE)


def run(workflow: Workflow) -> WorkflowHandler:
    """The handler of a run that is over, however it ended."""

    async def main() -> WorkflowHandler:
        handler = workflow.run()
        await asyncio.wait([asyncio.ensure_future(settled(handler))])
        return handler

    return run_virtual(main())


async def settled(handler: WorkflowHandler) -> None:
    try:
        await handler
    except Exception:  # what it was is told by the handler
        pass


def nodes(mermaid: str) -> dict[str, str]:
    """The labels of a Mermaid flowchart by identifier."""
    found = re.findall(r'^    (\w+)[\[({/]+"(.*)"[\])}/]+:::\w+$', mermaid, re.MULTILINE)
    return dict(found)


def edges(mermaid: str) -> set[tuple[str, str, str]]:
    """The edges, as the labels of both ends with that of the edge between them."""
    labels = nodes(mermaid)
    found = re.findall(r'^    (\w+) -\.?->(?:\|"(.*)"\|)? (\w+)$', mermaid, re.MULTILINE)
    return {(first(labels[a]), label, first(labels[b])) for a, label, b in found}


def first(label: str) -> str:
    return label.partition("<br/>")[0]


def texts(svg: str) -> list[str]:
    """All texts that an SVG shows; it must be well-formed for that."""
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


# ------------------------------------------------------------- all possible flows


def test_a_workflow_is_drawn_from_its_start_to_its_stop() -> None:
    assert edges(draw_all_possible_flows_mermaid(Answering())) == {
        ("StartEvent", "", "read"),
        ("read", "", "Question"),
        ("Question", "", "end"),
        ("end", "", "StopEvent"),
    }


def test_a_loop_is_drawn_as_a_circle() -> None:
    drawn = edges(draw_all_possible_flows_mermaid(Improving()))
    assert {("judge", "", "Rejected"), ("Rejected", "", "write")} <= drawn


def test_lists_collecting_steps_and_handlers_are_told_apart() -> None:
    drawn = edges(draw_all_possible_flows_mermaid(Fanning()))
    assert ("divide", "list", "Part") in drawn
    assert ("Done", "collect", "gather") in drawn
    assert ("work", "fails", "StepFailedEvent") in drawn
    assert ("StepFailedEvent", "", "replace") in drawn


def test_what_is_asked_goes_outside_and_answers_come_from_there() -> None:
    drawn = edges(draw_all_possible_flows_mermaid(Asking()))
    assert {("Approval", "", "outside"), ("outside", "", "Decision")} <= drawn


def test_resources_are_drawn_with_what_they_need_themselves() -> None:
    drawn = edges(draw_all_possible_flows_mermaid(Using()))
    assert ("make_client", "client", "search") in drawn
    assert ("make_pool", "pool", "make_client") in drawn
    assert ("settings.json.search", "settings", "search") in drawn


def test_a_nested_workflow_is_a_box_and_on_a_page_a_graph_of_its_own(
    tmp_path: Path,
) -> None:
    workflow = Nesting()
    workflow.add_workflows(helper=Answering())
    drawn = edges(draw_all_possible_flows_mermaid(workflow))
    assert ("Answering", "helper", "delegate") in drawn
    page = draw_all_possible_flows(workflow, tmp_path / "nested.html").read_text()
    assert "Nested workflow helper: Answering" in page
    assert 'data-node="g1' in page


def test_a_picture_shows_the_same_names() -> None:
    shown = texts(draw_all_possible_flows_svg(Answering()))
    assert {"Answering", "StartEvent", "read", "Question", "end", "StopEvent"} <= set(shown)


def test_boxes_of_a_picture_do_not_overlap() -> None:
    for workflow in (Fanning(), Using(), Improving(), many_steps(30)()):
        boxes = places(draw_all_possible_flows_svg(workflow))
        for index, (x, y, width, height) in enumerate(boxes):
            for ox, oy, other_width, other_height in boxes[index + 1 :]:
                beside = x + width <= ox or ox + other_width <= x
                assert beside or y + height <= oy or oy + other_height <= y


def places(svg: str) -> list[tuple[float, float, float, float]]:
    found: list[tuple[float, float, float, float]] = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if "data-node" not in group.attrib:
            continue
        x, y = map(float, re.findall(r"[\d.]+", group.attrib["transform"]))
        box = next(part for part in group if "box" in part.attrib.get("class", ""))
        numbers = [float(n) for n in re.findall(r"[\d.]+", box.attrib.get("points", "0,0"))]
        width = float(box.attrib.get("width", max(numbers[::2])))
        height = float(box.attrib.get("height", max(numbers[1::2])))
        found.append((x, y, width, height))
    return found


def many_steps(count: int) -> type[Workflow]:
    """A workflow of so many steps, with shortcuts and a way back."""
    events = [
        type(f"Event{n}", (Event,), {"__module__": __name__}) for n in range(count + 5)
    ]

    def made(number: int) -> Callable[..., Any]:
        async def body(self: Any, ev: Any) -> Any: ...

        returns: Any = events[number] if number < count - 1 else StopEvent
        if number % 7 == 5:
            returns = returns | events[number + 3 if number + 3 < count - 1 else 1]
        body.__name__ = f"step_{number}"
        body.__qualname__ = f"Many.step_{number}"
        takes = events[number - 1] if number else StartEvent
        body.__annotations__ = {"ev": takes, "return": returns}
        return step(body)

    return type("Many", (Workflow,), {f"step_{n}": made(n) for n in range(count)})


# ---------------------------------------------------------------------- a run


def test_a_run_shows_what_each_step_took() -> None:
    labels = nodes(draw_most_recent_execution_mermaid(run(Answering()))).values()
    assert {"read<br/>250 ms", "end<br/>500 ms"} <= set(labels)


def test_the_turns_of_a_short_loop_are_drawn_one_by_one() -> None:
    labels = nodes(draw_most_recent_execution_mermaid(run(Improving()))).values()
    assert [first(label) for label in labels].count("write") == 3


def test_the_turns_of_a_long_loop_are_drawn_as_one_and_it_says_so() -> None:
    workflow = Improving()
    workflow.turns = 100
    text = draw_most_recent_execution_mermaid(run(workflow))
    assert [first(label) for label in nodes(text).values()].count("write") == 1
    assert "× 101" in text
    assert ("Rejected × 100", "", "write") in edges(text)
    assert "All turns of a loop are drawn as one" in text


def test_a_thousand_executions_are_one_box_with_number_times_retries_and_failures() -> None:
    handler = run(Fanning())
    assert handler.result() == 1000
    text = draw_most_recent_execution_mermaid(handler)
    [work] = [label for label in nodes(text).values() if first(label) == "work"]
    assert work.split("<br/>") == [
        "work",
        "× 1,000",
        "min 100 ms · median 300 ms · max 500 ms",
        "20 retries · 10 recovered",
    ]
    assert {
        ("divide", "list", "Part × 1,000"),
        ("work", "", "StepFailedEvent × 10"),
        ("StepFailedEvent × 10", "", "replace"),
        ("Done × 990", "collect", "gather"),
        ("Done × 10", "collect", "gather"),
    } <= edges(text)


def test_a_page_of_a_large_run_stays_small(tmp_path: Path) -> None:
    path = draw_most_recent_execution(run(Fanning()), tmp_path / "run.html")
    assert path.stat().st_size < 200_000


def test_when_the_beginning_of_a_run_is_forgotten_the_drawing_says_so() -> None:
    workflow = Fanning()
    workflow.parts = 6000
    text = draw_most_recent_execution_mermaid(run(workflow))
    assert "Some of this run is no longer remembered: the last " in text
    drawn = edges(text)
    [part] = [to for source, _, to in drawn if source == "earlier, not remembered"]
    assert part.startswith("Part × ")
    assert (part, "", "work") in drawn
    collected = {source for source, label, _ in drawn if label == "collect"}
    assert all(source.startswith("Done × ") for source in collected)


def test_a_failure_is_shown_with_its_error() -> None:
    handler = run(Failing())
    labels = [*map(first, nodes(draw_most_recent_execution_mermaid(handler)).values())]
    assert "StopEvent" not in labels
    shown = texts(draw_most_recent_execution_svg(handler))
    assert "failed" in shown
    assert any(text.startswith("RuntimeError: ") for text in shown)


def test_a_run_under_way_shows_what_is_at_work_and_what_waits_its_turn() -> None:
    async def main() -> str:
        handler = Fanning().run()
        await asyncio.sleep(0.35)
        text = draw_most_recent_execution_mermaid(handler)
        svg = draw_most_recent_execution_svg(handler)
        assert any("under way" in shown for shown in texts(svg))
        await handler.cancel_run()
        return text

    text = run_virtual(main())
    [work] = [label for label in nodes(text).values() if first(label) == "work"]
    assert re.search(r"50 running · \d+ queued", work)
    assert not re.search(r"-\d+ retries", work)


def test_a_run_that_has_not_begun_can_be_drawn(tmp_path: Path) -> None:
    async def main() -> Path:
        handler = Answering().run()
        path = draw_most_recent_execution(handler, tmp_path / "run.html")
        draw_most_recent_execution(handler, tmp_path / "run.svg")
        await handler
        return path

    assert "under way" in run_virtual(main()).read_text()


def test_a_step_that_waits_for_an_answer_is_shown_waiting() -> None:
    class Waiting(Workflow):
        @step
        async def ask(self, ev: StartEvent, ctx: Context) -> StopEvent:
            await ctx.wait_for_event(Decision)
            return StopEvent()

    async def main() -> str:
        handler = Waiting().run()
        await asyncio.sleep(1)
        text = draw_most_recent_execution_mermaid(handler)
        await handler.send_event(Decision())
        await handler
        return text

    assert "ask<br/>waiting" in nodes(run_virtual(main())).values()


def test_an_answer_is_joined_to_what_was_asked() -> None:
    async def main() -> str:
        handler = Asking().run()
        await asyncio.sleep(1)
        await handler.send_event(Decision())
        await handler
        return draw_most_recent_execution_mermaid(handler)

    assert ("Approval", "", "Decision") in edges(run_virtual(main()))


def test_a_run_has_a_lane_for_each_step_with_its_attempts() -> None:
    shown = texts(draw_most_recent_execution_svg(run(Fanning())))
    assert "1,020 attempts, 50 at once" in shown
    assert "10 attempts" in shown


# ----------------------------------------------------------------- what is harmless


class Parsed(HTMLParser):
    """The scripts, addresses and handlers of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def hostile_workflow() -> Workflow:
    name = "</title><script>alert(1)</script>"
    event = type('"><img src=x onerror=alert(2)>', (Event,), {"__module__": "m"})

    async def begin(self: Any, ev: Any) -> Any: ...
    async def finish(self: Any, ev: Any) -> Any: ...

    begin.__annotations__ = {"ev": StartEvent, "return": event}
    finish.__annotations__ = {"ev": event, "return": StopEvent}
    begin.__doc__ = "<b>bold</b>"
    begin.__qualname__, finish.__qualname__ = "Hostile.begin", "Hostile.finish"
    steps = {"begin": step(begin), "finish": step(finish)}
    made: type[Workflow] = type("Hostile", (Workflow,), steps)
    return made(workflow_name=name)


@pytest.mark.parametrize("what", ["flows", "run"])
def test_names_and_errors_with_markup_do_no_harm(what: str, tmp_path: Path) -> None:
    if what == "flows":
        workflow = hostile_workflow()
        page = draw_all_possible_flows(workflow, tmp_path / "a.html").read_text()
        svg = draw_all_possible_flows_svg(workflow)
        mermaid = draw_all_possible_flows_mermaid(workflow)
    else:
        handler = run(Failing())
        page = draw_most_recent_execution(handler, tmp_path / "a.html").read_text()
        svg = draw_most_recent_execution_svg(handler)
        mermaid = draw_most_recent_execution_mermaid(handler)
    parsed = Parsed(page)
    assert parsed.tags.count("script") == 1
    assert "img" not in parsed.tags
    assert not parsed.addresses
    assert not parsed.handlers
    assert not [
        e for e in ET.fromstring(svg).iter() if e.tag in (f"{SVG}script", f"{SVG}img")
    ]
    assert not re.search(r"<(?!br/>)", mermaid)
    assert "\x00" not in page + svg + mermaid
    assert "\x1b" not in page + svg + mermaid


def test_a_page_needs_no_network_and_runs_only_its_own_script(tmp_path: Path) -> None:
    page = draw_all_possible_flows(Using(), tmp_path / "flows.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page
    assert "script-src 'sha256-" in page


def test_a_picture_names_no_address_but_that_of_svg_itself() -> None:
    svg = draw_most_recent_execution_svg(run(Answering()))
    assert set(re.findall(r"\w+://[^\s\"']+", svg)) == {"http://www.w3.org/2000/svg"}


def test_no_identifier_of_mermaid_text_is_a_word_of_mermaids_own() -> None:
    words = {"end", "graph", "subgraph", "class", "style", "click", "default", "flowchart"}
    for text in (
        draw_all_possible_flows_mermaid(Answering()),
        draw_most_recent_execution_mermaid(run(Answering())),
    ):
        names = nodes(text)
        assert names
        assert not words & {name.lower() for name in names}
        assert all(re.fullmatch(r"[A-Za-z]\w*", name) for name in names)


def test_every_edge_of_mermaid_text_joins_two_nodes_that_are_there() -> None:
    text = draw_all_possible_flows_mermaid(Fanning())
    arrows = [line for line in text.splitlines() if "->" in line]
    assert len(edges(text)) == len(arrows)


# -------------------------------------------------------------- files and options


@pytest.mark.parametrize(
    ("ending", "begins"),
    [
        ("html", "<!doctype html>"),
        ("svg", "<svg "),
        ("mmd", "%% Answering\nflowchart TD\n"),
        ("md", "```mermaid\n"),
        ("HTML", "<!doctype html>"),
    ],
)
def test_the_ending_of_a_file_says_how_to_draw(
    ending: str, begins: str, tmp_path: Path
) -> None:
    path = tmp_path / f"drawing.{ending}"
    assert draw_all_possible_flows(Answering(), str(path)) == path
    assert path.read_text().startswith(begins)
    assert draw_most_recent_execution(run(Answering()), path) == path
    assert path.read_text().startswith(begins)


@pytest.mark.parametrize("name", ["drawing.png", "drawing"])
def test_another_ending_is_refused_by_a_sentence_and_nothing_is_written(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"must end in \.html, \.svg, \.mmd or \.md"):
        draw_all_possible_flows(Answering(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_text_is_also_written_where_a_name_says(tmp_path: Path) -> None:
    path = tmp_path / "flows.txt"
    assert draw_all_possible_flows_mermaid(Answering(), path) == path.read_text()
    assert draw_all_possible_flows_svg(Answering(), path) == path.read_text()


def test_the_same_workflow_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    for ending in ("html", "svg", "mmd"):
        one = draw_all_possible_flows(Fanning(), tmp_path / f"one.{ending}")
        other = draw_all_possible_flows(Fanning(), tmp_path / f"other.{ending}")
        assert one.read_bytes() == other.read_bytes()


def test_a_run_is_drawn_the_same_each_time() -> None:
    handler = run(Fanning())
    again = draw_most_recent_execution_svg(handler)
    assert draw_most_recent_execution_svg(handler) == again


def test_long_names_are_shortened_on_request_and_kept_in_what_is_told() -> None:
    svg = draw_all_possible_flows_svg(Answering(), None, 5)
    assert "Star…" in texts(svg)
    assert "StartEvent (start event)" in svg
    assert "Ques…" in draw_all_possible_flows_mermaid(Answering(), None, 5)


def test_a_name_cannot_be_shortened_to_nothing() -> None:
    with pytest.raises(UsageError, match="max_label_length must be at least 1"):
        draw_all_possible_flows_mermaid(Answering(), None, 0)


# ------------------------------------------------------------------------ the heart


def recorded(*attempts: Attempt, end: str | None) -> RunRecord:
    return RunRecord(
        run_id="r",
        workflow="Some",
        began_at=0.0,
        now=5.0,
        end=end,
        error=None,
        last_event=None,
        attempts=attempts,
        ongoing=(),
        steps={},
        kinds={},
        is_cut=False,
    )


def test_what_the_end_of_a_run_cut_off_is_told_from_what_failed() -> None:
    attempt = Attempt(1, 0, "wait", 1, ("StartEvent",), (), 1.0, 5.0, "CancelledError: end")
    graph = run_graph(recorded(attempt, end="cancelled"))
    [node] = [node for node in graph.nodes if node.kind == "step"]
    assert (node.tone, node.notes) == ("warned", ("4 s", "cut off"))
    assert not graph.remarks
    failed = run_graph(recorded(attempt._replace(error="ValueError: no"), end="failed"))
    [node] = [node for node in failed.nodes if node.kind == "step"]
    assert node.tone == "bad"
    assert not failed.remarks


def test_what_was_at_work_when_a_run_ended_is_shown_as_cut_off() -> None:
    class Race(Workflow):
        @step
        async def divide(self, ev: StartEvent) -> list[Part]:
            return [Part(number=n) for n in range(3)]

        @step
        async def work(self, ev: Part) -> StopEvent:
            await asyncio.sleep(1 + 10 * ev.number)
            return StopEvent()

    async def main() -> WorkflowHandler:
        handler = Race().run()
        await handler
        return handler

    shown = texts(draw_most_recent_execution_svg(run_virtual(main())))
    assert any("2 cut off" in text for text in shown), shown

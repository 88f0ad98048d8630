"""A workflow that asks a person, is put away, and goes on when the answer comes.

Three drafts are written at once. A person is asked which one is best; meanwhile the run is
nothing but a file, which could wait for a week and go on in another process.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

from anabranch.workflow import (
    Collect,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from anabranch.workflow.drawing import draw_all_possible_flows_mermaid


class Style(Event):
    name: str


class Draft(Event):
    style: str
    text: str


class Question(InputRequiredEvent):
    drafts: list[str]


class Review(Workflow):
    @step
    async def plan(self, ctx: Context, ev: StartEvent) -> list[Style]:
        await ctx.store.set("topic", ev.topic)
        return [Style(name=name) for name in ("short", "loud", "plain")]

    @step(num_workers=3)
    async def write(self, ctx: Context, ev: Style) -> Draft:
        topic = await ctx.store.get("topic")
        await asyncio.sleep(0.01)  # where a model would be asked
        text = {"short": topic, "loud": topic.upper() + "!", "plain": f"About {topic}."}
        return Draft(style=ev.name, text=text[ev.name])

    @step
    async def ask(
        self, ctx: Context, drafts: Annotated[list[Draft], Collect()]
    ) -> Question:
        texts = sorted(draft.text for draft in drafts)
        await ctx.store.set("drafts", texts)
        return Question(drafts=texts)

    @step
    async def finish(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent:
        drafts = await ctx.store.get("drafts")
        return StopEvent(result=drafts[ev.choice])


async def begin() -> str:
    """The run, written down where it waits for an answer."""
    handler = Review(timeout=None).run(topic="rivers")
    async for event in handler.stream_events():
        if isinstance(event, Question):
            print("which is best?", event.drafts)
            break
    written = json.dumps(handler.ctx.to_dict())
    await handler.cancel_run()
    return written


async def answer(written: str, choice: int) -> None:
    """The run, taken up again and answered."""
    review = Review(timeout=None)
    handler = review.run(ctx=Context.from_dict(review, json.loads(written)))
    handler.ctx.send_event(HumanResponseEvent(choice=choice))
    print("chosen:", await handler)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run.json"
        run.write_text(asyncio.run(begin()))
        asyncio.run(answer(run.read_text(), choice=0))
    print(draw_all_possible_flows_mermaid(Review()))

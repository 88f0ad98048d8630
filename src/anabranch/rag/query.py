"""A question as a workflow: retrievers at once, a streamed answer, a person's word.

::

    Ask ─▶ search, once a retriever ─▶ fuse ─▶ permit ─▶ write ─▶ review ─▶ Answer

What is found comes from documents that anybody may have written. It reaches the model
fenced, as data (:mod:`anabranch.rag.answer`), and nothing in it decides what a step does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel

from anabranch.clock import stopwatch
from anabranch.errors import AnabranchError, UsageError
from anabranch.rag import answer
from anabranch.rag.answer import Message
from anabranch.rag.asking import check_k, check_question
from anabranch.rag.filters import as_filter
from anabranch.rag.retrievers import FusionOptions, FusionRetriever
from anabranch.rag.retrievers.hits import checked_hits
from anabranch.rag.types import Hit, Retriever, Where
from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

__all__ = [
    "Answer",
    "AnswerPiece",
    "AnswerWorkflow",
    "Approval",
    "ApprovalRequired",
    "Ask",
    "Passage",
    "Passages",
    "Writer",
]

TIMEOUT_S = 10.0
# How many passages each retriever is asked for, if not more are wanted.
DEPTH = 100
# Retrievers of one run that are asked at once.
AT_ONCE = 32


class Writer(Protocol):
    """A language model: :class:`~anabranch.rag.chat.ChatModel`, open while runs go."""

    def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        """The answer, piece by piece."""
        ...


class Passage(BaseModel):
    """A :class:`~anabranch.rag.Hit` in an event."""

    key: int
    source: str
    document_id: str
    text: str
    start: int
    end: int
    metadata: dict[str, Any]  # of its values JSON keeps what it has a form for
    score: float
    ranks: dict[str, int]

    @classmethod
    def of(cls, hit: Hit) -> Self:
        return cls(**{name: getattr(hit, name) for name in cls.model_fields})

    @property
    def hit(self) -> Hit:
        return Hit(**{name: getattr(self, name) for name in type(self).model_fields})


class Ask(StartEvent):
    """A question.

    Attributes:
        k: How many passages the answer is written from, at most.
        where: Which passages: an expression, or a mapping of fields to values.
    """

    question: str
    k: int = 5
    where: str | dict[str, Any] | None = None


class Search(Event):
    """One retriever is to be asked."""

    retriever: str
    ask: Ask


class Found(Event):
    """What one retriever found, or why it found nothing."""

    retriever: str
    ask: Ask
    passages: list[Passage]
    error: str | None
    elapsed_s: float


class Passages(Event):
    """What was found together, best first; in the stream of the run.

    Attributes:
        failures: Why retrievers are left out, by their names.
        elapsed_s: What each retriever took.
    """

    question: str
    passages: list[Passage]
    failures: dict[str, str]
    elapsed_s: dict[str, float]


class AnswerPiece(Event):
    """A few characters of the answer, as the model writes them; in the stream of the run.

    In a durable run they are not recorded: who watches from another process sees the answer
    when it is whole.
    """

    text: str


class ApprovalRequired(InputRequiredEvent):
    """Somebody is asked; an :class:`Approval` answers.

    Attributes:
        of: ``"passages"``, before they are sent to the model; ``"answer"``, before it is
            given.
        text: The answer, if it is to be approved.
    """

    of: Literal["passages", "answer"]
    question: str
    passages: list[Passage]
    text: str = ""


class Approval(HumanResponseEvent):
    """Whether it goes on.

    Attributes:
        reason: Why not, for who has asked the question.
    """

    approved: bool
    reason: str = ""


class Permitted(Event):
    """The passages may be sent to the model."""

    found: Passages


class Draft(Event):
    """What the model has written."""

    found: Passages
    text: str


class Answer(StopEvent):
    """How the question ended.

    Attributes:
        text: What the model wrote; empty if there was nothing to write from, or no model.
        cited: The numbers of the passages that the text cites, the first passage being 1,
            in order of their first mention.
        refused: Why a person did not approve; ``None`` if nobody refused.
    """

    question: str
    text: str
    passages: list[Passage]
    cited: list[int]
    failures: dict[str, str]
    refused: str | None = None


class AnswerWorkflow(Workflow):
    """Finds passages for a question, and has an answer written from them.

    ::

        async with ChatModel(url, name) as model:
            workflow = AnswerWorkflow(retrievers, model=model)
            handler = workflow.run(question="How do I install it?")
            async for event in handler.stream_events():
                if isinstance(event, AnswerPiece):
                    print(event.text, end="", flush=True)
            answer = await handler

    Every retriever is a step of its own with its own time; one that fails or is late is in
    ``failures``, and the rest are fused. With ``durable=...`` the run outlives its process,
    and the person who approves may take a week.

    Args:
        retrievers: Each with a name of its own.
        model: Writes the answer; without one, the passages are all there is.
        approve: What a person must approve: ``"passages"`` before they leave for the
            model, or ``"answer"`` before it is given. Nothing by default.
        retriever_timeout: Seconds that each retriever may take, ``None`` for as long as it
            wants; or by name, with 10 for one that is not named.
        fusion: Options of :class:`~anabranch.rag.FusionRetriever`, but for ``expand`` and
            the time-outs.
        timeout: Seconds that a run may take; by default, as long as it wants.
        **options: See :class:`~anabranch.workflow.Workflow`.

    Raises:
        UsageError: An option cannot be meant.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        model: Writer | None = None,
        approve: Literal["passages", "answer"] | None = None,
        retriever_timeout: float | Mapping[str, float | None] | None = TIMEOUT_S,
        fusion: FusionOptions | None = None,
        timeout: float | None = None,
        **options: Any,  # those of Workflow, which checks them
    ) -> None:
        super().__init__(timeout=timeout, **options)
        if approve not in (None, "passages", "answer"):
            raise UsageError(f"approve must be 'passages' or 'answer', not {approve!r}")
        fusion = fusion or {}
        if refused := {"expand", "timeout", "total_timeout"} & set(fusion):
            raise UsageError(
                f"fusion cannot have {', '.join(sorted(refused))} here: give "
                "retriever_timeout=, and further questions runs of their own"
            )
        # It refuses what cannot be meant, now and not when a question is asked.
        checked: FusionOptions = {**fusion, "timeout": retriever_timeout}
        FusionRetriever(retrievers, **checked)
        self._retrievers = {retriever.name: retriever for retriever in retrievers}
        self._model = model
        self._approve = approve
        self._timeout = retriever_timeout
        self._fusion = fusion

    @step
    async def ask(self, ev: Ask) -> list[Search]:
        """Send the question to all retrievers."""
        check_question(ev.question)
        check_k("k", ev.k)
        if ev.where is not None:
            as_filter(ev.where)
        return [Search(retriever=name, ask=ev) for name in self._retrievers]

    @step(num_workers=AT_ONCE)
    async def search(self, ev: Search) -> Found:
        """Ask one retriever, for as long as it may take."""
        passages: list[Passage] = []
        error = None
        now = stopwatch()
        began = now()
        timeout = self._timeout_of(ev.retriever)
        scope = asyncio.timeout(timeout)
        try:
            retriever = self._retrievers[ev.retriever]
            async with scope:
                hits = await retriever.retrieve(
                    ev.ask.question, k=max(ev.ask.k, self._depth), where=ev.ask.where
                )
            passages = [Passage.of(hit) for hit in checked_hits(hits)]
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
            if timeout is not None and scope.expired():
                error = f"no answer within {timeout:g} s"
        return Found(
            retriever=ev.retriever,
            ask=ev.ask,
            passages=passages,
            error=error,
            elapsed_s=now() - began,
        )

    @step
    async def fuse(self, ctx: Context, events: list[Found]) -> Passages:
        """One ranking of what was found in time."""
        asked = events[0].ask
        canned = [_Canned(event) for event in events]
        fused = await FusionRetriever(canned, **self._fusion).fuse(
            asked.question, k=asked.k
        )
        found = Passages(
            question=asked.question,
            passages=[Passage.of(hit) for hit in fused.hits],
            failures={name: str(error) for name, error in fused.failures.items()},
            elapsed_s={event.retriever: event.elapsed_s for event in events},
        )
        ctx.write_event_to_stream(found)
        return found

    @step
    async def permit(self, ctx: Context, ev: Passages) -> Permitted | Answer:
        """Let a person see what would be sent to the model, if one wants to."""
        if not ev.passages or self._model is None:
            return _answer(ev, "")
        if self._approve == "passages":
            word = await self._word(
                ctx,
                ApprovalRequired(of="passages", question=ev.question, passages=ev.passages),
            )
            if not word.approved:
                return _answer(ev, "", refused=word.reason)
        return Permitted(found=ev)

    @step
    async def write(self, ctx: Context, ev: Permitted) -> Draft:
        """Have the answer written, and show it as it comes."""
        assert self._model is not None
        hits = [passage.hit for passage in ev.found.passages]
        pieces: list[str] = []
        messages = answer.messages(ev.found.question, hits)
        async with aclosing(self._model.stream(messages)) as stream:
            async for piece in stream:
                pieces.append(piece)
                ctx.write_event_to_stream(AnswerPiece(text=piece), recorded=False)
        return Draft(found=ev.found, text="".join(pieces))

    @step
    async def review(self, ctx: Context, ev: Draft) -> Answer:
        """Let a person see the answer before it is given, if one wants to."""
        if self._approve == "answer":
            word = await self._word(
                ctx,
                ApprovalRequired(
                    of="answer",
                    question=ev.found.question,
                    passages=ev.found.passages,
                    text=ev.text,
                ),
            )
            if not word.approved:
                return _answer(ev.found, "", refused=word.reason)
        return _answer(ev.found, ev.text)

    async def _word(self, ctx: Context, required: ApprovalRequired) -> Approval:
        return await ctx.wait_for_event(Approval, waiter_event=required, timeout=None)

    @property
    def _depth(self) -> int:
        return self._fusion.get("depth", DEPTH)

    def _timeout_of(self, name: str) -> float | None:
        if isinstance(self._timeout, Mapping):
            return self._timeout.get(name, TIMEOUT_S)
        return self._timeout


class _SearchFailed(AnabranchError):
    """Stands for the error of a retriever that was asked in another step."""


class _Canned:
    """A retriever that has been asked."""

    def __init__(self, found: Found) -> None:
        self.name = found.retriever
        self._found = found

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        if self._found.error is not None:
            raise _SearchFailed(self._found.error)
        return [passage.hit for passage in self._found.passages]


def _answer(found: Passages, text: str, *, refused: str | None = None) -> Answer:
    return Answer(
        question=found.question,
        text=text,
        passages=found.passages,
        cited=answer.cited(text, len(found.passages)),
        failures=found.failures,
        refused=refused,
    )

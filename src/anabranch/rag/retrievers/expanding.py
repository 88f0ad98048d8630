"""Further questions by a language model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from anabranch.errors import ChatError
from anabranch.jobs.check import check_count, check_positive
from anabranch.rag.answer import Message
from anabranch.rag.retrievers.rewriting import MOST_ANSWER, expansion, queries_in


class Expander(Protocol):
    """Gives further questions that are asked beside the first.

    Attributes:
        name: Shown with its failure.
    """

    name: str

    async def expand(self, query: str) -> Sequence[str]:
        """Other ways to ask, best first; those that are no others are left out later."""
        ...


class Streams(Protocol):
    """A chat model, such as :class:`~anabranch.rag.chat.ChatModel`."""

    def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        """The answer, piece by piece."""
        ...


class QueryExpander:
    """Asks a language model for other ways to say a question.

    Whatever it answers, only lines that can be questions are taken. What it writes is
    searched for and nothing else: it can make a search worse, and cannot do harm.

    Args:
        model: An open :class:`~anabranch.rag.chat.ChatModel`.
        count: How many questions to ask for.
        timeout: Seconds for the whole answer. Retrievers are asked the first question
            meanwhile.

    Raises:
        UsageError: An argument cannot be meant.
    """

    def __init__(
        self,
        model: Streams,
        *,
        count: int = 3,
        timeout: float = 10.0,
        name: str = "query expansion",
    ) -> None:
        check_count("count", count)
        check_positive("timeout", timeout)
        self.name = name
        self._model = model
        self._count = count
        self._timeout = timeout

    async def expand(self, query: str) -> Sequence[str]:
        """At most ``count`` other questions.

        Raises:
            ChatError: The model fails, is late, or writes nothing that is a question.
        """
        answer = ""
        scope = asyncio.timeout(self._timeout)
        try:
            async with (
                scope,
                aclosing(self._model.stream(expansion(query, self._count))) as pieces,
            ):
                async for piece in pieces:
                    answer += piece
                    if len(answer) > MOST_ANSWER:
                        break
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise ChatError(
                f"the model wrote no queries within {self._timeout:g} s"
            ) from error
        queries = queries_in(answer, query, self._count)
        if not queries:
            raise ChatError(
                "the model's answer has no queries: it may be too small a model"
            )
        return queries

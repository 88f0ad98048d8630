"""Several retrievers as one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from anabranch.errors import RetrievalError, UsageError
from anabranch.jobs import amap
from anabranch.jobs.check import check_count
from anabranch.rag.filters import as_filter
from anabranch.rag.fusion import reciprocal_rank
from anabranch.rag.types import Hit, Retriever, Where

logger = logging.getLogger("anabranch")

# How deep each ranking is read: a passage that two retrievers place 30th may well be
# better than one that a single one places 5th.
LEAST_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Fused:
    """What several retrievers found together.

    Attributes:
        hits: Best first.
        failures: The error of each retriever that failed or was late, by its name.
        elapsed_s: What each retriever took, by its name.
    """

    hits: Sequence[Hit]
    failures: Mapping[str, BaseException]
    elapsed_s: Mapping[str, float]


class FusionRetriever:
    """Asks all its retrievers at once and fuses their rankings by reciprocal rank.

    A retriever that fails or misses its deadline is reported and the rest are fused.

    Args:
        retrievers: Over the same passages, each with a name of its own.
        timeout: Seconds that each may take.

    Raises:
        UsageError: There are none, or two have one name.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        timeout: float = 10.0,
        name: str = "fusion",
    ) -> None:
        if not retrievers:
            raise UsageError("a fusion needs at least one retriever")
        names = [retriever.name for retriever in retrievers]
        if len(set(names)) < len(names):
            raise UsageError(f"two retrievers have one name: {', '.join(sorted(names))}")
        self.name = name
        self._retrievers = retrievers
        self._timeout = timeout

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        fused = await self.fuse(query, k=k, where=where)
        for name, error in fused.failures.items():
            logger.warning("retriever %r is left out: %s", name, error)
        return fused.hits

    async def fuse(self, query: str, *, k: int = 5, where: Where | None = None) -> Fused:
        """The hits, and what became of each retriever.

        Raises:
            RetrievalError: All of them failed.
            UsageError: ``where`` says what a filter cannot say.
        """
        check_count("k", k)
        chosen = None if where is None else as_filter(where)
        depth = max(LEAST_DEPTH, 2 * k)

        async def ask(retriever: Retriever) -> Sequence[Hit]:
            async with asyncio.timeout(self._timeout):
                return await retriever.retrieve(query, k=depth, where=chosen)

        outcomes = await amap(
            ask, self._retrievers, concurrency=len(self._retrievers), errors="return"
        )
        failures = {
            outcome.item.name: _late(outcome.error, self._timeout)
            for outcome in outcomes
            if outcome.error is not None
        }
        if len(failures) == len(outcomes):
            raise RetrievalError(failures)
        rankings = {o.item.name: o.result() for o in outcomes if o.ok}
        return Fused(
            _fused(rankings, k),
            failures,
            {outcome.item.name: outcome.elapsed_s for outcome in outcomes},
        )


def _fused(rankings: Mapping[str, Sequence[Hit]], k: int) -> Sequence[Hit]:
    hits = {hit.key: hit for ranking in rankings.values() for hit in ranking}
    keys = {name: [hit.key for hit in ranking] for name, ranking in rankings.items()}
    return [
        replace(hits[key], score=score, ranks=ranks)
        for key, score, ranks in reciprocal_rank(keys)[:k]
    ]


def _late(error: BaseException, timeout: float) -> BaseException:
    if isinstance(error, TimeoutError) and not str(error):
        return TimeoutError(f"no answer within {timeout:g} s")
    return error

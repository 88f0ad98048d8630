"""Several retrievers as one.

A question goes to all retrievers at once. If there is an expander, it is asked for further
questions meanwhile, and they follow as soon as they are there. Whatever came in time is
fused (:mod:`anabranch.rag.fusion`), rid of repetitions, and reranked if there is a
reranker. Nothing but the failure of every retriever is fatal: whoever is late or fails is
reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypedDict, TypeVar, cast, get_args

from anabranch.errors import RetrievalError, UsageError
from anabranch.jobs import Outcome, amap
from anabranch.jobs.check import check_positive, checked_number
from anabranch.rag.asking import check_k, check_question
from anabranch.rag.filters import Filter, as_filter
from anabranch.rag.fusion import FusionRule, Placed, min_max, reciprocal_rank
from anabranch.rag.retrievers.expanding import Expander
from anabranch.rag.retrievers.hits import checked_hits
from anabranch.rag.retrievers.many import retrieve_many
from anabranch.rag.retrievers.passages import Duplicates, chosen
from anabranch.rag.retrievers.reranking import Reranker, reranked
from anabranch.rag.types import Hit, Retriever, Where

logger = logging.getLogger("anabranch")

R = TypeVar("R")

TIMEOUT_S = 10.0
# Further questions that are asked at once, of each retriever.
_FURTHER_AT_ONCE = 8

# One number is not enough where retrievers look into several stores.
_Identity: TypeAlias = tuple[int, str, str, int, int]
# A ranking: whose, and of which question, from 0.
_Label: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Fused:
    """What several retrievers found together.

    Attributes:
        hits: Best first. Their scores are the reranker's, if there is one and it answered;
            else those of the fusion.
        failures: The error of each retriever, and of the expander and the reranker, that
            failed or was late, by its name. What failed for a further question only has
            the question behind its name.
        elapsed_s: What each retriever took, by its name; the longest, if it was asked
            several questions.
        queries: What was asked, the question itself first.
    """

    hits: Sequence[Hit]
    failures: Mapping[str, BaseException]
    elapsed_s: Mapping[str, float]
    queries: Sequence[str] = ()


class FusionOptions(TypedDict, total=False):
    """What :class:`FusionRetriever` takes beside its retrievers and its name."""

    by: FusionRule
    weights: Mapping[str, float]
    timeout: float | Mapping[str, float | None] | None
    total_timeout: float | None
    depth: int
    duplicates: Duplicates
    expand: Expander | None
    rerank: Reranker | None
    candidates: int


@dataclass(frozen=True, slots=True)
class _Ask:
    retriever: Retriever
    query: str
    number: int  # of the question


@dataclass(slots=True)
class _Course:
    """What has become of one question so far."""

    end: float | None  # by the loop's clock
    queries: list[str]
    failures: dict[str, BaseException] = field(default_factory=dict[str, BaseException])


class FusionRetriever:
    """Asks all its retrievers at once and fuses what they find.

    A retriever that fails or misses its deadline is reported and the rest are fused. The
    hits of retrievers are never changed: a fused one is a copy with its own score. Its
    ``ranks`` are those that each retriever gave it, the best one over several questions.

    Args:
        retrievers: Each with a name of its own. A passage is the same to all of them if
            its key, source, document and offsets are.
        by: ``"min-max"`` adds scores, ``"reciprocal-rank"`` places: see
            :func:`~anabranch.rag.min_max` and :func:`~anabranch.rag.reciprocal_rank`.
        weights: How much retrievers count, by name; 1 where one is not named. Further
            questions count together as much as the question itself.
        timeout: Seconds that each may take, for each question, ``None`` for as long as it
            wants; or by name, with 10 for one that is not named. The reranker's is here
            too, by its name.
        total_timeout: Seconds that everything may take; by default as long as it wants.
        depth: Passages that each is asked for, if not more are wanted: what two place
            30th may well be better than what one places 5th.
        duplicates: ``"drop"`` gives the same text once; ``"merge"`` also joins passages of
            a document that overlap; ``"keep"`` gives all.
        expand: Asked for further questions, such as a :class:`QueryExpander`.
        rerank: Decides on the order of the best, such as a :class:`CrossEncoder`.
        candidates: How many passages it decides on, if not more are wanted.

    Raises:
        UsageError: There are no retrievers, two parts have one name, or an option cannot
            be meant.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        by: FusionRule = "min-max",
        weights: Mapping[str, float] | None = None,
        timeout: float | Mapping[str, float | None] | None = TIMEOUT_S,
        total_timeout: float | None = None,
        depth: int = 100,
        duplicates: Duplicates = "drop",
        expand: Expander | None = None,
        rerank: Reranker | None = None,
        candidates: int = 50,
        name: str = "fusion",
    ) -> None:
        if not retrievers:
            raise UsageError("a fusion needs at least one retriever")
        parts = [*retrievers, *(part for part in (expand, rerank) if part is not None)]
        names = [part.name for part in parts]
        if len(set(names)) < len(names):
            raise UsageError(f"two retrievers have one name: {', '.join(sorted(names))}")
        timeouts = (
            timeout if isinstance(timeout, Mapping) else dict.fromkeys(names, timeout)
        )
        _check_choice("by", by, get_args(FusionRule))
        _check_choice("duplicates", duplicates, get_args(Duplicates))
        check_k("depth", depth)
        check_k("candidates", candidates)
        if total_timeout is not None:
            check_positive("total_timeout", total_timeout)
        _check_numbers(names, timeouts, weights or {})
        self.name = name
        self._retrievers = list(retrievers)
        self._by: FusionRule = by
        self._weights = dict(weights or {})
        self._timeouts = dict(timeouts)
        self._total_timeout = total_timeout
        self._depth = depth
        self._duplicates: Duplicates = duplicates
        self._expand = expand
        self._rerank = rerank
        self._candidates = candidates

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        """The ``k`` best passages; what failed is logged as a warning.

        Raises:
            RetrievalError: All retrievers failed.
            UsageError: The question is blank, or an argument cannot be meant.
        """
        fused = await self.fuse(query, k=k, where=where)
        for name, error in fused.failures.items():
            logger.warning("retriever %r is left out: %s", name, error)
        return fused.hits

    async def fuse(self, query: str, *, k: int = 5, where: Where | None = None) -> Fused:
        """The hits, and what became of each retriever.

        Raises:
            RetrievalError: All of them failed.
            UsageError: The question is blank, or an argument cannot be meant.
        """
        check_question(query)
        check_k("k", k)
        where = None if where is None else as_filter(where)
        end = None
        if self._total_timeout is not None:
            end = asyncio.get_running_loop().time() + self._total_timeout
        course = _Course(end, [query])
        outcomes = await self._asked(course, max(self._depth, k), where)
        rankings: dict[_Label, Sequence[Hit]] = {}
        for outcome in outcomes:
            ask = outcome.item
            if outcome.error is None:
                rankings[ask.retriever.name, ask.number] = outcome.result()
            else:
                behind = f": {ask.query}" if ask.number else ""
                course.failures[ask.retriever.name + behind] = outcome.error
        if not rankings:
            raise RetrievalError(course.failures)
        hits = await self._best(course, self._fused(rankings, len(course.queries)), k)
        elapsed_s: dict[str, float] = {}
        for outcome in outcomes:
            name = outcome.item.retriever.name
            elapsed_s[name] = max(outcome.elapsed_s, elapsed_s.get(name, 0.0))
        return Fused(hits, course.failures, elapsed_s, course.queries)

    retrieve_many = retrieve_many

    # -- the parts of a question

    async def _asked(
        self, course: _Course, depth: int, where: Filter | None
    ) -> list[Outcome[_Ask, Sequence[Hit]]]:
        """Every retriever's answer to every question, in the order they were asked."""

        async def ask(given: _Ask) -> Sequence[Hit]:
            work = given.retriever.retrieve(given.query, k=depth, where=where)
            # A retriever that gives what are no hits has failed, and not the fusion.
            return checked_hits(await self._in_time(course, given.retriever.name, work))

        count = len(self._retrievers)
        if self._expand is None:
            asks = [_Ask(retriever, course.queries[0], 0) for retriever in self._retrievers]
            return await amap(ask, asks, concurrency=count, errors="return")
        return await amap(
            ask,
            self._asks(course, self._expand),
            concurrency=count * _FURTHER_AT_ONCE,
            errors="return",
        )

    async def _asks(
        self, course: _Course, expander: Expander
    ) -> AsyncGenerator[_Ask, None]:
        """Who is to be asked what: the question at once, the further ones when known."""
        query = course.queries[0]
        for retriever in self._retrievers:
            yield _Ask(retriever, query, 0)
        try:
            work = expander.expand(query)
            more = _questions(await self._in_time(course, expander.name, work))
        except Exception as error:
            course.failures[expander.name] = error
            return
        course.queries += [text for text in more if text != query]
        for number, text in enumerate(course.queries[1:], start=1):
            for retriever in self._retrievers:
                yield _Ask(retriever, text, number)

    def _fused(
        self, rankings: Mapping[_Label, Sequence[Hit]], questions: int
    ) -> Iterator[Hit]:
        """One ranking of copies, which are made as they are taken: few of them are."""
        hits: dict[_Identity, Hit] = {}
        scored: dict[_Label, list[tuple[_Identity, float]]] = {}
        for label, ranking in rankings.items():
            scored[label] = [(_identity(hit), hit.score) for hit in ranking]
            for hit in ranking:
                hits.setdefault(_identity(hit), hit)
        weights = {
            (name, number): self._weights.get(name, 1.0) / (questions - 1 if number else 1)
            for name, number in rankings
        }
        placed: list[Placed[_Identity, _Label]]
        if self._by == "min-max":
            placed = min_max(scored, weights=weights)
        else:
            keys = {label: [key for key, _ in ranking] for label, ranking in scored.items()}
            placed = reciprocal_rank(keys, weights=weights)
        return (
            replace(hits[key], score=score, ranks=_best_ranks(ranks))
            for key, score, ranks in placed
        )

    async def _best(self, course: _Course, hits: Iterator[Hit], k: int) -> Sequence[Hit]:
        """The first ``k``, in the reranker's order if there is one and it answers."""
        reranker = self._rerank
        if reranker is None:
            return chosen(hits, k, self._duplicates)
        plain: Duplicates = "keep" if self._duplicates == "keep" else "drop"
        few = chosen(hits, max(k, self._candidates), plain)
        if not few:
            return few
        try:
            texts = [hit.text for hit in few]
            work = reranker.scores(course.queries[0], texts)
            scores = await self._in_time(course, reranker.name, work)
            few = reranked(few, scores, name=reranker.name)
        except Exception as error:
            course.failures[reranker.name] = error
        return chosen(few, k, self._duplicates)

    async def _in_time(self, course: _Course, name: str, work: Awaitable[R]) -> R:
        """What ``work`` gives before its own deadline, and that of all."""
        now = asyncio.get_running_loop().time()
        timeout = self._timeouts.get(name, TIMEOUT_S)
        own = None if timeout is None else now + timeout
        until = min((end for end in (own, course.end) if end is not None), default=None)
        scope = asyncio.timeout_at(until)
        try:
            async with scope:
                return await work
        except TimeoutError:
            if until is None or not scope.expired():
                raise  # its own
            waited_s = max(until - now, 0.0)
            raise TimeoutError(f"no answer within {waited_s:.4g} s") from None


def _questions(found: Iterable[object]) -> Sequence[str]:
    """What an expander gave, each once, without what is blank.

    Raises:
        TypeError: They are no texts.
    """
    texts = list(found)
    if isinstance(found, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"questions are several texts, not {found!r}")
    return [text for text in dict.fromkeys(cast("list[str]", texts)) if text.strip()]


def _identity(hit: Hit) -> _Identity:
    return hit.key, hit.source, hit.document_id, hit.start, hit.end


def _best_ranks(ranks: Mapping[_Label, int]) -> Mapping[str, int]:
    """The best rank of each retriever over all questions."""
    best: dict[str, int] = {}
    for (name, _), rank in ranks.items():
        best[name] = min(rank, best.get(name, rank))
    return best


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}")


def _check_numbers(
    names: Sequence[str],
    timeouts: Mapping[str, float | None],
    weights: Mapping[str, float],
) -> None:
    for option, numbers in (("timeout", timeouts), ("weights", weights)):
        if unknown := sorted(set(numbers) - set(names)):
            raise UsageError(
                f"{option} names {', '.join(map(repr, unknown))}: there are "
                f"{', '.join(map(repr, names))}"
            )
    for name, seconds in timeouts.items():
        if seconds is not None:
            check_positive(f"the timeout of {name!r}", seconds)
    for name, weight in weights.items():
        checked_number(f"the weight of {name!r}", weight, 0.0)

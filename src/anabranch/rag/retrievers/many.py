"""Many questions at once."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Literal, overload

from anabranch.jobs import Errors, Outcome, amap
from anabranch.rag.asking import check_k
from anabranch.rag.filters import as_filter
from anabranch.rag.types import Hit, Retriever, Where


@overload
async def retrieve_many(
    retriever: Retriever,
    queries: Iterable[str] | AsyncIterable[str],
    *,
    k: int = 5,
    where: Where | None = None,
    concurrency: int = 32,
    errors: Literal["return"],
) -> list[Outcome[str, Sequence[Hit]]]: ...
@overload
async def retrieve_many(
    retriever: Retriever,
    queries: Iterable[str] | AsyncIterable[str],
    *,
    k: int = 5,
    where: Where | None = None,
    concurrency: int = 32,
    errors: Literal["raise", "skip"] = "raise",
) -> list[Sequence[Hit]]: ...
async def retrieve_many(
    retriever: Retriever,
    queries: Iterable[str] | AsyncIterable[str],
    *,
    k: int = 5,
    where: Where | None = None,
    concurrency: int = 32,
    errors: Errors = "raise",
) -> list[Sequence[Hit]] | list[Outcome[str, Sequence[Hit]]]:
    """The passages of each question, in their order.

    Questions in flight are embedded together: see
    :class:`~anabranch.rag.VectorRetriever`.

    Args:
        retriever: Any.
        queries: Pulled lazily.
        k: Passages for each.
        where: A filter for all of them.
        concurrency: Questions in flight at most.
        errors: ``"raise"``: the first failure ends the call. ``"return"``: an
            :class:`~anabranch.jobs.Outcome` for each question. ``"skip"``: only the
            answers of those that succeeded.

    Raises:
        UsageError: An argument cannot be meant.
    """
    check_k("k", k)
    chosen = None if where is None else as_filter(where)

    async def ask(query: str) -> Sequence[Hit]:
        return await retriever.retrieve(query, k=k, where=chosen)

    if isinstance(queries, str):
        raise TypeError("queries are several: put a single one into a list")
    if errors == "return":
        return await amap(ask, queries, concurrency=concurrency, errors=errors)
    return await amap(ask, queries, concurrency=concurrency, errors=errors)

"""One index in several places: whichever answers first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from anabranch.errors import UsageError
from anabranch.jobs.hedge import Hedge, HedgeRule, hedged
from anabranch.rag.types import Hit, Retriever, Where
from anabranch.retry import is_throttle


class HedgedRetriever:
    """Asks a second retriever when the first is unusually slow, or fails.

    The faster answer is taken and the other question is cancelled. One slow machine, or
    one slow request in a hundred, then costs little time.

    Args:
        first: Asked first.
        second: Over the same passages: a replica, or ``first`` itself.
        hedge: When, and how often at most; for example ``Hedge(after=0.2)``.
        name: By default that of ``first``.
    """

    def __init__(
        self,
        first: Retriever,
        second: Retriever,
        *,
        hedge: Hedge | None = None,
        name: str | None = None,
    ) -> None:
        self.name = first.name if name is None else name
        self._copies = (first, second)
        self._rule = HedgeRule(hedge or Hedge())

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        """At most ``k`` passages, best first.

        Raises:
            Exception: Both fail; it is the error of the first.
        """
        started = 0

        def start() -> asyncio.Task[Sequence[Hit]]:
            nonlocal started
            started += 1
            copy = self._copies[started - 1]
            return asyncio.ensure_future(_asked(copy, query, k, where))

        try:
            return await hedged(start, self._rule, is_throttled=lambda: False)
        except UsageError:
            raise  # the other would say the same
        except Exception as error:
            # The first failed before it was slow. One that throttles has a replica that
            # is throttled too, more often than not.
            if started > 1 or is_throttle(error):
                raise
            try:
                return await self._copies[1].retrieve(query, k=k, where=where)
            except Exception as again:
                error.add_note(f"{self._copies[1].name} failed too: {again}")
                raise error from None


async def _asked(
    retriever: Retriever, query: str, k: int, where: Where | None
) -> Sequence[Hit]:
    return await retriever.retrieve(query, k=k, where=where)

"""What pipelines and retrievers ask of a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from anabranch.rag.plan import Version
from anabranch.rag.stores.records import Count, Passage, Write
from anabranch.rag.types import Hit, Vectors, Where


class Sink(Protocol):
    """What a pipeline asks of the store that it writes to.

    Every method may be called from many tasks at once and keeps the event loop free.
    """

    async def write(self, writes: Sequence[Write]) -> None:
        """Each source of these whole or not at all, in this order; durable on return.

        An :class:`Add` with the last chunks of a version puts it in the place of the one
        before. Written again after an error, the same writes do what they would have done.

        Raises:
            StoreError: The store cannot be written; the sentence says why.
            UsageError: A source's name cannot be stored; nothing has happened.
        """
        ...

    async def sweep(self) -> None:
        """Remove what abandoned versions have left."""
        ...

    async def versions(self, uris: Sequence[str]) -> Mapping[str, Version]:
        """The complete version of each source that has one."""
        ...

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """The vectors that are stored for some texts, of whatever version."""
        ...

    def sources(self) -> AsyncGenerator[Version]:
        """The complete version of every source, lazily; each source once.

        Close it, with :func:`contextlib.aclosing`, where you may stop before its end.

        A source that changes or comes meanwhile may be in it as it was or as it is.
        """
        ...


class VectorStore(Sink, Protocol):
    """Passages with their vectors, and the versions of the sources they came from.

    Every method may be called from many tasks at once and keeps the event loop free.

    Whoever searches finds each source whole or not at all: all passages of its complete
    version, and none of another, whatever is written at the same time and whatever is
    killed. Where a store has transactions, a whole :meth:`write` is one; where it has
    none, the sources of one write change one after the other.

    What every store holds is the same. NUL and half a surrogate pair are U+FFFD in texts
    and metadata; NaN and infinity are values that are missing; a source whose name has
    such a character is refused.
    """

    async def delete(self, where: Where) -> Sequence[str]:
        """Remove each source of whose passages the filter means one, whole; name them.

        A single source is removed by writing :class:`Remove`.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
        """
        ...

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        """At most ``k`` passages of complete versions, nearest first.

        Fewer than ``k`` only where fewer are meant.

        Raises:
            UsageError: The vector has another length than those of the index, or
                ``where`` says what a filter cannot say.
        """
        ...

    async def search_text(
        self, query: str, *, k: int, where: Where | None = None, name: str = "full text"
    ) -> Sequence[Hit]:
        """At most ``k`` passages of complete versions with its words, best first.

        Raises:
            UsageError: ``where`` says what a filter cannot say, or the store has no
                full text.
        """
        ...

    def passages(self, where: Where | None = None) -> AsyncGenerator[Passage]:
        """Every passage of the complete versions, lazily; each passage once.

        Close it, with :func:`contextlib.aclosing`, where you may stop before its end.

        Of a source that nobody changes meanwhile, all of them; of one that is changed,
        those of one version, and perhaps not all of these.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
        """
        ...

    async def count(self) -> Count:
        """How many sources and passages can be found."""
        ...

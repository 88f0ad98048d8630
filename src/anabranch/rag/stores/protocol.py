"""What pipelines and retrievers ask of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from anabranch.rag.plan import Version
from anabranch.rag.stores.writing import Write
from anabranch.rag.types import Hit, Vectors, Where


class VectorStore(Protocol):
    """Passages with their vectors, and the versions of the sources they came from.

    Every method may be called from many tasks at once and keeps the event loop free.
    """

    async def write(self, writes: Sequence[Write]) -> None:
        """All of it or nothing, in this order; durable when this returns."""
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

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        """At most ``k`` passages of complete versions, nearest first."""
        ...

    async def search_text(
        self, query: str, *, k: int, where: Where | None = None, name: str = "full text"
    ) -> Sequence[Hit]:
        """At most ``k`` passages of complete versions with its words, best first."""
        ...

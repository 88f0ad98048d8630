"""A store of theirs kept like one of ours.

Their stores know ``add``, ``delete`` and ``query``, and no transaction, version or digest:
none of them can tell a pipeline what it holds, or change a source whole. So a store of
ours keeps the books, with all passages and vectors, and theirs has a copy.

What must hold after a crash: whatever ours says is complete has been added to theirs. A
version is held back until its last chunk has come; then it goes to theirs, and only then
is ours told. Killed between the two, ours still has the version before, so the next run
does the source again, and embeds nothing for it: the vectors are in ours. What is removed
goes from theirs first, too: killed between the two, ours still names it, and removing it
again does the rest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from anabranch.errors import AnabranchError, StoreError
from anabranch.rag.adapters.calls import Calls, is_async
from anabranch.rag.adapters.llamaindex.records import stored_node
from anabranch.rag.plan import Version
from anabranch.rag.stores import (
    Abandon,
    Add,
    Count,
    Passage,
    Remove,
    VectorStore,
    Write,
)
from anabranch.rag.stores.storable import storable
from anabranch.rag.types import Hit, Vectors, Where


@dataclass(slots=True)
class _Held:
    """A version that is not complete yet."""

    version: Version
    adds: list[Add] = field(default_factory=list[Add])


class MirroredStore:
    """A :class:`~anabranch.rag.VectorStore` of ours with a copy in one of LlamaIndex's.

    A pipeline that writes to it skips what is unchanged, and goes on after a crash, as
    with ours alone. In the copy:

    - what ours has complete is there when ``write`` returns, whole;
    - a source that changes is deleted and then added, as theirs can do no better: whoever
      asks the copy meanwhile may find it missing or in part, and after a crash until the
      next run;
    - nodes have the source's URI for ``ref_doc_id`` and ids that are the same on every
      run, so that what is added twice is stored once;
    - lists in metadata are JSON where theirs holds none (its ``flat_metadata``).

    Chunks of a source are held in memory until its last one. Searches are answered by
    ours; ask the copy through ``store_retriever``. Make it over an empty copy, and write
    to the copy by nothing else; one pipeline may write at a time.

    Args:
        ours: Keeps the books; open for writing.
        theirs: The copy.
    """

    def __init__(self, ours: VectorStore, theirs: BasePydanticVectorStore) -> None:
        self._ours = ours
        self._theirs = theirs
        self._held: dict[str, _Held] = {}
        self._calls = Calls(1)
        # So they say that their metadata holds no lists.
        self._is_flat = bool(getattr(theirs, "flat_metadata", False))
        kind = type(theirs)
        self._adds = is_async(kind, BasePydanticVectorStore, "async_add")
        self._deletes = is_async(kind, BasePydanticVectorStore, "adelete")

    async def write(self, writes: Sequence[Write]) -> None:
        """Into theirs what becomes complete or is removed; then all of it into ours.

        Raises:
            StoreError: Either of them fails. Ours has nothing of these writes then.
            UsageError: A source's name cannot be stored; nothing has happened.
        """
        writes = storable(writes)
        for write in writes:
            match write:
                case Add(version=version):
                    held = self._held.get(version.uri)
                    if held is None or held.version != version:
                        held = self._held[version.uri] = _Held(version)
                    held.adds.append(write)
                    if write.is_last:
                        await self._copy(self._held.pop(version.uri))
                case Abandon(uri):
                    self._held.pop(uri, None)
                case Remove(uri):
                    self._held.pop(uri, None)
                    await self._delete(uri)
        await self._ours.write(writes)

    async def delete(self, where: Where) -> Sequence[str]:
        """Remove each source of whose passages the filter means one, from both."""
        meant = {passage.source async for passage in self._ours.passages(where)}
        for uri in sorted(meant):
            await self._delete(uri)
        return await self._ours.delete(where)

    async def sweep(self) -> None:
        """As ours does."""
        await self._ours.sweep()

    async def versions(self, uris: Sequence[str]) -> Mapping[str, Version]:
        """The complete version of each source that has one, in both."""
        return await self._ours.versions(uris)

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """The vectors that ours has for some texts."""
        return await self._ours.vectors(digests)

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        """As ours does."""
        return await self._ours.search(vector, k=k, where=where, name=name)

    async def search_text(
        self, query: str, *, k: int, where: Where | None = None, name: str = "full text"
    ) -> Sequence[Hit]:
        """As ours does."""
        return await self._ours.search_text(query, k=k, where=where, name=name)

    def sources(self) -> AsyncGenerator[Version]:
        """As ours does."""
        return self._ours.sources()

    def passages(self, where: Where | None = None) -> AsyncGenerator[Passage]:
        """As ours does."""
        return self._ours.passages(where)

    async def count(self) -> Count:
        """As ours does."""
        return await self._ours.count()

    async def _copy(self, held: _Held) -> None:
        uri = held.version.uri
        pairs = [
            pair for add in held.adds for pair in zip(add.chunks, add.vectors, strict=True)
        ]
        await self._delete(uri)
        if not pairs:
            return
        nodes = await self._calls.threaded(
            lambda: [
                stored_node(uri, number, chunk, vector, is_flat=self._is_flat)
                for number, (chunk, vector) in enumerate(pairs)
            ]
        )
        await self._add(uri, nodes)

    async def _add(self, uri: str, nodes: list[TextNode]) -> None:
        try:
            if self._adds:
                await self._calls.awaited(self._theirs.async_add, nodes)
            else:
                await self._calls.finished(self._theirs.add, nodes)
        except Exception as error:
            raise self._failed(f"add {len(nodes)} passages of {uri}", error) from error

    async def _delete(self, uri: str) -> None:
        try:
            if self._deletes:
                await self._calls.awaited(self._theirs.adelete, uri)
            else:
                await self._calls.finished(self._theirs.delete, uri)
        except Exception as error:
            raise self._failed(f"delete {uri}", error) from error

    def _failed(self, what: str, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        said = str(error) if isinstance(error, AnabranchError) else repr(error)
        return StoreError(
            f"{type(self._theirs).__name__} could not {what} ({said}): run again when it "
            "can; what is complete stays so"
        )

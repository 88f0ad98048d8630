"""Versions in a store that has no transactions: the rules that make a source whole.

Each passage carries the name of its version. One record a source, the *source record*,
says which version is found; replacing that one record puts one version in the place of
another in one stroke. A write puts passages first, where nobody finds them, then source
records, then deletes passages that no record names any more.

Whoever searches asks for passages and *then* for the source records. What he found counts
if each passage's version was live before he asked, so that it was whole by then, and is
live still, so that nothing of it was deleted yet. Otherwise he asks again, without the
versions that are not live.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, TypeAlias, TypeVar
from uuid import uuid4

from anabranch.errors import StoreError, StoreMismatch
from anabranch.rag.asking import check_k
from anabranch.rag.filters import Filter, as_filter, matches
from anabranch.rag.plan import Version
from anabranch.rag.stores.begun import Begun, plan
from anabranch.rag.stores.facets import Bound, Every, bound
from anabranch.rag.stores.records import Add, Count, Passage, Remove, Write
from anabranch.rag.stores.storable import check_vector, is_storable, storable
from anabranch.rag.types import Chunk, Embedder, Hit, Vectors, Where

T = TypeVar("T")

FORMAT: Final = "1"
_GROUP: Final = 256
# Under how much change a search gives up.
_MOST_ROUNDS: Final = 100
_MOST_KNOWN: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """Which version of a source is found.

    Attributes:
        key: Of the source: see :func:`source_key`.
        version: The version.
        name: The name that its passages carry.
        count: How many they are.
    """

    key: str
    version: Version
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a store has found.

    Attributes:
        id: The passage's own.
        key: Of its source.
        name: Of its version.
        source: Its source's name.
        chunk: What was written.
        digest: Of the text.
        score: Higher is better.
        vector: Where it was asked for.
    """

    id: str
    key: str
    name: str
    source: str
    chunk: Chunk
    digest: bytes
    score: float = 0.0
    vector: Vectors | None = None

    def scored(self, score: float) -> Found:
        """With another score."""
        return replace(self, score=score)

    def passage(self) -> Passage:
        """As a passage; its vector was asked for."""
        assert self.vector is not None
        key = _number(self.id)
        return Passage(key, self.source, self.chunk, self.digest, self.vector)

    def hit(self, name: str, rank: int) -> Hit:
        """As a hit."""
        chunk = self.chunk
        return Hit(
            key=_number(self.id),
            source=self.source,
            document_id=chunk.document_id,
            text=chunk.text,
            start=chunk.start,
            end=chunk.end,
            metadata=chunk.metadata,
            score=self.score,
            ranks={name: rank},
        )


Ask: TypeAlias = Callable[[int, Sequence[str]], Awaitable[Sequence[Found]]]
"""At most so many passages, best first, without those of some versions."""


class SwitchedStore(ABC):
    """A store whose service does no more than the abstract methods ask of it.

    One process may write at a time, which nothing here enforces; any number may search.
    """

    def __init__(self, embedder: Embedder, *, most_values: int) -> None:
        self._embedder = embedder
        self._most_values = most_values
        self._begun: Mapping[str, Begun] = {}
        # When a version was first seen live: it is whole ever since.
        self._known: dict[str, int] = {}
        self._moments = itertools.count()
        # Versions are begun and ended in the order of writes.
        self._turn = asyncio.Lock()

    # -- what a service does

    @abstractmethod
    async def _put_passages(self, adds: Sequence[tuple[Add, Begun]]) -> None:
        """Put passages under :func:`passage_id`, in the place of what is there."""

    @abstractmethod
    async def _put_sources(self, records: Sequence[SourceRecord]) -> None:
        """Put source records, each in one stroke."""

    @abstractmethod
    async def _drop_sources(self, keys: Sequence[str]) -> None:
        """Delete source records, each in one stroke."""

    @abstractmethod
    async def _drop_passages(self, keys: Sequence[str], names: Sequence[str]) -> None:
        """Delete the passages of these sources but those of these versions."""

    @abstractmethod
    async def _drop_versions(self, names: Sequence[str]) -> None:
        """Delete the passages of these versions."""

    @abstractmethod
    async def _sources(self, keys: Sequence[str]) -> Mapping[str, SourceRecord]:
        """The source records of these keys."""

    @abstractmethod
    def _all_sources(self) -> AsyncGenerator[SourceRecord]:
        """All source records; those that stay meanwhile each once."""

    @abstractmethod
    def _all_names(self) -> AsyncGenerator[tuple[str, str]]:
        """Key and version's name of passages, all of them met at least once."""

    @abstractmethod
    def _all_passages(self, where: Bound) -> AsyncGenerator[Sequence[Found]]:
        """Passages of whatever version, with vectors; those that stay each once."""

    @abstractmethod
    async def _nearest(
        self, vector: Vectors, limit: int, where: Bound, without: Sequence[str]
    ) -> Sequence[Found]:
        """Passages of whatever versions but these, nearest first."""

    @abstractmethod
    async def _matching(
        self, query: str, limit: int, where: Bound, without: Sequence[str]
    ) -> Sequence[Found]:
        """Passages of whatever versions but these with these words, best first."""

    @abstractmethod
    async def _vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Vectors by the digest of the text."""

    # -- writing

    async def write(self, writes: Sequence[Write]) -> None:
        """Each source of these whole or not at all; of several, one after the other.

        Raises:
            StoreError: The service refuses or cannot be reached. Some of the sources may
                have changed; written again, all will.
            UsageError: A source's name cannot be stored.
        """
        async with self._turn:
            made = plan(await asyncio.to_thread(storable, writes), self._begun, _new_name)
            if made.adds:
                await self._put_passages(made.adds)
            records = [_record(each) for each in made.switches.values() if each is not None]
            if records:
                await self._put_sources(records)
            gone = [source_key(uri) for uri, to in made.switches.items() if to is None]
            if gone:
                await self._drop_sources(gone)
            if made.switches:
                keys = [source_key(uri) for uri in made.switches]
                await self._drop_passages(keys, [kept.name for kept in made.kept()])
            # Not before all is done: written again, they begin where these began.
            self._begun = made.begun

    async def delete(self, where: Where) -> Sequence[str]:
        """Remove each source of whose passages the filter means one, and name them.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
            StoreError: The service refuses or cannot be reached.
        """
        gone: dict[str, None] = {}
        async for passage in self.passages(where):
            gone[passage.source] = None
        await self.write([Remove(uri) for uri in gone])
        return list(gone)

    async def sweep(self) -> None:
        """Delete the passages of versions that will never be complete.

        What another process is writing at this time looks the same and goes too.
        """
        async with self._turn:
            mine = {begun.name for begun in self._begun.values()}
            met = {name: key async for key, name in self._all_names() if name not in mine}
            live: set[str] = set()
            for some in in_groups(list(set(met.values()))):
                records = await self._sources(some)
                live |= {record.name for record in records.values()}
            for some in in_groups(sorted(met.keys() - live)):
                await self._drop_versions(some)

    # -- reading

    async def versions(self, uris: Sequence[str]) -> Mapping[str, Version]:
        """The complete version of each source that has one."""
        keys = [source_key(uri) for uri in uris if is_storable(uri)]
        found: dict[str, Version] = {}
        for some in in_groups(keys):
            records = await self._sources(some)
            found.update((one.version.uri, one.version) for one in records.values())
        return found

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """The vectors that are stored for some texts, complete or not."""
        found: dict[bytes, Vectors] = {}
        for some in in_groups(list(dict.fromkeys(digests))):
            found.update(await self._vectors(some))
        return found

    async def count(self) -> Count:
        """How many sources are complete, and how many passages they have.

        Every source record is read for it.
        """
        sources = passages = 0
        async for record in self._all_sources():
            sources += 1
            passages += record.count
        return Count(sources, passages)

    async def sources(self) -> AsyncGenerator[Version]:
        """The complete version of every source, in no promised order."""
        async with aclosing(self._all_sources()) as each:
            async for record in each:
                yield record.version

    async def passages(self, where: Where | None = None) -> AsyncGenerator[Passage]:
        """Every passage, in no promised order.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
        """
        tree = None if where is None else as_filter(where)
        # The version that was live when a source was first met.
        first: dict[str, str] = {}
        async with aclosing(self._all_passages(self._bound(tree))) as each:
            async for some in each:
                records = await self._sources(list({one.key for one in some}))
                for one in some:
                    record = records.get(one.key)
                    is_live = record is not None and record.name == one.name
                    if not is_live or first.setdefault(one.key, one.name) != one.name:
                        continue
                    if _is_meant(one, tree):
                        yield one.passage()

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        """At most ``k`` passages, nearest first.

        What of a filter the service cannot compare is compared here, on as many
        candidates as it takes.

        Raises:
            UsageError: The vector has another length than those of the index, or
                ``where`` says what a filter cannot say.
            StoreError: The service refuses or cannot be reached.
        """
        check_vector(vector, self._embedder.dimensions)
        check_k("k", k)
        tree = None if where is None else as_filter(where)
        coarse = self._bound(tree)

        async def ask(limit: int, without: Sequence[str]) -> Sequence[Found]:
            return await self._nearest(vector, limit, coarse, without)

        found = await self._settled(ask, k, tree)
        return [one.hit(name, rank) for rank, one in enumerate(found, start=1)]

    async def search_text(
        self, query: str, *, k: int, where: Where | None = None, name: str = "full text"
    ) -> Sequence[Hit]:
        """At most ``k`` passages with its words, best first.

        Raises:
            UsageError: ``where`` says what a filter cannot say, or there is no full text.
            StoreError: The service refuses or cannot be reached.
        """
        check_k("k", k)
        tree = None if where is None else as_filter(where)
        coarse = self._bound(tree)

        async def ask(limit: int, without: Sequence[str]) -> Sequence[Found]:
            return await self._matching(query, limit, coarse, without)

        found = await self._settled(ask, k, tree)
        return [one.hit(name, rank) for rank, one in enumerate(found, start=1)]

    # -- what counts

    async def _settled(self, ask: Ask, k: int, tree: Filter | None) -> Sequence[Found]:
        """The ``k`` best of what is live and meant."""
        limit = k
        without: dict[str, str] = {}  # versions that are not live, and their sources
        for _ in range(_MOST_ROUNDS):
            began = next(self._moments)
            found = await ask(limit, list(without))
            met = {one.name: one.key for one in found} | without
            records = await self._sources(list(set(met.values())))
            live = {record.name for record in records.values()} & met.keys()
            is_whole = all(self._known.get(name, began) < began for name in live)
            gone = {name: key for name, key in met.items() if name not in live}
            self._know(live)
            if not is_whole or gone.keys() != without.keys():
                without = gone
                continue
            meant = [one for one in found if _is_meant(one, tree)]
            if len(meant) >= k or len(found) < limit:
                return meant[:k]
            limit *= 4
        raise StoreError(
            "what was found changed at every look: search again when less is being written"
        )

    def _know(self, names: Collection[str]) -> None:
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()  # they will be asked for once more
        moment = next(self._moments)
        for name in names:
            self._known.setdefault(name, moment)

    def _bound(self, tree: Filter | None) -> Bound:
        return Every() if tree is None else bound(tree, most=self._most_values)


def source_key(uri: str) -> str:
    """What stands for a source where its name may be too long or too odd."""
    return blake2b(uri.encode(), digest_size=16).hexdigest()


def passage_id(begun: Begun, number: int) -> str:
    """The id of a version's passage, counted from 0."""
    return f"{source_key(begun.version.uri)}-{begun.name}-{number:07d}"


def read_chunk(told: Mapping[str, Any]) -> Chunk:
    """A chunk as :func:`told_chunk` wrote it, with the text beside."""
    # Any: what a service sends back; we wrote it.
    return Chunk(
        told["document"],
        told["text"],
        int(told["start"]),
        int(told["end"]),
        json.loads(told["metadata"]),
    )


def told_chunk(chunk: Chunk) -> dict[str, str | int]:
    """A chunk in fields that every service has. JSON keeps what metadata was."""
    return {
        "document": chunk.document_id,
        "text": chunk.text,
        "start": chunk.start,
        "end": chunk.end,
        "metadata": json.dumps(dict(chunk.metadata)),
    }


def told_record(record: SourceRecord) -> dict[str, str | int]:
    """A source record in fields that every service has."""
    version = record.version
    return {
        "key": record.key,
        "uri": version.uri,
        "digest": version.digest,
        "fingerprint": version.fingerprint,
        "version": record.name,
        "count": record.count,
    }


def read_record(told: Mapping[str, Any]) -> SourceRecord:
    """A source record as :func:`told_record` wrote it."""
    version = Version(told["uri"], told["digest"], told["fingerprint"])
    return SourceRecord(told["key"], version, told["version"], int(told["count"]))


def told_model(embedder: Embedder) -> dict[str, str | int]:
    """What a store says of the model whose vectors it holds."""
    return {
        "format": FORMAT,
        "model": embedder.name,
        "model_digest": embedder.digest,
        "dimensions": embedder.dimensions,
    }


def check_model(told: Mapping[str, Any], embedder: Embedder, where: str) -> None:
    """Refuse a store of another model.

    Raises:
        StoreMismatch: It is one.
        StoreError: It is of another format, or no store of ours.
    """
    if told.get("format") != FORMAT:
        raise StoreError(
            f"{where} holds something else, or passages of another version of anabranch: "
            "use another collection"
        )
    if told.get("model_digest") != embedder.digest:
        raise StoreMismatch(
            f"{where} was made with the model {told.get('model')}, whose vectors cannot be "
            f"compared with those of {embedder.name}: use the same model, or another "
            "collection"
        )


def in_groups(values: Sequence[T], size: int = _GROUP) -> Iterator[Sequence[T]]:
    """Some at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _number(of: str) -> int:
    return int.from_bytes(blake2b(of.encode(), digest_size=8).digest()) >> 1


def _is_meant(one: Found, tree: Filter | None) -> bool:
    return tree is None or matches(tree, one.chunk.metadata)


def _record(begun: Begun) -> SourceRecord:
    key = source_key(begun.version.uri)
    return SourceRecord(key, begun.version, begun.name, begun.count)


def _new_name() -> str:
    return uuid4().hex

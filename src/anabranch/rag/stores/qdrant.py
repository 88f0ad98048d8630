"""Passages in Qdrant.

Two collections: one of passages, with a dense vector, a sparse one for full text, and a
payload; one of source records, without vectors. See :mod:`anabranch.rag.stores.switched`
for what makes a source whole.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from hashlib import blake2b
from itertools import chain
from typing import Any, Final, TypeVar
from uuid import UUID

import numpy as np

from anabranch.errors import StoreError
from anabranch.rag.stores.begun import Begun
from anabranch.rag.stores.facets import Bound, Every, Has, InRange, Some, facts, numbers
from anabranch.rag.stores.fulltext import telling_words
from anabranch.rag.stores.records import Add
from anabranch.rag.stores.sparse import passage_vectors, question_vector
from anabranch.rag.stores.switched import (
    Found,
    SourceRecord,
    SwitchedStore,
    check_model,
    in_groups,
    passage_id,
    read_chunk,
    read_record,
    source_key,
    told_chunk,
    told_model,
    told_record,
)
from anabranch.rag.types import Embedder, Vectors

try:
    from qdrant_client import AsyncQdrantClient, models
    from qdrant_client.http.exceptions import ApiException, UnexpectedResponse
except ModuleNotFoundError as error:
    raise ImportError(
        "QdrantStore needs qdrant-client: pip install 'anabranch[qdrant]'"
    ) from error

R = TypeVar("R")

DENSE: Final = "vector"
WORDS: Final = "words"
_MODEL: Final = str(UUID(int=0))
_PUT_AT_ONCE: Final = 256
_READ_AT_ONCE: Final = 512


class QdrantStore(SwitchedStore):
    """Passages in two collections of a Qdrant, 1.10 or later.

    Call :meth:`prepare` once before anything else. Full text is BM25 by a sparse vector of
    ours, whose rarity of words Qdrant computes (``modifier=idf``).

    Each source changes whole or not at all, for whoever searches and whatever is killed;
    of several in one :meth:`write`, some may have changed when it fails. One process may
    write at a time; any number may search.

    The client's local mode (``":memory:"`` or ``path=``) does its work in the event loop,
    compares every vector, and every fact of a passage with every value of a list in a
    filter, in Python, and is for trying things out.

    Args:
        client: Open, and closed by whoever opened it.
        embedder: Whose vectors are stored.
        collection: Name of the passages' collection; that of the source records ends in
            ``_sources``.
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        embedder: Embedder,
        *,
        collection: str = "anabranch",
    ) -> None:
        super().__init__(embedder, most_values=100_000)
        self._client = client
        self._passages = collection
        self._records = f"{collection}_sources"

    async def prepare(self) -> None:
        """Make the collections where there are none, or compare the model.

        Raises:
            StoreMismatch: They hold vectors of another model.
            StoreError: Qdrant refuses or cannot be reached, or the collections are others'.
        """
        if not await self._do(self._client.collection_exists(self._records)):
            await self._make()
        found = await self._do(self._client.retrieve(self._records, [_MODEL]))
        told = (found[0].payload or {}) if found else {}
        check_model(told, self._embedder, f"the Qdrant collection {self._passages!r}")

    async def _make(self) -> None:
        """The record of the model comes last: until then all of it is done again."""
        if not await self._do(self._client.collection_exists(self._passages)):
            await self._do(
                self._client.create_collection(
                    self._passages,
                    vectors_config={
                        DENSE: models.VectorParams(
                            size=self._embedder.dimensions, distance=models.Distance.DOT
                        )
                    },
                    sparse_vectors_config={
                        WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)
                    },
                )
            )
        with warnings.catch_warnings():
            # The local mode says that it needs none.
            warnings.simplefilter("ignore")
            for field in ("facts", "source_key", "version", "digest"):
                await self._do(
                    self._client.create_payload_index(
                        self._passages, field, models.PayloadSchemaType.KEYWORD
                    )
                )
        await self._do(self._client.create_collection(self._records, vectors_config={}))
        model = models.PointStruct(
            id=_MODEL, vector={}, payload=dict(told_model(self._embedder))
        )
        await self._do(self._client.upsert(self._records, [model], wait=True))

    # -- writing

    async def _put_passages(self, adds: Sequence[tuple[Add, Begun]]) -> None:
        points = await asyncio.to_thread(lambda: list(chain(*map(_points, adds))))
        for some in in_groups(points, _PUT_AT_ONCE):
            await self._do(self._client.upsert(self._passages, list(some), wait=True))

    async def _put_sources(self, records: Sequence[SourceRecord]) -> None:
        points = [
            models.PointStruct(
                id=str(UUID(record.key)), vector={}, payload=dict(told_record(record))
            )
            for record in records
        ]
        for some in in_groups(points, _PUT_AT_ONCE):
            await self._do(self._client.upsert(self._records, list(some), wait=True))

    async def _drop_sources(self, keys: Sequence[str]) -> None:
        await self._do(
            self._client.delete(self._records, [str(UUID(key)) for key in keys], wait=True)
        )

    async def _drop_passages(self, keys: Sequence[str], names: Sequence[str]) -> None:
        await self._delete(
            models.Filter(
                must=[_any("source_key", keys)], must_not=[_any("version", names)]
            )
        )

    async def _drop_versions(self, names: Sequence[str]) -> None:
        await self._delete(models.Filter(must=[_any("version", names)]))

    async def _delete(self, which: models.Filter) -> None:
        selector = models.FilterSelector(filter=which)
        await self._do(self._client.delete(self._passages, selector, wait=True))

    # -- reading

    async def _sources(self, keys: Sequence[str]) -> Mapping[str, SourceRecord]:
        if not keys:
            return {}
        found = await self._do(
            self._client.retrieve(self._records, [str(UUID(key)) for key in keys])
        )
        records = [read_record(point.payload or {}) for point in found]
        return {record.key: record for record in records}

    async def _all_sources(self) -> AsyncGenerator[SourceRecord]:
        async with aclosing(self._scroll(self._records, None)) as points:
            async for point in points:
                if point.id != _MODEL:
                    yield read_record(point.payload or {})

    async def _all_names(self) -> AsyncGenerator[tuple[str, str]]:
        fields = ["source_key", "version"]
        async for point in self._scroll(self._passages, None, with_payload=fields):
            payload: Mapping[str, Any] = point.payload
            yield payload["source_key"], payload["version"]

    async def _all_passages(self, where: Bound) -> AsyncGenerator[Sequence[Found]]:
        some: list[Found] = []
        async for point in self._scroll(
            self._passages, _filter(where, ()), with_vectors=[DENSE]
        ):
            some.append(_found(point, vector=_dense(point)))
            if len(some) == _READ_AT_ONCE:
                yield some
                some = []
        if some:
            yield some

    async def _scroll(
        self, collection: str, which: models.Filter | None, **options: Any
    ) -> AsyncGenerator[Any]:
        """Points in the order of their ids, so that none comes twice."""
        offset: Any = None
        while True:
            points, offset = await self._do(
                self._client.scroll(
                    collection, which, limit=_READ_AT_ONCE, offset=offset, **options
                )
            )
            for point in points:
                yield point
            if offset is None:
                return

    async def _nearest(
        self, vector: Vectors, limit: int, where: Bound, without: Sequence[str]
    ) -> Sequence[Found]:
        return await self._query(vector.tolist(), DENSE, limit, where, without)

    async def _matching(
        self, query: str, limit: int, where: Bound, without: Sequence[str]
    ) -> Sequence[Found]:
        asked = await asyncio.to_thread(question_vector, telling_words(query))
        if not asked:
            return []
        sparse = models.SparseVector(indices=list(asked), values=list(asked.values()))
        return await self._query(sparse, WORDS, limit, where, without)

    async def _query(
        self, query: Any, using: str, limit: int, where: Bound, without: Sequence[str]
    ) -> Sequence[Found]:
        answer = await self._do(
            self._client.query_points(
                self._passages,
                query=query,
                using=using,
                query_filter=_filter(where, without),
                limit=limit,
            )
        )
        return [_found(point, score=point.score) for point in answer.points]

    async def _vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        which = models.Filter(must=[_any("digest", [digest.hex() for digest in digests])])
        found: dict[bytes, Vectors] = {}
        async for point in self._scroll(
            self._passages, which, with_payload=["digest"], with_vectors=[DENSE]
        ):
            payload: Mapping[str, Any] = point.payload
            found[bytes.fromhex(payload["digest"])] = _dense(point)
        return found

    async def _do(self, call: Awaitable[R]) -> R:
        try:
            return await call
        except UnexpectedResponse as error:
            said = error.content.decode("utf-8", "replace")[:300]
            raise StoreError(f"Qdrant refuses ({error.status_code}): {said}") from error
        except ApiException as error:
            raise StoreError(
                f"Qdrant cannot be reached ({error}): see that it runs, and at this address"
            ) from error


def _points(added: tuple[Add, Begun]) -> list[models.PointStruct]:
    add, begun = added
    key = source_key(begun.version.uri)
    texts = [f"{chunk.metadata.get('title') or ''} {chunk.text}" for chunk in add.chunks]
    words = passage_vectors(texts)
    rows = zip(add.chunks, add.digests, add.vectors, words, strict=True)
    points: list[models.PointStruct] = []
    for number, (chunk, digest, vector, places) in enumerate(rows, start=begun.count):
        own = passage_id(begun, number)
        payload: dict[str, Any] = {
            **told_chunk(chunk),
            "id": own,
            "source": begun.version.uri,
            "source_key": key,
            "version": begun.name,
            "digest": digest.hex(),
            "facts": facts(chunk.metadata),
            "numbers": numbers(chunk.metadata),
        }
        sparse = models.SparseVector(indices=list(places), values=list(places.values()))
        vectors: dict[str, Any] = {DENSE: vector.tolist(), WORDS: sparse}
        points.append(models.PointStruct(id=_uuid(own), vector=vectors, payload=payload))
    return points


def _found(point: Any, *, score: float = 0.0, vector: Vectors | None = None) -> Found:
    payload = point.payload
    return Found(
        id=payload["id"],
        key=payload["source_key"],
        name=payload["version"],
        source=payload["source"],
        chunk=read_chunk(payload),
        digest=bytes.fromhex(payload["digest"]),
        score=score,
        vector=vector,
    )


def _dense(point: Any) -> Vectors:
    return np.array(point.vector[DENSE], np.float32)


def _uuid(own: str) -> str:
    return str(UUID(bytes=blake2b(own.encode(), digest_size=16).digest()))


# -- filters


def _filter(where: Bound, without: Sequence[str]) -> models.Filter | None:
    if where == Every() and not without:
        return None
    stale: list[Any] = [_any("version", without)] if without else []
    return models.Filter(must=[_condition(where)], must_not=stale)


def _condition(where: Bound) -> Any:
    match where:
        case Has(found, is_denied):
            has = _any("facts", found)
            return models.Filter(must_not=[has]) if is_denied else has
        case InRange(number, op, value):
            within = models.Range(lte=value) if op == "<=" else models.Range(gte=value)
            return models.FieldCondition(key=f"numbers.{number}", range=within)
        case Every(parts):
            return models.Filter(must=[_condition(part) for part in parts])
        case Some(()):
            return models.HasIdCondition(has_id=[])
        case Some(parts):
            return models.Filter(should=[_condition(part) for part in parts])


def _any(field: str, values: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))

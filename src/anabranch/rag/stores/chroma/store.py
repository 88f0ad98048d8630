"""Passages in Chroma.

Two collections: one of passages, and one of source records, which must have vectors too
and have one of a single number. See :mod:`anabranch.rag.stores.switched` for what makes a
source whole. Chroma indexes each metadata key of a collection by itself, so the facts of
a passage are one list under one key.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from anabranch.errors import UsageError
from anabranch.rag.stores.begun import Begun
from anabranch.rag.stores.chroma.client import ChromaClient
from anabranch.rag.stores.facets import Bound, Every, Has, InRange, Some, facts, numbers
from anabranch.rag.stores.records import Add
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
from anabranch.retry import Retry

_MODEL: Final = "model"
# Nothing has it, and every passage has another, for a list may not be empty.
_NOTHING: Final = "nothing"
_SOMETHING: Final = "passage"
_AT_ONCE: Final = 256
# Chroma makes a condition in SQL of it, whose depth has a limit.
_MOST_VALUES: Final = 300
_WHOLE: Final = ("metadatas", "documents")

Json = Mapping[str, Any]


class ChromaStore(SwitchedStore):
    """Passages in two collections of a Chroma server, 1.0 or later.

    Use it as an async context manager; its connections close when the block ends. It
    speaks HTTP itself and needs no package of Chroma's.

    Each source changes whole or not at all, for whoever searches and whatever is killed;
    of several in one :meth:`write`, some may have changed when it fails. One process may
    write at a time; any number may search. Chroma ranks no words: :meth:`search_text` is
    refused.

    Args:
        url: Such as ``http://localhost:8000``.
        embedder: Whose vectors are stored.
        collection: Name of the passages' collection; that of the source records ends in
            ``_sources``.
        token: Sent as ``X-Chroma-Token``.
        tenant: Whose databases these are.
        database: In which collections are made.
        timeout: Seconds that one answer may take.
        retry: How many tries in all, or when and how.

    Raises:
        UsageError: The address cannot be one.
    """

    def __init__(
        self,
        url: str,
        embedder: Embedder,
        *,
        collection: str = "anabranch",
        token: str | None = None,
        tenant: str = "default_tenant",
        database: str = "default_database",
        timeout: float = 60.0,
        retry: int | Retry = 3,
    ) -> None:
        super().__init__(embedder, most_values=_MOST_VALUES)
        self._client = ChromaClient(
            url,
            token=token,
            tenant=tenant,
            database=database,
            timeout=timeout,
            retry=retry,
        )
        self._name = collection
        self._passages = ""
        self._records = ""

    async def __aenter__(self) -> Self:
        """Open connections; make the collections, or compare the model.

        Raises:
            StoreMismatch: They hold vectors of another model.
            StoreError: The server refuses or cannot be reached, or they are others'.
        """
        self._client.open()
        try:
            await self._prepare()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.aclose()

    async def _prepare(self) -> None:
        # Vectors have unit length, and "cosine" would round them once more.
        self._passages = await self._client.collection(self._name, space="ip")
        self._records = await self._client.collection(f"{self._name}_sources", space="l2")
        found = await self._client.get(self._records, ids=[_MODEL], include=["metadatas"])
        if not found["ids"] and not (await self._first_ids()):
            await self._put_records([_MODEL], [told_model(self._embedder)])
            found["metadatas"] = [told_model(self._embedder)]
        where = f"the collection {self._name!r} of Chroma at {self._client.url}"
        check_model((found["metadatas"] or [{}])[0], self._embedder, where)

    async def _first_ids(self) -> Sequence[str]:
        found = await self._client.get(self._passages, limit=1, include=[])
        return list(found["ids"])

    # -- writing

    async def _put_passages(self, adds: Sequence[tuple[Add, Begun]]) -> None:
        rows = [(add, begun, n) for add, begun in adds for n in range(len(add.chunks))]
        for some in in_groups(rows, _AT_ONCE):
            ids, vectors, metadatas, documents = await asyncio.to_thread(_records, some)
            await self._client.upsert(
                self._passages, ids, vectors, metadatas=metadatas, documents=documents
            )

    async def _put_sources(self, records: Sequence[SourceRecord]) -> None:
        for some in in_groups(records, _AT_ONCE):
            await self._put_records(
                [record.key for record in some], [told_record(record) for record in some]
            )

    async def _put_records(self, ids: Sequence[str], told: Sequence[Json]) -> None:
        await self._client.upsert(self._records, ids, [[0.0]] * len(ids), metadatas=told)

    async def _drop_sources(self, keys: Sequence[str]) -> None:
        for some in in_groups(keys, _AT_ONCE):
            await self._client.delete(self._records, ids=list(some))

    async def _drop_passages(self, keys: Sequence[str], names: Sequence[str]) -> None:
        for some in in_groups(keys, _AT_ONCE):
            clauses: list[Json] = [{"source_key": {"$in": list(some)}}, *_but(names)]
            await self._client.delete(self._passages, where=_joined("$and", clauses))

    async def _drop_versions(self, names: Sequence[str]) -> None:
        await self._client.delete(self._passages, where={"version": {"$in": list(names)}})

    # -- reading

    async def _sources(self, keys: Sequence[str]) -> Mapping[str, SourceRecord]:
        if not keys:
            return {}
        found = await self._client.get(self._records, ids=list(keys), include=["metadatas"])
        records = map(read_record, found["metadatas"] or ())
        return {record.key: record for record in records}

    async def _all_sources(self) -> AsyncGenerator[SourceRecord]:
        ids = await self._ids(self._records, None)
        for some in in_groups([one for one in ids if one != _MODEL], _AT_ONCE):
            for record in (await self._sources(some)).values():
                yield record

    async def _all_names(self) -> AsyncGenerator[tuple[str, str]]:
        for one in await self._ids(self._passages, None):
            key, name, _ = one.split("-")
            yield key, name

    async def _all_passages(self, where: Bound) -> AsyncGenerator[Sequence[Found]]:
        ids = await self._ids(self._passages, _where(where, ()))
        for some in in_groups(ids, _AT_ONCE):
            yield await self._whole(some)

    async def _whole(self, ids: Sequence[str]) -> Sequence[Found]:
        found = await self._client.get(
            self._passages, ids=list(ids), include=[*_WHOLE, "embeddings"]
        )
        rows = zip(
            found["ids"],
            found["metadatas"] or (),
            found["documents"] or (),
            found["embeddings"] or (),
            strict=True,
        )
        return [
            _found(own, told, text, vector=np.array(vector, np.float32))
            for own, told, text, vector in rows
        ]

    async def _ids(self, collection: str, where: Json | None) -> Sequence[str]:
        """All at once: a page by number would move when others delete."""
        asked = {} if where is None else {"where": where}
        found = await self._client.get(collection, include=[], **asked)
        return list(found["ids"])

    async def _nearest(
        self, vector: Vectors, limit: int, where: Bound, without: Sequence[str]
    ) -> Sequence[Found]:
        said = _where(where, without)
        asked = {} if said is None else {"where": said}
        answer = await self._client.query(
            self._passages,
            query_embeddings=[vector.tolist()],
            n_results=limit,
            include=[*_WHOLE, "distances"],
            **asked,
        )
        rows = zip(
            answer["ids"][0],
            answer["metadatas"][0],
            answer["documents"][0],
            answer["distances"][0],
            strict=True,
        )
        found = [
            _found(own, told, text, score=1.0 - distance)
            for own, told, text, distance in rows
        ]
        if len(found) < limit:
            # There are no more, or Chroma's graph gave up before it met them.
            ids = await self._ids(self._passages, said)
            if len(ids) > len(found):
                return await self._exact(vector, limit, ids)
        return found

    async def _exact(
        self, vector: Vectors, limit: int, ids: Sequence[str]
    ) -> Sequence[Found]:
        """The nearest of these, each compared."""
        best: list[Found] = []
        for some in in_groups(ids, _AT_ONCE):
            for one in await self._whole(some):
                assert one.vector is not None
                best.append(one.scored(float(one.vector @ vector)))
            best.sort(key=lambda one: -one.score)
            del best[limit:]
        return best

    async def _matching(
        self, query: str, limit: int, where: Bound, without: Sequence[str]
    ) -> Sequence[Found]:
        raise UsageError(
            "Chroma has no full text that ranks: search by vectors alone, or keep the "
            "passages in another store (the embedded one, PostgreSQL, Solr, Qdrant)"
        )

    async def _vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        found = await self._client.get(
            self._passages,
            where={"digest": {"$in": [digest.hex() for digest in digests]}},
            include=["metadatas", "embeddings"],
        )
        rows = zip(found["metadatas"] or (), found["embeddings"] or (), strict=True)
        return {
            bytes.fromhex(told["digest"]): np.array(vector, np.float32)
            for told, vector in rows
        }


def _records(
    rows: Sequence[tuple[Add, Begun, int]],
) -> tuple[list[str], list[str], list[Json], list[str]]:
    """Ids, vectors, metadata and texts of some chunks, each by its place in its add."""
    ids: list[str] = []
    vectors: list[str] = []
    metadatas: list[Json] = []
    documents: list[str] = []
    for add, begun, place in rows:
        chunk = add.chunks[place]
        ids.append(passage_id(begun, begun.count + place))
        data = add.vectors[place].astype("<f4").tobytes()
        vectors.append(base64.b64encode(data).decode())
        told = told_chunk(chunk)
        documents.append(str(told.pop("text")))
        metadatas.append(
            {
                **told,
                "source": begun.version.uri,
                "source_key": source_key(begun.version.uri),
                "version": begun.name,
                "digest": add.digests[place].hex(),
                "facts": [_SOMETHING, *facts(chunk.metadata)],
                **{_number(n): value for n, value in numbers(chunk.metadata).items()},
            }
        )
    return ids, vectors, metadatas, documents


def _found(
    own: str, told: Json, text: str, *, score: float = 0.0, vector: Vectors | None = None
) -> Found:
    return Found(
        id=own,
        key=told["source_key"],
        name=told["version"],
        source=told["source"],
        chunk=read_chunk({**told, "text": text}),
        digest=bytes.fromhex(told["digest"]),
        score=score,
        vector=vector,
    )


# -- filters


def _where(where: Bound, without: Sequence[str]) -> Json | None:
    parts = [] if where == Every() else [_condition(where)]
    parts += _but(without)
    return _joined("$and", parts) if parts else None


def _but(names: Sequence[str]) -> list[Json]:
    return [{"version": {"$nin": list(names)}}] if names else []


def _condition(where: Bound) -> Json:
    match where:
        case Has((), is_denied):
            return _constant(is_denied)
        case Has(found, False):
            return _joined("$or", [{"facts": {"$contains": one}} for one in found])
        case Has(found, _):
            return _joined("$and", [{"facts": {"$not_contains": one}} for one in found])
        case InRange(number, op, value):
            return {_number(number): {"$lte" if op == "<=" else "$gte": value}}
        case Every(()) | Some(()):
            return _constant(isinstance(where, Every))
        case Every(parts) | Some(parts):
            word = "$and" if isinstance(where, Every) else "$or"
            return _joined(word, list(map(_condition, parts)))


def _constant(is_true: bool) -> Json:
    return {"facts": {"$not_contains" if is_true else "$contains": _NOTHING}}


def _joined(word: str, parts: Sequence[Json]) -> Json:
    """Two by two, since Chroma nests what stands side by side."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return {word: [_joined(word, parts[:middle]), _joined(word, parts[middle:])]}


def _number(field: str) -> str:
    return f"number_{field}"

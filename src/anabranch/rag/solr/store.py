"""Passages in Apache Solr."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar
from uuid import uuid4

from anabranch.errors import SolrError, StoreError, StoreMismatch
from anabranch.rag.asking import check_k
from anabranch.rag.filters import as_filter
from anabranch.rag.plan import Version
from anabranch.rag.solr import documents
from anabranch.rag.solr.client import Commit, SolrClient
from anabranch.rag.solr.documents import LIVE, NOT_LIVE, PASSAGES, Doc
from anabranch.rag.solr.queries import is_in, knn, none_of, terms, where_clause
from anabranch.rag.solr.replies import entry
from anabranch.rag.stores.begun import Begun, Plan, plan
from anabranch.rag.stores.fulltext import match_any
from anabranch.rag.stores.records import Count, Passage, Remove, Write
from anabranch.rag.stores.storable import check_vector, is_storable, storable
from anabranch.rag.types import Embedder, Hit, Vectors, Where

T = TypeVar("T")

# A list of ids in a query, and documents with vectors in an answer.
_GROUP: Final = 250
# Solr's maxBooleanClauses is 1,024, for each word in each field.
_MOST_WORDS: Final = 200


class SolrStore:
    """Passages in a collection of Solr's, found by vectors and by words.

    Call :meth:`prepare` once before anything else. What holds, since Solr has no
    transactions: each source changes whole or not at all, in one stroke, for whoever
    searches, and whatever is killed. Of several sources in one :meth:`write` some may have
    changed when it fails or is cancelled; the next run of a pipeline does the rest. When
    ``write`` returns, Solr has it in its transaction log: it survives the death of
    Solr's process, and with ``commit="hard"`` a loss of power too.

    One process may write at a time, which nothing here enforces; any number may search.

    Args:
        client: Open, and closed by whoever opened it.
        embedder: Whose vectors are stored.
        commit: What :meth:`write` ends with. With ``None`` it returns at once, and Solr
            shows what was written after ``commit_within``.
        commit_within: Seconds, with ``commit=None``; by default whatever Solr is
            configured for.
        text_type: The field type that analyses texts, such as ``"text_en"``.
    """

    def __init__(
        self,
        client: SolrClient,
        embedder: Embedder,
        *,
        commit: Commit = "soft",
        commit_within: float | None = None,
        text_type: str = "text_general",
    ) -> None:
        self._client = client
        self._embedder = embedder
        self._commit: Commit = commit
        self._commit_within = commit_within if commit is None else None
        self._text_type = text_type
        self._begun: Mapping[str, Begun] = {}
        # Names of versions are given out in the order of writes.
        self._turn = asyncio.Lock()

    async def prepare(self) -> None:
        """Add to the schema what is missing, and note the model, or compare it.

        The collection's uniqueKey must be ``id``; its other documents are left alone.

        Raises:
            StoreMismatch: It holds vectors of another model.
            StoreError: It has another uniqueKey, or fields of ours with other types.
            SolrError: Solr cannot be reached or refuses.
        """
        schema = await self._client.schema()
        if schema.get("uniqueKey") != "id":
            raise StoreError(
                f"{self._client.url} has the uniqueKey {schema.get('uniqueKey')!r}: "
                "passages need a collection whose uniqueKey is 'id'"
            )
        await self._check_model()
        dimensions = self._embedder.dimensions
        if misfit := documents.misfit(schema, dimensions=dimensions):
            raise StoreError(
                f"{self._client.url} has {misfit}: use another collection, or delete the "
                "field if nothing needs it"
            )
        changes = documents.schema_changes(
            schema, dimensions=dimensions, text_type=self._text_type
        )
        await self._client.change_schema(changes)
        try:
            await self._client.add([documents.facts(self._embedder)], commit="hard")
        except SolrError as error:
            if error.status != 409:
                raise
            # There is one already, perhaps since a moment ago.
            await self._check_model()

    # -- writing

    async def write(self, writes: Sequence[Write]) -> None:
        """Each source of these whole or not at all; see the class.

        Passages go first, where nobody finds them; then, in one request, what says which
        of them are found; then what is not found any more is deleted.

        Raises:
            SolrError: Solr refuses or cannot be reached.
            UsageError: A source's name cannot be stored, or a number in the metadata has
                more than 64 bits.
        """
        async with self._turn:
            made = plan(await asyncio.to_thread(storable, writes), self._begun, _new_name)
            await self._client.add(
                await asyncio.to_thread(_passage_docs, made),
                commit_within=self._commit_within,
            )
            await self._switch(made)
            if self._commit is not None:
                await self._client.commit(soft=self._commit == "soft")
            # Not before all is done: written again, they begin where these began.
            self._begun = made.begun

    async def delete(self, where: Where) -> Sequence[str]:
        """Remove each source of whose passages the filter means one, and name them.

        Raises:
            SolrError: Solr refuses or cannot be reached.
            UsageError: The filter cannot be said in Solr.
        """
        fields = ["id", "rag_source"]
        gone: dict[str, None] = {}
        async for doc in self._each(PASSAGES, _filters(where), fields):
            gone[doc.get("rag_source", "")] = None
        await self.write([Remove(uri) for uri in gone])
        return list(gone)

    async def sweep(self) -> None:
        """Delete the passages of versions that will never be complete.

        What another process is writing at this time looks the same and goes too. Ends
        with a hard commit.
        """
        async with self._turn:
            await self._client.commit()
            while names := await self._stale():
                for some in _groups(names):
                    await self._client.delete_by_query(is_in(documents.VERSION, some))
                await self._client.commit()

    async def _switch(self, made: Plan) -> None:
        if not made.switches:
            return
        commands: list[tuple[str, Any]] = []
        for uri, begun in made.switches.items():
            if begun is None:
                commands.append(("delete", [documents.source_id(uri)]))
            else:
                doc = documents.source_doc(begun.version, begun.name)
                commands.append(("add", {"doc": doc}))
        await self._client.update(commands, commit_within=self._commit_within)
        for some in _groups(list(made.switches)):
            keys = [documents.source_key(uri) for uri in some]
            kept = [each.name for each in made.kept() if each.version.uri in some]
            await self._client.delete_by_query(documents.others(keys, kept))

    async def _stale(self) -> list[str]:
        """The names of some versions that no source names, but for those being written."""
        mine = [begun.name for begun in self._begun.values()]
        kept = [none_of(is_in(documents.VERSION, some)) for some in _groups(mine)]
        found = await self._client.select(
            PASSAGES,
            fq=[NOT_LIVE, *kept, f"{{!collapse field={documents.VERSION}}}"],
            fl=[documents.VERSION],
            rows=_GROUP,
            params={"sources": documents.SOURCES},
        )
        return list({doc[documents.VERSION] for doc in _docs(found)})

    # -- reading

    async def versions(self, uris: Sequence[str]) -> Mapping[str, Version]:
        """The complete version of each source that has one, committed or not."""
        found: dict[str, Version] = {}
        for some in _groups(uris):
            ids = [documents.source_id(uri) for uri in some if is_storable(uri)]
            docs = await self._client.get(ids, fl=["rag_metadata"])
            versions = [documents.version_of(doc) for doc in docs]
            found.update((version.uri, version) for version in versions)
        return found

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """The vectors that are stored and committed for some texts, complete or not."""
        found: dict[bytes, Vectors] = {}
        for some in _groups(list(dict.fromkeys(digests))):
            answer = await self._client.select(
                terms(documents.DIGEST, [digest.hex() for digest in some]),
                fq=[PASSAGES, f"{{!collapse field={documents.DIGEST}}}"],
                fl=[documents.DIGEST, documents.VECTOR],
                rows=len(some),
            )
            found |= documents.vectors_of(_docs(answer))
        return found

    async def count(self) -> Count:
        """How many sources are complete, and how many passages they have."""
        sources = await self._client.select(documents.SOURCES, rows=0)
        passages = await self._client.select(PASSAGES, fq=[LIVE], rows=0)
        return Count(sources["response"]["numFound"], passages["response"]["numFound"])

    async def sources(self) -> AsyncGenerator[Version]:
        """The complete and committed version of every source, in no promised order."""
        found = self._each(documents.SOURCES, [], ["id", "rag_metadata"])
        async with aclosing(found) as each:
            async for doc in each:
                yield documents.version_of(doc)

    async def passages(self, where: Where | None = None) -> AsyncGenerator[Passage]:
        """Every committed passage, source by source.

        Raises:
            SolrError: Solr refuses or cannot be reached.
            UsageError: The filter cannot be said in Solr.
        """
        source = version = None
        found = self._each(PASSAGES, _filters(where), documents.WHOLE)
        async with aclosing(found) as each:
            async for doc in each:
                if doc["rag_key"] != source:
                    source, version = doc["rag_key"], doc[documents.VERSION]
                if doc[documents.VERSION] == version:  # it may have changed since then
                    yield documents.passage_of(doc)

    async def _each(
        self, query: str, filters: Sequence[str], fields: Sequence[str]
    ) -> AsyncGenerator[Doc]:
        """What a query finds, by id, so that what others write moves nothing."""
        mark, after = "", "*"
        while mark != after:
            mark = after
            found = await self._client.select(
                query,
                fq=filters,
                fl=fields,
                rows=_GROUP,
                sort="id asc",
                params={"cursorMark": mark},
            )
            for doc in _docs(found):
                yield doc
            after = found["nextCursorMark"]

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        """The ``k`` passages nearest by Solr's graph of vectors, which is not exact.

        A filter is heeded before the search, so that it does not make hits fewer. The
        score is the cosine.

        Raises:
            SolrError: Solr refuses or cannot be reached.
            UsageError: The vector has another length than those of the index, or the
                filter cannot be said in Solr.
        """
        check_vector(vector, self._embedder.dimensions)
        check_k("k", k)
        found = await self._client.select(
            knn(documents.VECTOR, vector, k),
            fq=_filters(where),
            fl=documents.SHOWN,
            rows=k,
        )
        # Solr's score of a cosine is (1 + cosine) / 2.
        return _hits(found, name, lambda score: 2 * score - 1)

    async def search_text(
        self, query: str, *, k: int, where: Where | None = None, name: str = "full text"
    ) -> Sequence[Hit]:
        """The ``k`` passages with the best BM25 for the words of ``query``.

        Nothing in the query is syntax: its words are looked for in text and title.

        Raises:
            SolrError: Solr refuses or cannot be reached.
            UsageError: The filter cannot be said in Solr.
        """
        check_k("k", k)
        words = match_any(query)
        if words is None:
            return []
        found = await self._client.select(
            "{!edismax v=$words}",
            fq=_filters(where),
            fl=documents.SHOWN,
            rows=k,
            sort="score desc, id asc",
            params={
                # Words in quotes with OR between them mean the same in both languages.
                "words": " OR ".join(words.split(" OR ")[:_MOST_WORDS]),
                "qf": f"{documents.TEXT} {documents.TITLE}",
                "tie": "1.0",
                "mm": "1",
                "uf": "-*",
            },
        )
        return _hits(found, name, lambda score: score)

    # -- the model

    async def _check_model(self) -> None:
        found = await self._client.get([documents.FACTS], fl=["rag_metadata"])
        for doc in found:
            said = json.loads(doc["rag_metadata"])
            if said["format"] != documents.FORMAT:
                raise StoreError(
                    f"{self._client.url} holds passages of format {said['format']}, and "
                    f"this version of anabranch reads format {documents.FORMAT}: use "
                    "another collection"
                )
            if said["model_digest"] != self._embedder.digest:
                raise StoreMismatch(
                    f"{self._client.url} was made with the model {said['model']}, whose "
                    f"vectors cannot be compared with those of {self._embedder.name}: use "
                    "the same model, or another collection"
                )


def _passage_docs(made: Plan) -> list[Doc]:
    return [
        doc
        for add, begun in made.adds
        for doc in documents.passage_docs(add, begun.name, begun.count)
    ]


def _new_name() -> str:
    return uuid4().hex


def _filters(where: Where | None) -> list[str]:
    """Passages of complete versions, and of those the ones that are meant."""
    clauses = [PASSAGES, LIVE]
    return clauses if where is None else [*clauses, where_clause(as_filter(where))]


def _docs(answer: Mapping[str, Any]) -> Sequence[Doc]:
    docs: Sequence[Doc] = entry(answer.get("response"), "docs") or []
    return docs


def _hits(
    answer: Mapping[str, Any], name: str, scaled: Callable[[float], float]
) -> Sequence[Hit]:
    return [
        documents.hit_of(doc, score=scaled(doc["score"]), name=name, rank=rank)
        for rank, doc in enumerate(_docs(answer), start=1)
    ]


def _groups(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _GROUP):
        yield values[start : start + _GROUP]

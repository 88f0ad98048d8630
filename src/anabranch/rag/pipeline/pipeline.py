"""What a pipeline is made of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass

from anabranch.errors import SourceError, UsageError
from anabranch.jobs.check import check_count
from anabranch.observe import Observer, Observers
from anabranch.rag.pipeline.report import Report
from anabranch.rag.pipeline.run import Run
from anabranch.rag.plan import Strategy
from anabranch.rag.stages import Stage
from anabranch.rag.stores import Sink
from anabranch.rag.types import Chunk, Document, Embedder, Reader, Splitter


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Brings a store up to date with sources.

    Attributes:
        reader: Where contents come from.
        splitter: Cuts documents into chunks.
        embedder: Gives them vectors; the store was made for it.
        store: Open for writing.
        readers: Sources read at once.
        embedders: Batches embedded at once. A model of this machine uses all of its cores
            for one; a service may be asked for several.
        documents: Stages of your own on documents, in this order, before they are split.
        chunks: Stages of your own on chunks, in this order, before they are embedded.
        strategy: What becomes of sources that the store holds already. ``"upsert"``:
            those that have changed are indexed anew. ``"skip"``: those that are there in
            any version are not even read. ``"delete"``: as ``"upsert"``, and those that
            the run was not given are removed, if the list of what it was given is whole
            and not empty.
        cache: The file in which stages with ``cached=True`` remember results.

    Raises:
        UsageError: A value cannot be meant.
    """

    reader: Reader
    splitter: Splitter
    embedder: Embedder
    store: Sink
    readers: int = 8
    embedders: int = 1
    documents: Sequence[Stage[Document]] = ()
    chunks: Sequence[Stage[Chunk]] = ()
    strategy: Strategy = "upsert"
    cache: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_count("readers", self.readers)
        check_count("embedders", self.embedders)
        if self.strategy not in ("upsert", "skip", "delete"):
            raise UsageError(
                f"strategy must be 'upsert', 'skip' or 'delete', not {self.strategy!r}"
            )
        names = Counter(name for name, _ in self.stages)
        if twice := [name for name, count in names.items() if count > 1]:
            raise UsageError(f"two stages have one name: {', '.join(twice)}")
        cached = [stage.name for stage in self.own_stages if stage.is_cached]
        if cached and self.cache is None:
            raise UsageError(
                f"the results of stage {cached[0]!r} are to be cached, and the pipeline "
                "has no cache: name a file with cache="
            )

    @property
    def own_stages(self) -> Sequence[Stage[Document] | Stage[Chunk]]:
        """Those that are not in every pipeline."""
        return [*self.documents, *self.chunks]

    @property
    def stages(self) -> Sequence[tuple[str, int]]:
        """Each stage's name and how many are at work in it at most, in their order."""
        return [
            ("read", self.readers),
            ("parse", 1),
            *((stage.name, stage.concurrency) for stage in self.documents),
            ("split", 1),
            *((stage.name, stage.concurrency) for stage in self.chunks),
            ("embed", self.embedders),
            ("store", 1),
        ]

    @property
    def fingerprint(self) -> str:
        """Of everything beside a source's bytes that decides its chunks and vectors."""
        own = [stage.fingerprint for stage in self.own_stages]
        return "/".join((self.splitter.fingerprint, self.embedder.digest, *own))

    async def run(
        self,
        uris: AsyncIterable[str | SourceError],
        *,
        total: int | None = None,
        observer: Observer | None = None,
    ) -> Report:
        """Index what is new or changed among the sources, and leave the rest.

        A broken source is reported and the others go on. Killed at any point and run
        again, it repeats at most the batches that were not stored yet and loses nothing.

        Args:
            uris: The sources; an error among them is a source that cannot be found.
            total: How many there are, for the observer.
            observer: Told of each source by its URI, how many passages are stored, and
                how the stages stand.

        Raises:
            StoreError: The store or the cache cannot be written: what was stored stands.
            EmbeddingError: The embedder gives up, or gives what are no vectors: what was
                stored stands.
        """
        return await Run(self, Observers(*filter(None, [observer]))).all(uris, total)

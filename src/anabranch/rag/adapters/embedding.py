"""An embedder of ours around a model of theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import numpy as np

from anabranch.errors import AnabranchError, EmbeddingError
from anabranch.jobs import amap
from anabranch.jobs.check import check_count
from anabranch.rag.adapters.identity import class_name
from anabranch.rag.adapters.identity import digest as digest_of
from anabranch.rag.types import Chunk, Vectors

R = TypeVar("R")

Rows: TypeAlias = Sequence[Sequence[float]]

_PROBE: Final = "one"
# What a chunk has, about, where nobody counted.
_CHUNK_TOKENS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of theirs, and how it is asked without holding up the loop.

    Attributes:
        theirs: The object itself.
        name: Of the model.
        embed: A vector a text, in their order.
        ask: The vector of a question.
        batch: Texts in one call.
        concurrency: Calls at once.
    """

    theirs: object
    name: str
    embed: Callable[[list[str]], Awaitable[Rows]]
    ask: Callable[[str], Awaitable[Sequence[float]]]
    batch: int
    concurrency: int


class AdaptedEmbedder:
    """An :class:`~anabranch.rag.Embedder` that asks a model of another library.

    Texts go out in batches, some at once, and the vectors come back in order, of unit
    length; a vector of zeros stays one. The first failure cancels the other batches.

    Attributes:
        name: The model, for people.
        digest: Changes with the model, as far as can be told.
        dimensions: Length of a vector.
        max_tokens: What the model reads of one text, as it was given.
        batch_tokens: Tokens for twice as many batches as are under way at once.
    """

    def __init__(
        self, model: Model, *, dimensions: int, digest: str | None, max_tokens: int
    ) -> None:
        check_count("dimensions", dimensions)
        check_count("max_tokens", max_tokens)
        check_count("batch", model.batch)
        self.name = model.name
        self.digest = digest or f"adapted-{digest_of(model.theirs, dimensions)}"
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        at_once = 2 * model.concurrency * model.batch
        self.batch_tokens = at_once * min(max_tokens, _CHUNK_TOKENS)
        self._model = model

    @classmethod
    async def of(
        cls, model: Model, *, dimensions: int | None, digest: str | None, max_tokens: int
    ) -> AdaptedEmbedder:
        """One that knows how long the vectors are: it asks the model, if nobody says."""
        if dimensions is None:
            dimensions = len(await _asked(model, lambda: model.ask(_PROBE)))
            if not dimensions:
                raise EmbeddingError(f"{_who(model)} gave an empty vector")
        return cls(model, dimensions=dimensions, digest=digest, max_tokens=max_tokens)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_who(self._model)}>"

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        """One unit vector a chunk, in their order.

        Raises:
            EmbeddingError: The model fails, or does not answer with vectors.
        """
        if not chunks:
            return np.zeros((0, self.dimensions), np.float32)
        texts = [chunk.text for chunk in chunks]
        step = self._model.batch
        batches = [texts[start : start + step] for start in range(0, len(texts), step)]
        answers = await amap(self._batch, batches, concurrency=self._model.concurrency)
        vectors: Vectors = np.concatenate(answers)
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        """The unit vector of a question.

        Raises:
            EmbeddingError: As for :meth:`embed`.
        """
        answer = await _asked(self._model, lambda: self._model.ask(text))
        vector: Vectors = self._unit([answer], 1)[0]
        return vector

    async def _batch(self, texts: list[str]) -> Vectors:
        answer = await _asked(self._model, lambda: self._model.embed(texts))
        return self._unit(answer, len(texts))

    def _unit(self, rows: Rows, count: int) -> Vectors:
        """What was answered, checked, and each row divided by its length."""
        who = _who(self._model)
        try:
            vectors = np.asarray(rows, np.float64)
        except (TypeError, ValueError) as error:
            raise EmbeddingError(f"{who} gave what are no vectors ({error})") from error
        if vectors.shape != (count, self.dimensions):
            shape = " × ".join(map(str, vectors.shape))
            raise EmbeddingError(
                f"{who} was given {count} texts and answered with {shape} numbers, not "
                f"{count} × {self.dimensions}"
            )
        if not np.isfinite(vectors).all():
            [place, *_] = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            raise EmbeddingError(
                f"{who} gave a NaN or an infinity in vector {place + 1} of {count}"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return unit


def check_concurrency(concurrency: int | None, *, is_async: bool) -> int:
    """How many calls at once: as given, or 4, or 1 where it is not known to be safe."""
    if concurrency is None:
        return 4 if is_async else 1
    check_count("concurrency", concurrency)
    return concurrency


async def _asked(model: Model, ask: Callable[[], Awaitable[R]]) -> R:
    try:
        return await ask()
    except AnabranchError:
        raise  # it was one of ours, within one of theirs
    except Exception as error:
        status = getattr(error, "status_code", None)
        raise EmbeddingError(
            f"{_who(model)} failed: {type(error).__name__}: {error}",
            status=status if isinstance(status, int) else None,
        ) from error


def _who(model: Model) -> str:
    return f"{class_name(model.theirs).rpartition('.')[2]} ({model.name})"

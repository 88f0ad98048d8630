"""Whatever embedder somebody brings: what is no unit vector is neither stored nor asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anabranch.errors import EmbeddingError
from anabranch.rag import Chunk, SqliteStore, VectorRetriever
from anabranch.rag.embedders.checked import unit_vectors
from tests.rag.parts import HashEmbedder, Shelf, vector_of
from tests.rag.pipeline.running import held, run
from tests.rag.retrievers.fakes import Echo

ROW = [0.6, 0.8]
# What an embedder of two dimensions may give for the texts "a" and "b".
WRONG: dict[str, tuple[Any, str]] = {
    "NaN": ([ROW, [np.nan, 1.0]], "the text 'b' has a NaN"),
    "infinity": ([[np.inf, 0.0], ROW], "the text 'a' has a NaN or an infinite"),
    "too large": ([ROW, [1e300, 0.0]], "infinite number"),
    "zeros": ([ROW, [0.0, 0.0]], "the text 'b' is all zeros"),
    "complex": (np.array([ROW, ROW], np.complex64), "of the type complex64"),
    "words": ([["x", "y"], ["x", "y"]], "not real numbers"),
    "booleans": ([[True, False], [False, True]], "of the type bool"),
    "ragged": ([ROW, [1.0]], "are no vectors"),
    "too few": ([ROW], r"the shape \(1, 2\), not \(2, 2\)"),
    "too long": ([[*ROW, 0.0]] * 2, r"the shape \(2, 3\), not \(2, 2\)"),
    "one row": (np.zeros(2, np.float32), r"the shape \(2,\), not \(2, 2\)"),
    "nothing": (None, "not real numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_unit_vector_is_refused_in_a_sentence(case: str) -> None:
    rows, message = WRONG[case]
    with pytest.raises(EmbeddingError, match=f"^mine: .*{message}"):
        unit_vectors(rows, ["a", "b"], dimensions=2, of="mine")


def test_other_lengths_become_one_and_unit_rows_stay_to_the_last_bit() -> None:
    unit = np.random.default_rng(7).normal(size=(3, 8)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    given = np.concatenate([unit, 1e30 * unit, 1e-30 * unit, np.zeros((1, 8), np.float32)])
    before = given.copy()
    found = unit_vectors(given, [*"abcdefghi", " "], dimensions=8, of="mine")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:3], unit)
    np.testing.assert_allclose(found[3:9], [*unit, *unit], rtol=1e-6)
    assert not found[9].any()  # of a blank text
    np.testing.assert_array_equal(given, before)


class Broken(HashEmbedder):
    """One whose answer is changed before it is given."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self._change = change

    async def embed(self, chunks: Sequence[Chunk]) -> Any:
        return self._change(await super().embed(chunks))

    async def embed_query(self, text: str) -> Any:
        return self._change(vector_of(text))


CHANGES: dict[str, Any] = {
    "NaN": lambda given: given * np.nan,
    "infinity": lambda given: given / 0.0,
    "zeros": lambda given: given * 0,
    "complex": lambda given: given * 1j,
    "one less": lambda given: given[:-1],
    "one more": lambda given: np.concatenate([given, given[-1:]]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_pipeline_stores_nothing_of_what_cannot_be_compared(
    tmp_path: Path, change: str
) -> None:
    async def main() -> None:
        with pytest.raises(EmbeddingError, match=r"^hash-8: "):
            await run(tmp_path, Shelf({"a": "one\ntwo"}), embedder=Broken(CHANGES[change]))
        assert await held(tmp_path) == {}

    asyncio.run(main())


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_question_is_not_asked_with_what_cannot_be_compared(change: str) -> None:
    async def main() -> None:
        store: Any = Echo()
        retriever = VectorRetriever(store, Broken(CHANGES[change]))
        with pytest.raises(EmbeddingError, match=r"^hash-8: "):
            await retriever.retrieve("one")
        assert store.searches == []

    asyncio.run(main())


def test_what_is_too_long_is_stored_and_asked_as_a_unit_vector(tmp_path: Path) -> None:
    async def main() -> None:
        await run(
            tmp_path, Shelf({"a": "one\ntwo"}), embedder=Broken(lambda given: 5 * given)
        )
        async with await SqliteStore.open(tmp_path / "index") as store:
            hits = await VectorRetriever(store, Broken(lambda v: 9 * v)).retrieve("one")
        assert hits[0].text == "one"
        assert hits[0].score == pytest.approx(1.0)

    asyncio.run(main())

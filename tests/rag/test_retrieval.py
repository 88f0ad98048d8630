"""Asking an index, in several ways at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from anabranch.errors import RetrievalError, StoreError, UsageError
from anabranch.rag import FusionRetriever, Hit, index, open_index
from anabranch.rag.types import Where
from anabranch.testing import run_virtual


class Fixed:
    """Answers with the same keys, after some seconds, or fails."""

    def __init__(
        self,
        name: str,
        keys: list[int],
        *,
        after: float = 0,
        error: Exception | None = None,
    ) -> None:
        self.name = name
        self._keys = keys
        self._after = after
        self._error = error

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        await asyncio.sleep(self._after)
        if self._error is not None:
            raise self._error
        return [
            Hit(key, "s", "d", f"text {key}", 0, 6, {}, 1.0 / rank, {self.name: rank})
            for rank, key in enumerate(self._keys[:k], 1)
        ]


def test_all_are_asked_at_once_and_fused() -> None:
    async def main() -> None:
        fusion = FusionRetriever(
            [Fixed("one", [1, 2, 3], after=2), Fixed("two", [3, 4], after=3)]
        )
        fused = await fusion.fuse("?", k=3)
        assert [hit.key for hit in fused.hits] == [3, 1, 2]
        assert fused.hits[0].ranks == {"one": 3, "two": 1}
        assert fused.failures == {}
        assert asyncio.get_running_loop().time() == 3

    run_virtual(main())


def test_a_late_or_failed_retriever_is_reported_and_the_rest_are_fused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        fusion = FusionRetriever(
            [
                Fixed("good", [1, 2]),
                Fixed("late", [9], after=60),
                Fixed("broken", [9], error=ConnectionError("no route")),
            ],
            timeout=5,
        )
        fused = await fusion.fuse("?")
        assert [hit.key for hit in fused.hits] == [1, 2]
        assert str(fused.failures["late"]) == "no answer within 5 s"
        assert str(fused.failures["broken"]) == "no route"
        assert [hit.key for hit in await fusion.retrieve("?", k=1)] == [1]

    run_virtual(main())
    assert "retriever 'late' is left out: no answer within 5 s" in caplog.text


def test_when_all_fail_that_is_an_error_with_every_reason() -> None:
    async def main() -> None:
        fusion = FusionRetriever(
            [Fixed("one", [], error=OSError("a")), Fixed("two", [], error=OSError("b"))]
        )
        with pytest.raises(RetrievalError, match="one: a; two: b"):
            await fusion.retrieve("?")

    run_virtual(main())


def test_retrievers_without_names_of_their_own_are_refused() -> None:
    with pytest.raises(UsageError, match="two retrievers have one name"):
        FusionRetriever([Fixed("same", []), Fixed("same", [])])
    with pytest.raises(UsageError, match="at least one"):
        FusionRetriever([])


def test_a_question_finds_its_passage_by_meaning_and_by_words(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "eggs.md").write_text(
        "# Eggs\n\nBoil them in hot water for eight minutes."
    )
    (documents / "tax.md").write_text("# Tax\n\nIt is due in April.")

    async def main() -> None:
        report = await index([documents], into=tmp_path / "index", model="static")
        assert (report.new, report.broken) == (2, [])
        async with open_index(tmp_path / "index") as retriever:
            fused = await retriever.fuse("How long do eggs boil?", k=1)
            assert fused.hits[0].source == str(documents / "eggs.md")
            assert fused.hits[0].ranks == {"vector": 1, "full text": 1}
            assert set(fused.elapsed_s) == {"vector", "full text"}
            with pytest.raises(ValueError, match="k must be"):
                await retriever.fuse("?", k=0)

    asyncio.run(main())


def test_what_is_gone_is_removed_only_when_asked_for(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    (documents / "sub").mkdir(parents=True)
    for name in ("a.md", "b.md", "sub/c.md"):
        (documents / name).write_text(f"the text of {name}")
    elsewhere = tmp_path / "elsewhere.md"
    elsewhere.write_text("the text of another place")

    async def main() -> None:
        into = tmp_path / "index"
        await index([documents, elsewhere], into=into, model="static")
        (documents / "a.md").unlink()
        (documents / "sub" / "c.md").unlink()
        elsewhere.unlink()
        assert (await index([documents], into=into)).removed == 0
        assert (await index([documents], into=into, prune=True)).removed == 2
        report = await index([elsewhere], into=into)
        assert [error.uri for error in report.broken] == [str(elsewhere)]
        report = await index([elsewhere], into=into, prune=True)
        assert (report.removed, report.broken) == (1, [])
        async with open_index(into) as retriever:
            hits = await retriever.retrieve("the text", k=9)
        assert [hit.source for hit in hits] == [str(documents / "b.md")]

    asyncio.run(main())


def test_what_only_a_link_out_leads_to_is_gone_unless_it_is_named(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    for name in ("documents/a.md", "documents/b.md", "secret.md"):
        (tmp_path / name).write_text(f"the text of {name}")

    async def main() -> None:
        into, link = tmp_path / "index", documents / "a.md"
        await index([documents], into=into, model="static")
        link.unlink()
        link.symlink_to(tmp_path / "secret.md")
        report = await index([documents], into=into, prune=True)
        assert (report.removed, report.unchanged, report.skipped) == (1, 1, 1)
        report = await index([documents, link], into=into, prune=True)
        assert (report.new, report.removed) == (1, 0)

    asyncio.run(main())


def test_a_folder_that_has_vanished_is_an_error_and_costs_nothing(tmp_path: Path) -> None:
    documents = tmp_path / "disk"
    documents.mkdir()
    (documents / "a.md").write_text("some text")

    async def main() -> None:
        into = tmp_path / "index"
        await index([documents], into=into, model="static")
        documents.rename(tmp_path / "unmounted")
        report = await index([documents], into=into, prune=True)
        assert report.removed == 0
        assert [error.uri for error in report.broken] == [str(documents)]

    asyncio.run(main())


def test_another_chunk_size_means_indexing_again_but_another_model_is_refused(
    tmp_path: Path,
) -> None:
    document = tmp_path / "a.md"
    document.write_text("some words " * 200)

    async def main() -> None:
        into = tmp_path / "index"
        await index([document], into=into, model="static")
        assert (await index([document], into=into, chunk_tokens=50)).changed == 1
        with pytest.raises(StoreError, match="use the same model"):
            await index([document], into=into, model="minilm")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([""], "name is empty"),
        (["ftp://host/x"], "ftp:// is not a kind of source"),
        (["python:nope"], "no module 'nope'"),
    ],
)
def test_names_that_cannot_be_sources_are_refused(
    sources: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        asyncio.run(index(sources, into=tmp_path / "index", model="static"))
    assert not (tmp_path / "index").exists()

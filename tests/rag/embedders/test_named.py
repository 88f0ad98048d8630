"""Models by the names that people type, up to an index made and asked with one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from anabranch.errors import StoreMismatch, UsageError
from anabranch.rag import BedrockEmbedder, index, local_embedder, open_embedder, open_index
from tests.rag.embedders.doubles import KEY, OpenAIDouble, served

OTHER_KEY = "sk-of-openai-and-of-nobody-else"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_EMBEDDING_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", OTHER_KEY)


def test_an_index_is_made_and_asked_with_a_model_behind_a_service(tmp_path: Path) -> None:
    (tmp_path / "rivers.md").write_text("# Rivers\n\nAn anabranch joins the river again.\n")
    (tmp_path / "lakes.txt").write_text("An oxbow lake was a bend of a river.")
    double = OpenAIDouble(model="toy")
    into = tmp_path / "index"

    async def main() -> tuple[str, str]:
        async with served(double.handle) as url:
            name = f"openai:{double.model}@{url}/v1"
            report = await index([tmp_path], into=into, model=name)
            assert (report.new, report.broken) == (2, [])
            async with open_index(into, model=name) as retriever:
                [hit] = await retriever.retrieve("oxbow lake", k=1)
            with pytest.raises(UsageError, match=f"openai:{double.model}") as unnamed:
                async with open_index(into):
                    pass
            with pytest.raises(StoreMismatch, match="use the same model"):
                async with open_index(into, model="static"):
                    pass
            return hit.source, str(unnamed.value)

    source, said = asyncio.run(main())
    assert source == str(tmp_path / "lakes.txt")
    assert "service" in said


def test_the_key_of_openai_is_sent_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANABRANCH_EMBEDDING_KEY")
    double = OpenAIDouble(model="toy")

    async def main() -> None:
        async with (
            served(double.handle) as url,
            open_embedder(f"openai:{double.model}@{url}/v1"),
        ):
            pass

    with pytest.raises(Exception, match="key") as refused:
        asyncio.run(main())
    assert OTHER_KEY not in f"{refused.value}"


def test_a_model_of_bedrock_is_opened_in_its_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")

    async def main() -> str:
        name = "bedrock:amazon.titan-embed-text-v2:0@eu-west-1"
        async with open_embedder(name) as embedder:
            assert isinstance(embedder, BedrockEmbedder)
            return f"{embedder.name} {embedder!r}"

    assert "amazon.titan-embed-text-v2:0" in asyncio.run(main())


@pytest.mark.parametrize(
    "name", ["gpt", "openai:", "voyage:large", "bedrock:@eu-west-1", ""]
)
def test_what_is_no_model_is_told_which_there_are(name: str) -> None:
    async def main() -> None:
        async with open_embedder(name):
            pass

    with pytest.raises(UsageError, match=r"choose from minilm, static; .*openai:MODEL@URL"):
        asyncio.run(main())


def test_a_local_model_in_use_is_not_loaded_again() -> None:
    one = local_embedder("static")
    assert local_embedder(one.name) is one

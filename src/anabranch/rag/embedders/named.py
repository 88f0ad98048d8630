"""Models by the names that people type."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anabranch.errors import UsageError
from anabranch.rag.embedders.bedrock import BedrockEmbedder
from anabranch.rag.embedders.local import MODELS, LocalEmbedder, local_embedder
from anabranch.rag.embedders.openai import OPENAI_URL, OpenAIEmbedder
from anabranch.rag.types import Embedder

KEY = "ANABRANCH_EMBEDDING_KEY"
OPENAI_KEY = "OPENAI_API_KEY"


@asynccontextmanager
async def open_embedder(name: str) -> AsyncGenerator[Embedder]:
    """A model by name, closed when the block ends.

    ========================  ========================================================
    ``minilm``, ``static``    on this machine
    ``openai:MODEL``          at OpenAI
    ``openai:MODEL@URL``      at any service that speaks OpenAI's embeddings API
    ``bedrock:MODEL``         on AWS Bedrock, in the region of the AWS configuration
    ``bedrock:MODEL@REGION``  in another region
    ========================  ========================================================

    A key comes from the variable ``ANABRANCH_EMBEDDING_KEY``; ``OPENAI_API_KEY`` is sent
    to OpenAI and nowhere else. AWS's credentials are found as by its own tools.

    Raises:
        UsageError: It is no such name.
        EmbeddingError: A service cannot be reached, or refuses.
        ImportError: The model's extra is not installed.
    """
    kind, colon, rest = name.partition(":")
    if not colon:
        yield await asyncio.to_thread(_local, name)
        return
    model, _, place = rest.partition("@")
    if kind not in ("openai", "bedrock") or not model:
        raise _unknown(name)
    if kind == "openai":
        async with OpenAIEmbedder(model, url=place or OPENAI_URL, key=_key(place)) as found:
            yield found
    else:
        async with BedrockEmbedder(model, region=place or None) as found:
            yield found


def _local(name: str) -> LocalEmbedder:
    try:
        return local_embedder(name)
    except UsageError:
        raise _unknown(name) from None


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"{name!r} is no model: choose from {', '.join(MODELS)}; or name one behind a "
        f"service, such as openai:{name.partition(':')[2] or name}, openai:MODEL@URL, "
        "bedrock:MODEL or bedrock:MODEL@REGION"
    )


def _key(url: str) -> str | None:
    """The key for a service; that of OpenAI's is nobody else's business."""
    key = os.environ.get(KEY) or ("" if url else os.environ.get(OPENAI_KEY, ""))
    return key.strip() or None

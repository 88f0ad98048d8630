"""Models that turn texts into vectors: on this machine, or behind a service."""

from __future__ import annotations

from anabranch.rag.embedders.bedrock import BedrockEmbedder
from anabranch.rag.embedders.local import MODELS, LocalEmbedder, local_embedder
from anabranch.rag.embedders.minilm import MiniLMEmbedder
from anabranch.rag.embedders.named import open_embedder
from anabranch.rag.embedders.openai import OpenAIEmbedder
from anabranch.rag.embedders.remote import RemoteEmbedder, RequestLimits
from anabranch.rag.embedders.static import StaticEmbedder

__all__ = [
    "MODELS",
    "BedrockEmbedder",
    "LocalEmbedder",
    "MiniLMEmbedder",
    "OpenAIEmbedder",
    "RemoteEmbedder",
    "RequestLimits",
    "StaticEmbedder",
    "local_embedder",
    "open_embedder",
]

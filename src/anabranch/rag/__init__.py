"""Read, split, embed, store and retrieve, concurrently."""

try:
    import numpy as np  # first, so that its absence has a remedy
except ModuleNotFoundError as error:
    raise ImportError("anabranch.rag needs numpy: pip install 'anabranch[rag]'") from error
del np

from anabranch.rag.embedders import (
    MODELS,
    BedrockEmbedder,
    MiniLMEmbedder,
    OpenAIEmbedder,
    RemoteEmbedder,
    RequestLimits,
    StaticEmbedder,
    local_embedder,
    open_embedder,
)
from anabranch.rag.filters import (
    All,
    Compare,
    Contains,
    Either,
    Filter,
    Not,
    OneOf,
    as_filter,
    matches,
)
from anabranch.rag.fusion import FusionRule, Placed, min_max, reciprocal_rank
from anabranch.rag.index import index, keep_index, open_index
from anabranch.rag.keeping import keep_up
from anabranch.rag.pipeline import Pipeline, Report
from anabranch.rag.readers import (
    BrowserReader,
    Changes,
    FileReader,
    StandardLibrary,
    Watch,
    WebReader,
    documents,
    find,
)
from anabranch.rag.retrievers import (
    CrossEncoder,
    Expander,
    FullTextRetriever,
    Fused,
    FusionOptions,
    FusionRetriever,
    HedgedRetriever,
    HttpReranker,
    KeywordRetriever,
    QueryExpander,
    Reranker,
    VectorRetriever,
    retrieve_many,
)
from anabranch.rag.sources import Sources
from anabranch.rag.splitter import TokenSplitter
from anabranch.rag.stages import Stage
from anabranch.rag.stores import (
    Approximate,
    Exact,
    Recall,
    Search,
    SqliteStore,
    VectorStore,
)
from anabranch.rag.types import (
    Chunk,
    Content,
    Document,
    Embedder,
    EmbedsQueries,
    Fields,
    Hit,
    Reader,
    Retriever,
    Splitter,
)

__all__ = [
    "MODELS",
    "All",
    "Approximate",
    "BedrockEmbedder",
    "BrowserReader",
    "Changes",
    "Chunk",
    "Compare",
    "Contains",
    "Content",
    "CrossEncoder",
    "Document",
    "Either",
    "Embedder",
    "EmbedsQueries",
    "Exact",
    "Expander",
    "Fields",
    "FileReader",
    "Filter",
    "FullTextRetriever",
    "Fused",
    "FusionOptions",
    "FusionRetriever",
    "FusionRule",
    "HedgedRetriever",
    "Hit",
    "HttpReranker",
    "KeywordRetriever",
    "MiniLMEmbedder",
    "Not",
    "OneOf",
    "OpenAIEmbedder",
    "Pipeline",
    "Placed",
    "QueryExpander",
    "Reader",
    "Recall",
    "RemoteEmbedder",
    "Report",
    "RequestLimits",
    "Reranker",
    "Retriever",
    "Search",
    "Sources",
    "Splitter",
    "SqliteStore",
    "Stage",
    "StandardLibrary",
    "StaticEmbedder",
    "TokenSplitter",
    "VectorRetriever",
    "VectorStore",
    "Watch",
    "WebReader",
    "as_filter",
    "documents",
    "find",
    "index",
    "keep_index",
    "keep_up",
    "local_embedder",
    "matches",
    "min_max",
    "open_embedder",
    "open_index",
    "reciprocal_rank",
    "retrieve_many",
]

"""Finding passages for a question."""

from anabranch.rag.retrievers.basic import FullTextRetriever, VectorRetriever
from anabranch.rag.retrievers.cross_encoder import CrossEncoder
from anabranch.rag.retrievers.expanding import Expander, QueryExpander
from anabranch.rag.retrievers.fusion import Fused, FusionOptions, FusionRetriever
from anabranch.rag.retrievers.hedged import HedgedRetriever
from anabranch.rag.retrievers.http_reranker import HttpReranker
from anabranch.rag.retrievers.keyword import KeywordRetriever
from anabranch.rag.retrievers.many import retrieve_many
from anabranch.rag.retrievers.reranking import Reranker

__all__ = [
    "CrossEncoder",
    "Expander",
    "FullTextRetriever",
    "Fused",
    "FusionOptions",
    "FusionRetriever",
    "HedgedRetriever",
    "HttpReranker",
    "KeywordRetriever",
    "QueryExpander",
    "Reranker",
    "VectorRetriever",
    "retrieve_many",
]

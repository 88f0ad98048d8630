"""Finding passages for a question."""

from anabranch.rag.retrievers.basic import FullTextRetriever, VectorRetriever
from anabranch.rag.retrievers.fusion import Fused, FusionRetriever

__all__ = ["FullTextRetriever", "Fused", "FusionRetriever", "VectorRetriever"]

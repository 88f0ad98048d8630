"""Parts of LangChain as parts of ours, and ours as theirs.

=================  =================  ================================================
LangChain          here               by
=================  =================  ================================================
``Embeddings``     ``Embedder``       ``await embedder(theirs)``
``TextSplitter``   ``Splitter``       ``splitter(theirs)``
``BaseLoader``     sources, reader    ``sources(theirs)``, ``reader(load)``
``BaseRetriever``  ``Retriever``      ``retriever(theirs)``
``VectorStore``    ``Retriever``      ``store_retriever(theirs)``
``Embeddings``     ``Embedder``       ``to_embeddings(ours)``
``BaseRetriever``  ``Retriever``      ``to_retriever(ours)``
=================  =================  ================================================
"""

try:
    import langchain_core as _
except ModuleNotFoundError as error:
    raise ImportError(
        "anabranch.rag.adapters.langchain needs langchain-core: pip install langchain-core"
    ) from error
del _

from anabranch.rag.adapters.langchain.inward import (
    embedder,
    reader,
    retriever,
    sources,
    splitter,
    store_retriever,
)
from anabranch.rag.adapters.langchain.outward import to_embeddings, to_retriever

__all__ = [
    "embedder",
    "reader",
    "retriever",
    "sources",
    "splitter",
    "store_retriever",
    "to_embeddings",
    "to_retriever",
]

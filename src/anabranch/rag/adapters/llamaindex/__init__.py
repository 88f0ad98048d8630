"""Parts of LlamaIndex as parts of ours, and ours as theirs.

============================  ==================  =========================================
LlamaIndex                    here                by
============================  ==================  =========================================
``BaseEmbedding``             ``Embedder``        ``await embedder(theirs)``
``NodeParser``                ``Splitter``        ``splitter(theirs)``
``TransformComponent``        ``Stage``           ``stage(theirs)``
``BaseReader``                sources, reader     ``sources(theirs)``, ``reader(load)``
``BaseRetriever``             ``Retriever``       ``retriever(theirs)``
``BasePydanticVectorStore``   ``Retriever``       ``store_retriever(theirs, embedder)``
``BasePydanticVectorStore``   ``VectorStore``     ``MirroredStore(ours, theirs)``
``BaseEmbedding``             ``Embedder``        ``to_embedding(ours)``
``BaseRetriever``             ``Retriever``       ``to_retriever(ours)``
``BasePydanticVectorStore``   ``VectorStore``     ``to_vector_store(ours)``, to be asked
``MetadataFilters``           ``Filter``          ``to_filters``, ``from_filters``
============================  ==================  =========================================
"""

try:
    import llama_index.core.schema as _
except ModuleNotFoundError as error:
    raise ImportError(
        "anabranch.rag.adapters.llamaindex needs llama-index-core: "
        "pip install llama-index-core"
    ) from error
del _

from anabranch.rag.adapters.llamaindex.filters import from_filters, to_filters
from anabranch.rag.adapters.llamaindex.inward import (
    embedder,
    reader,
    retriever,
    sources,
    splitter,
    stage,
    store_retriever,
)
from anabranch.rag.adapters.llamaindex.mirror import MirroredStore
from anabranch.rag.adapters.llamaindex.outward import (
    to_embedding,
    to_retriever,
    to_vector_store,
)

__all__ = [
    "MirroredStore",
    "embedder",
    "from_filters",
    "reader",
    "retriever",
    "sources",
    "splitter",
    "stage",
    "store_retriever",
    "to_embedding",
    "to_filters",
    "to_retriever",
    "to_vector_store",
]

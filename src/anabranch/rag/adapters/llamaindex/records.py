"""Documents, nodes and hits: theirs and ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.schema import Document as TheirDocument

from anabranch.rag.adapters.reading import Loaded
from anabranch.rag.adapters.records import hit, metadata_of, name_of
from anabranch.rag.types import Chunk, Document, Hit, Metadata, Scalar, Vectors


def loaded(documents: Iterable[BaseNode]) -> list[Loaded]:
    """What their reader loaded; what has no text is left out."""
    return [_loaded(document) for document in documents if text_of(document).strip()]


def _loaded(document: BaseNode) -> Loaded:
    metadata = metadata_of(document.metadata)
    text = text_of(document)
    return Loaded(name_of(document.node_id, metadata, text), text, metadata)


def text_of(node: BaseNode) -> str:
    """Its text without the metadata that they put before it."""
    return node.get_content(metadata_mode=MetadataMode.NONE)


def hit_of(node: BaseNode) -> Hit:
    """A node as a hit, without score and rank. Its relationships but one are dropped."""
    source = node.source_node
    span = (node.start_char_idx, node.end_char_idx) if isinstance(node, TextNode) else None
    start, end = span or (None, None)
    return hit(
        known_as=node.node_id,
        document_id=source.node_id if source is not None else node.node_id,
        text=text_of(node),
        start=start,
        end=end,
        metadata=metadata_of(node.metadata),
    )


def document_of(document: Document) -> TheirDocument:
    """A document as theirs.

    Their splitters leave no room for its metadata in a passage, since ours is not embedded
    with it.
    """
    return TheirDocument(
        id_=document.id,
        text=document.text,
        metadata=dict(document.metadata),
        excluded_embed_metadata_keys=list(document.metadata),
        excluded_llm_metadata_keys=list(document.metadata),
    )


def scored_node(found: Hit) -> NodeWithScore:
    """A hit as a node of theirs with its score."""
    return NodeWithScore(node=node_of(found), score=found.score)


def node_of(found: Hit) -> TextNode:
    """A hit as a node: its document is the source node, its source in the metadata."""
    return _node(
        str(found.key),
        found.document_id,
        found.text,
        (found.start, found.end),
        {"source": found.source, **found.metadata},
    )


def chunk_node(chunk: Chunk) -> TextNode:
    """A passage as a node for their transformations."""
    return _node(
        str(uuid5(NAMESPACE_URL, f"{chunk.document_id}#{chunk.start}-{chunk.end}")),
        chunk.document_id,
        chunk.text,
        (chunk.start, chunk.end),
        chunk.metadata,
    )


def stored_node(
    uri: str, number: int, chunk: Chunk, vector: Vectors, *, is_flat: bool
) -> TextNode:
    """A passage as a node for their store, with an id that is the same on every run.

    With ``is_flat``, lists in its metadata are JSON.
    """
    metadata: Metadata = {"source": uri, **chunk.metadata}
    if is_flat:
        metadata = {name: _flat(value) for name, value in metadata.items()}
    node = _node(
        str(uuid5(NAMESPACE_URL, f"{uri}#{number}")),
        uri,
        chunk.text,
        (chunk.start, chunk.end),
        metadata,
    )
    node.embedding = vector.tolist()
    return node


def _node(
    node_id: str, ref_doc_id: str, text: str, span: tuple[int, int], metadata: Metadata
) -> TextNode:
    fields: dict[str, Any] = {name: _theirs(value) for name, value in metadata.items()}
    return TextNode(
        id_=node_id,
        text=text,
        start_char_idx=span[0],
        end_char_idx=span[1],
        metadata=fields,
        # They would embed, and show to a model, all of it with the text.
        excluded_embed_metadata_keys=list(fields),
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref_doc_id)},
    )


def _flat(value: Scalar | Sequence[Scalar]) -> Scalar:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return json.dumps(list(value), ensure_ascii=False)
    return value


def _theirs(value: Scalar | Sequence[Scalar]) -> Scalar | list[Scalar]:
    return list(value) if isinstance(value, list | tuple) else cast("Scalar", value)

"""What a source is in Solr: its passages, and one document that says which count.

Solr knows no transactions, and whoever commits shows everything that anybody has written
so far. So a passage carries the name of its version, and only those are found whose
version the *source*, one document, names: replacing that document puts one version in the
place of another in one stroke. All of a source's documents have the prefix of its key, by
which SolrCloud keeps them in one shard, where a join can see them together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from anabranch.rag.plan import Version
from anabranch.rag.solr.queries import NAMES, all_of, index_fields, is_in, none_of
from anabranch.rag.stores.records import Add, Passage
from anabranch.rag.types import Chunk, Embedder, Hit, Vectors

Doc = Mapping[str, Any]  # Any: whatever Solr holds

FORMAT: Final = "1"
FACTS: Final = "anabranch!facts"
TEXT, TITLE, VECTOR = "rag_text", "rag_title", "rag_vector"
VERSION, DIGEST = "rag_version", "rag_digest"

# The only passages that are found: those of a version that a source names.
LIVE: Final = f"{{!join from={VERSION} to={VERSION}}}rag_kind:source"
PASSAGES: Final = "rag_kind:passage"
NOT_LIVE: Final = none_of(f"{{!join from={VERSION} to={VERSION} v=$sources}}")
SOURCES: Final = "rag_kind:source"

SHOWN: Final = (
    "id",
    "rag_source",
    "rag_document",
    "rag_start",
    "rag_end",
    "rag_metadata",
    TEXT,
    "score",
)

WHOLE: Final = (*SHOWN[:-1], "rag_key", VERSION, DIGEST, VECTOR)

_KEPT: Final = {"type": "string", "indexed": False, "docValues": False, "stored": True}
_FIELDS: Final[Mapping[str, Doc]] = {
    "rag_kind": {"type": "string"},
    "rag_key": {"type": "string"},
    # Distinct ones are asked for, which needs the column.
    VERSION: {"type": "string", "docValues": True},
    DIGEST: {"type": "string", "docValues": True},
    NAMES: {"type": "strings"},
    "rag_source": _KEPT,
    "rag_document": _KEPT,
    "rag_start": {"type": "plong", "indexed": False},
    "rag_end": {"type": "plong", "indexed": False},
    "rag_metadata": _KEPT,
}
_DYNAMIC: Final = {
    "*_s": "string",
    "*_l": "plong",
    "*_d": "pdouble",
    "*_b": "boolean",
    "*_ss": "strings",
    "*_ls": "plongs",
    "*_ds": "pdoubles",
    "*_bs": "booleans",
}


def schema_changes(
    schema: Mapping[str, Any], *, dimensions: int, text_type: str
) -> list[tuple[str, Doc]]:
    """What is missing in a schema, as commands of Solr's schema API."""
    fields = _named(schema, "fields")
    dynamic = _named(schema, "dynamicFields")
    vector_type = f"rag_vector_{dimensions}"
    wanted: dict[str, Doc] = {
        **_FIELDS,
        TEXT: {"type": text_type},
        TITLE: {"type": text_type},
        VECTOR: {"type": vector_type},
    }
    changes: list[tuple[str, Doc]] = []
    if vector_type not in _named(schema, "fieldTypes"):
        said = {
            "class": "solr.DenseVectorField",
            "vectorDimension": dimensions,
            "similarityFunction": "cosine",
        }
        changes.append(("add-field-type", {"name": vector_type, **said}))
    changes += [
        ("add-field", {"name": name, "indexed": True, "stored": True, **kind})
        for name, kind in wanted.items()
        if name not in fields
    ]
    changes += [
        ("add-dynamic-field", {"name": name, "type": kind, "indexed": True, "stored": True})
        for name, kind in _DYNAMIC.items()
        if name not in dynamic
    ]
    return changes


def misfit(schema: Mapping[str, Any], *, dimensions: int) -> str | None:
    """A field of ours that the schema has with another type, in words."""
    types = {one["name"]: one for one in schema.get("fieldTypes") or ()}
    for one in schema.get("fields") or ():
        name, kind = one["name"], one["type"]
        if name in _FIELDS and kind != _FIELDS[name]["type"]:
            return f"the field {name} of type {kind} instead of {_FIELDS[name]['type']}"
        size = types.get(kind, {}).get("vectorDimension")
        if name == VECTOR and str(size) != str(dimensions):
            return f"the field {name} for vectors of {size} numbers instead of {dimensions}"
    return None


def facts(embedder: Embedder) -> Doc:
    """The document that says which model the vectors are of; there is one at most."""
    said = {
        "format": FORMAT,
        "model": embedder.name,
        "model_digest": embedder.digest,
        "dimensions": embedder.dimensions,
    }
    return {
        "id": FACTS,
        "rag_kind": "facts",
        "rag_metadata": json.dumps(said),
        "_version_": -1,
    }


def source_key(uri: str) -> str:
    """What stands for a source where its name may be too long or too odd."""
    return blake2b(uri.encode(), digest_size=16).hexdigest()


def source_id(uri: str) -> str:
    """The id of the document that says which version of a source counts."""
    return f"{source_key(uri)}!source"


def source_doc(version: Version, name: str) -> Doc:
    """The document that makes a version the one that is found."""
    said = {"uri": version.uri, "digest": version.digest, "print": version.fingerprint}
    return {
        "id": source_id(version.uri),
        "rag_kind": "source",
        "rag_key": source_key(version.uri),
        VERSION: name,
        "rag_metadata": json.dumps(said),
    }


def version_of(doc: Doc) -> Version:
    """The version that a source's document names."""
    said = json.loads(doc["rag_metadata"])
    return Version(said["uri"], said["digest"], said["print"])


def passage_docs(add: Add, name: str, start: int) -> Iterable[Doc]:
    """The documents of some more chunks of a version, counted from ``start``."""
    key = source_key(add.version.uri)
    rows = zip(add.chunks, add.digests, add.vectors, strict=True)
    for number, (chunk, digest, vector) in enumerate(rows, start=start):
        yield {
            **index_fields(chunk.metadata),
            "id": f"{key}!{name}-{number:07d}",
            "rag_kind": "passage",
            "rag_key": key,
            VERSION: name,
            DIGEST: digest.hex(),
            "rag_source": add.version.uri,
            **_told(chunk),
            # The shortest digits that name each float32.
            VECTOR: [float(f"{number:.9g}") for number in vector.tolist()],
        }


def _told(chunk: Chunk) -> Doc:
    return {
        "rag_document": chunk.document_id,
        "rag_start": chunk.start,
        "rag_end": chunk.end,
        "rag_metadata": json.dumps(dict(chunk.metadata)),
        TEXT: chunk.text,
        TITLE: str(chunk.metadata.get("title") or ""),
    }


def hit_of(doc: Doc, *, score: float, name: str, rank: int) -> Hit:
    """A passage as it was found."""
    chunk = _chunk(doc)
    return Hit(
        key=_number(doc),
        source=doc.get("rag_source", ""),
        document_id=chunk.document_id,
        text=chunk.text,
        start=chunk.start,
        end=chunk.end,
        metadata=chunk.metadata,
        score=score,
        ranks={name: rank},
    )


def passage_of(doc: Doc) -> Passage:
    """A passage as it is stored, from the fields that are ``WHOLE``."""
    vector = np.array(doc[VECTOR], np.float32)
    digest = bytes.fromhex(doc[DIGEST])
    return Passage(_number(doc), doc.get("rag_source", ""), _chunk(doc), digest, vector)


def _chunk(doc: Doc) -> Chunk:
    """What was written. Solr leaves empty texts out."""
    return Chunk(
        doc.get("rag_document", ""),
        doc.get(TEXT, ""),
        int(doc["rag_start"]),
        int(doc["rag_end"]),
        json.loads(doc["rag_metadata"]),
    )


def _number(doc: Doc) -> int:
    return int.from_bytes(blake2b(doc["id"].encode(), digest_size=8).digest()) >> 1


def vectors_of(docs: Iterable[Doc]) -> dict[bytes, Vectors]:
    """Stored vectors by the digest of their text."""
    return {
        bytes.fromhex(doc[DIGEST]): np.array(doc[VECTOR], np.float32)
        for doc in docs
        if doc.get(VECTOR)
    }


def others(keys: Sequence[str], names: Sequence[str]) -> str:
    """The passages of some sources that are of no version among these."""
    clauses = [PASSAGES, is_in("rag_key", keys)]
    return all_of([*clauses, none_of(is_in(VERSION, names))] if names else clauses)


def _named(schema: Mapping[str, Any], part: str) -> set[str]:
    return {one["name"] for one in schema.get(part) or ()}

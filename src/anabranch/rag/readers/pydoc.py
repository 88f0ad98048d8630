"""The docstrings of modules without source, as :mod:`.stdlib` writes them down.

The format is :data:`anabranch.rag.readers.media.PYDOC`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypedDict, cast

from anabranch.errors import SourceError
from anabranch.rag.readers import text
from anabranch.rag.types import Content, Document


class Entry(TypedDict):
    """One docstring.

    ``name`` is dotted, from the module on; ``signature`` is what stands above the
    docstring; ``kind`` is ``module``, ``class``, ``function``,
    ``method``, or ``topic`` for a chapter on the language.
    """

    name: str
    kind: str
    signature: str
    doc: str


def documents(content: Content) -> Iterator[Document]:
    """One document a docstring, ``uri#dotted.name``.

    Raises:
        SourceError: It is not in this format.
    """
    try:
        # The check is the access to each field below.
        entries = cast("list[Entry]", json.loads(text.held(content)))
        for entry in entries:
            yield document(content, f"#{entry['name']}", entry)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(
            content.uri, "is not a list of docstrings: read it again"
        ) from error


def is_public(name: str) -> bool:
    """Whether a name is for everybody: special methods are."""
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def document(content: Content, part: str, entry: Entry, **more: int) -> Document:
    """The document of one docstring."""
    name, kind = entry["name"], entry["kind"]
    return Document(
        content.uri + part,
        f"{entry['signature']}\n\n{entry['doc']}",
        {**content.metadata, "title": name, "kind": kind, **more},
    )

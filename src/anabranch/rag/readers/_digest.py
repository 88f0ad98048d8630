"""The digest by which a source is known to be unchanged."""

from __future__ import annotations

import hashlib

from anabranch.rag.fields import Fields


def hasher() -> hashlib.blake2b:
    """A running BLAKE2b-128; ``.hexdigest()`` is what ``Content.digest`` holds."""
    return hashlib.blake2b(digest_size=16)


def digest(data: bytes) -> str:
    """Hex BLAKE2b-128 of ``data``."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def combined(digest: str, fields: Fields | None) -> str:
    """The digest of a content: of its bytes, and of what is made of them."""
    if fields is None:
        return digest
    return hashlib.blake2b(f"{digest} {fields!r}".encode(), digest_size=16).hexdigest()

"""The digest by which a source is known to be unchanged."""

from __future__ import annotations

import hashlib


def hasher() -> hashlib.blake2b:
    """A running BLAKE2b-128; ``.hexdigest()`` is what ``Content.digest`` holds."""
    return hashlib.blake2b(digest_size=16)


def digest(data: bytes) -> str:
    """Hex BLAKE2b-128 of ``data``."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()

"""The digest by which a source is known to be unchanged."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b as Hasher


def hasher() -> Hasher:
    """A running BLAKE2b-128; ``.hexdigest()`` is what ``Content.digest`` holds."""
    return hashlib.blake2b(digest_size=16)


def digest(data: bytes) -> str:
    """Hex BLAKE2b-128 of ``data``."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()

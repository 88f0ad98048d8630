"""What to do with each source: the rules of indexing, without any I/O.

A source is *unchanged* if the store holds it, complete, with the digest of the same bytes
and the same fingerprint: what the same splitter made of them for the same model. Anything
else is done anew, while the version in the store stays until the new one is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Literal, TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a source, as it was cut for one model.

    Attributes:
        uri: The source.
        digest: Of its bytes.
        fingerprint: Of everything else that decides its chunks and vectors.
    """

    uri: str
    digest: str
    fingerprint: str


class Verdict(Enum):
    """What a source is to the store."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    PRESENT = "present"


Strategy: TypeAlias = Literal["upsert", "skip", "delete"]
"""What becomes of sources that the store holds already.

``upsert``: those that have changed are indexed anew. ``skip``: those that are there in any
version are not looked at. ``delete``: as ``upsert``, and those that a run was not given are
removed.
"""


def judge(stored: Version | None, found: Version) -> Verdict:
    """Whether the source as found must be indexed."""
    if stored is None:
        return Verdict.NEW
    return Verdict.UNCHANGED if stored == found else Verdict.CHANGED


def unmet(held: Iterable[str], met: Collection[str], *, is_whole: bool) -> Iterator[str]:
    """The stored sources that a run was not given, to be removed.

    None if the list of what it was given is not whole, since what is missing may be there;
    and none if it was given nothing at all, which is more often a mistake than a wish.

    Args:
        held: What the store holds.
        met: What the run was given, including what is broken.
        is_whole: Whether the list could be made without an error.
    """
    if is_whole and met:
        yield from (uri for uri in held if uri not in met)


def is_known_gone(
    uri: str, *, named: Collection[str], folders: Collection[str], unlisted: Collection[str]
) -> bool:
    """Whether a stored file that cannot be found has ceased to exist.

    Only what a run was asked about can be gone: a path named itself, or one inside a
    folder that was walked. What lies in a folder that could not be listed is unknown, and
    so is what lies in a named folder that is not there, which may be a disk that is not
    mounted. Unknown is not gone.

    Args:
        uri: A stored path that leads nowhere now.
        named: The paths that were asked for.
        folders: Those of them that are folders.
        unlisted: The folders that could not be listed.
    """
    if uri in named:
        return True
    parents = {str(parent) for parent in PurePath(uri).parents}
    return not parents.isdisjoint(folders) and parents.isdisjoint(unlisted)


def text_digest(text: str) -> bytes:
    """What decides a chunk's vector for a given model: BLAKE2b-128 of its text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def to_embed(digests: Sequence[K], stored: Mapping[K, object]) -> list[int]:
    """The first place of each digest that has no vector yet."""
    first: dict[K, int] = {}
    for index, digest in enumerate(digests):
        if digest not in stored:
            first.setdefault(digest, index)
    return list(first.values())

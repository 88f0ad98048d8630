"""Whether what a retriever gave are hits: rules only."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real

from anabranch.rag.types import Hit


def checked_hits(found: Iterable[object]) -> list[Hit]:
    """The hits, each of which can be compared, shown and reranked.

    Raises:
        TypeError: One is no :class:`~anabranch.rag.Hit`, or has a field of another type.
    """
    return [_checked(each, place) for place, each in enumerate(found, start=1)]


def _checked(found: object, place: int) -> Hit:
    if not isinstance(found, Hit):
        raise TypeError(f"hit {place} is {found!r}, and not of the class Hit")
    for name, kinds in _KINDS:
        value: object = getattr(found, name)
        if not isinstance(value, kinds):
            raise TypeError(f"the {name} of hit {place} cannot be {value!r}")
    hash(found.key)  # or it raises a TypeError
    return found


# The classes of the abstract ones come first: they are what there is, and found at once.
_KINDS = (
    ("score", (float, Real)),
    ("text", (str,)),
    ("source", (str,)),
    ("document_id", (str,)),
    ("start", (int, Integral)),
    ("end", (int, Integral)),
)

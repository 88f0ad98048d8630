"""Passages that say the same, or continue each other: rules only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import islice
from typing import Literal, TypeAlias

from anabranch.rag.types import Hit

Duplicates: TypeAlias = Literal["keep", "drop", "merge"]
"""What becomes of passages that repeat others: all are kept; those with the same text as
a better one are dropped; and such as overlap a better one are merged with it besides."""


def chosen(hits: Iterable[Hit], k: int, duplicates: Duplicates) -> Sequence[Hit]:
    """The first ``k`` passages, without what repeats them."""
    match duplicates:
        case "keep":
            return list(islice(hits, k))
        case "drop":
            return list(islice(distinct(hits), k))
        case "merge":
            return merged(distinct(hits), k)


def distinct(hits: Iterable[Hit]) -> Iterator[Hit]:
    """Of passages with the same text, white space aside, the first."""
    seen: set[str] = set()
    for hit in hits:
        text = " ".join(hit.text.split())
        if text not in seen:
            seen.add(text)
            yield hit


def merged(hits: Iterable[Hit], k: int) -> Sequence[Hit]:
    """The first ``k`` passages, each joined with what follows in rank and overlaps it.

    Passages overlap if they are of one document, and their offsets and their texts agree
    that they do. The joined one keeps the key, score and metadata of the better one, and
    the best rank of both.
    """
    kept: list[Hit] = []
    for hit in hits:
        touching = [one for one in kept if join(one, hit)]
        if touching:
            # It may close the gap between several.
            whole = reduce(_joined, [hit, *touching[1:]], touching[0])
            kept[kept.index(touching[0])] = whole
            kept = [one for one in kept if one not in touching]
        elif len(kept) == k:
            break
        else:
            kept.append(hit)
    return kept


def join(better: Hit, other: Hit) -> Hit | None:
    """Two passages as one, if they overlap."""
    if (better.source, better.document_id) != (other.source, other.document_id):
        return None
    first, second = sorted((better, other), key=lambda hit: (hit.start, hit.end))
    # Only of what is a piece of a text by its offsets is known how it goes on.
    if any(len(hit.text) != hit.end - hit.start for hit in (first, second)):
        return None
    shared = first.end - second.start
    if shared <= 0 or not first.text[second.start - first.start :].startswith(
        second.text[:shared]
    ):
        return None
    return replace(
        better,
        text=first.text + second.text[shared:],
        start=first.start,
        end=max(first.end, second.end),
        ranks=_best(better.ranks, other.ranks),
    )


def _joined(better: Hit, other: Hit) -> Hit:
    both = join(better, other)
    assert both is not None  # each overlaps the passage that has just been joined
    return both


def _best(one: Mapping[str, int], two: Mapping[str, int]) -> Mapping[str, int]:
    names = dict.fromkeys((*one, *two))
    return {name: min(r[name] for r in (one, two) if name in r) for name in names}

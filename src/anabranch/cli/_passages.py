"""Showing what was found: for ``ask`` and ``demo``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from anabranch.cli._terminal import Weight, one_line, seconds, shown_path, width, wrapped

if TYPE_CHECKING:
    from anabranch.rag.retrievers import Fused
    from anabranch.rag.types import Hit

TRIMMED_LINES = 6
_INDENT = "   "


def render(fused: Fused, *, full: bool = False) -> str:
    """The passages in their order, then how long each retriever took."""
    weight = Weight(sys.stdout)
    most = None if full else TRIMMED_LINES
    blocks = [
        "\n".join(_passage(rank, hit, weight, most))
        for rank, hit in enumerate(fused.hits, start=1)
    ]
    blocks.append("\n".join(_retrievers(fused, weight)))
    return "\n\n".join(blocks)


def where(hit: Hit) -> str:
    """The source of a passage and the place in it."""
    source = one_line(shown_path(hit.source))
    for part in ("line", "page", "row", "record"):
        if isinstance(number := hit.metadata.get(part), int):
            return f"{source}, {part} {number}"
    return f"{source}, characters {hit.start:,}-{hit.end:,}"


def title(hit: Hit) -> str:
    """What a passage's document is called."""
    given = one_line(str(hit.metadata.get("title") or ""))
    return given or one_line(hit.source.rstrip("/").rpartition("/")[2])


def _passage(rank: int, hit: Hit, weight: Weight, most: int | None) -> Iterator[str]:
    columns = width() - len(_INDENT)
    found = ", ".join(f"{name} #{place}" for name, place in hit.ranks.items())
    yield f"{rank:>2} " + weight.bold(title(hit)[:columns])
    yield _INDENT + weight.dim(f"{where(hit)}")
    yield _INDENT + weight.dim(f"score {hit.score:.4f}: {found}")
    for line in wrapped(hit.text, columns - 2, most=most):
        yield f"{_INDENT}  {line}".rstrip()


def _retrievers(fused: Fused, weight: Weight) -> Iterator[str]:
    times = [
        f"{name} {seconds(fused.elapsed_s[name])}"
        for name in fused.elapsed_s
        if name not in fused.failures
    ]
    yield weight.dim(f"retrieved by {', '.join(times)}, at once")
    for name, error in fused.failures.items():
        yield f"{name} failed: {one_line(str(error) or type(error).__name__)}"

"""From headings of some level to the path of titles that leads to each."""

from __future__ import annotations

from collections.abc import Iterable


def paths(headings: Iterable[tuple[int, str]]) -> list[tuple[str, ...]]:
    """The titles of the sections each heading is in, outermost first, and its own.

    Args:
        headings: The level and the title of each, in order; a lower level is outer. A
            heading without a title ends the sections it ends and adds none.
    """
    found: list[tuple[str, ...]] = []
    open_: list[tuple[int, str]] = []
    for level, title in headings:
        while open_ and open_[-1][0] >= level:
            open_.pop()
        open_.append((level, title))
        found.append(tuple(each for _, each in open_ if each))
    return found

"""Places for boxes and arrows, in layers from top to bottom.

The way of Sugiyama, Tagawa and Toda ("Methods for Visual Understanding of Hierarchical
System Structures", 1981), in four passes:

1. *Circles* are cut: an arrow that closes one, found by a search in depth, counts as going
   back. It is drawn around both boxes, beside them.
2. *Layers*: each box lies below all that point to it; one to which nothing points lies
   right above the first that it points to. Where an arrow crosses a layer, a thin
   placeholder keeps its way free.
3. *Order*: boxes of a layer are sorted by the mean place of their neighbours above, then
   below, and so on; the order with the fewest crossings stays.
4. *Places*: each box goes as near to the mean of its neighbours as the order permits. That
   is a least-squares problem with a chain of inequalities: isotonic regression, solved by
   pooling adjacent violators.

The same input gives the same places: there is no chance in it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple

_GAP_X: Final = 30.0
_GAP_Y: Final = 42.0
_LANE: Final = 12.0  # the width of a placeholder
_PORT: Final = 16.0  # between two arrows at one side of a box
_ROUNDS_OF_ORDER: Final = 24
_ROUNDS_OF_PLACE: Final = 30
_WEAK: Final = 0.3  # ties up to this weight make no line
_TURN: Final = 30.0  # how far an arrow that goes back swings out


class Size(NamedTuple):
    """Of a box."""

    width: float
    height: float


class Point(NamedTuple):
    """A place, in pixels from the left and from the top."""

    x: float
    y: float


class Route(NamedTuple):
    """The way of an arrow.

    Attributes:
        start: Where it leaves its box.
        curves: Bézier curves: two control points and the end of each.
        middle: Where a label may stand, near the start.
        last: The same near the end.
    """

    start: Point
    curves: tuple[tuple[Point, Point, Point], ...]
    middle: Point
    last: Point


class Layout(NamedTuple):
    """All places."""

    width: float
    height: float
    centres: tuple[Point, ...]
    routes: tuple[Route, ...]


def arrange(
    sizes: Sequence[Size],
    links: Sequence[tuple[int, int]],
    light: frozenset[int] = frozenset(),
) -> Layout:
    """Places for boxes of these sizes, with these arrows between them.

    Args:
        sizes: Of the boxes.
        links: The arrows: the numbers of two boxes each.
        light: The numbers of arrows that may be long and bent if others are straight then.
    """
    if not sizes:
        return Layout(0.0, 0.0, (), ())
    back = _going_back(len(sizes), links)
    ranks = _ranks(len(sizes), links, back)
    layers = _Layers(sizes, links, back, light, ranks)
    layers.sort()
    layers.place()
    return layers.result()


def _going_back(count: int, links: Sequence[tuple[int, int]]) -> frozenset[int]:
    """The arrows that close a circle, by their number."""
    leaving: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    entered = [False] * count
    for number, (source, target) in enumerate(links):
        leaving[source].append((number, target))
        entered[target] = True
    back: set[int] = set()
    state = [0] * count  # 1: on the way; 2: done
    for root in sorted(range(count), key=lambda node: entered[node]):
        if state[root]:
            continue
        state[root] = 1
        stack = [(root, iter(leaving[root]))]
        while stack:
            node, rest = stack[-1]
            for number, target in rest:
                if state[target] == 1:
                    back.add(number)
                elif state[target] == 0:
                    state[target] = 1
                    stack.append((target, iter(leaving[target])))
                    break
            else:
                state[node] = 2
                stack.pop()
    return frozenset(back)


def _ranks(count: int, links: Sequence[tuple[int, int]], back: frozenset[int]) -> list[int]:
    """The layer of each box: the length of the longest way to it."""
    after: list[list[int]] = [[] for _ in range(count)]
    left = [0] * count
    for number, (source, target) in enumerate(links):
        if number not in back:
            after[source].append(target)
            left[target] += 1
    has_before = [bool(n) for n in left]
    ranks = [0] * count
    ready = [node for node in range(count) if not left[node]]
    for node in ready:  # grows meanwhile
        for target in after[node]:
            ranks[target] = max(ranks[target], ranks[node] + 1)
            left[target] -= 1
            if not left[target]:
                ready.append(target)
    for node in reversed(ready):
        if not has_before[node] and after[node]:
            ranks[node] = max(0, min(ranks[target] for target in after[node]) - 1)
    lowest = min(ranks)
    return [rank - lowest for rank in ranks]


@dataclass(slots=True)
class _Layers:
    """Boxes and placeholders, layer by layer, on their way to their places.

    Attributes:
        chains: Of each arrow, the placeholders on its way, from top to bottom.
        above, below: Neighbours of each box and placeholder, with the weight of the arrow.
    """

    sizes: Sequence[Size]
    links: Sequence[tuple[int, int]]
    back: frozenset[int]
    light: frozenset[int]
    ranks: list[int]
    rows: list[list[int]] = field(default_factory=list[list[int]])
    widths: list[float] = field(default_factory=list[float])
    chains: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    above: list[list[tuple[int, float]]] = field(
        default_factory=list[list[tuple[int, float]]]
    )
    below: list[list[tuple[int, float]]] = field(
        default_factory=list[list[tuple[int, float]]]
    )
    x: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        self.rows = [[] for _ in range(max(self.ranks) + 1)]
        self.widths = [size.width for size in self.sizes]
        for node in range(len(self.sizes)):
            self.rows[self.ranks[node]].append(node)
            self.above.append([])
            self.below.append([])
        for number, (source, target) in enumerate(self.links):
            if number in self.back:
                self._go_around(number, target, source)
            else:
                self._go_down(number, source, target)

    def _placeholder(self, rank: int) -> int:
        node = len(self.widths)
        self.widths.append(_LANE)
        self.ranks.append(rank)
        self.rows[rank].append(node)
        self.above.append([])
        self.below.append([])
        return node

    def _tie(self, upper: int, lower: int, weight: float) -> None:
        self.below[upper].append((lower, weight))
        self.above[lower].append((upper, weight))

    def _go_down(self, number: int, source: int, target: int) -> None:
        chain = [
            self._placeholder(rank)
            for rank in range(self.ranks[source] + 1, self.ranks[target])
        ]
        self.chains[number] = chain
        self._tie_all([source, *chain, target], 0.1 if number in self.light else 1.0)

    def _go_around(self, number: int, upper: int, lower: int) -> None:
        """An arrow that goes back passes beside both of its boxes."""
        ranks = range(self.ranks[upper], self.ranks[lower] + 1)
        chain = [self._placeholder(rank) for rank in ranks]
        self.chains[number] = chain
        self._tie_all(chain)
        if len(chain) > 1:  # it stays near its boxes
            self._tie(upper, chain[1], 0.02)
            self._tie(chain[-2], lower, 0.02)

    def _tie_all(self, nodes: Sequence[int], factor: float = 1.0) -> None:
        real = len(self.sizes)
        for upper, lower in pairwise(nodes):
            thin = (upper >= real) + (lower >= real)
            self._tie(upper, lower, (2.0 * factor, 1.0 * factor, 8.0)[thin])

    # -------------------------------------------------------------------- order

    def sort(self) -> None:
        """Put each layer in the order with the fewest crossings that sweeps find."""
        best = [list(row) for row in self.rows]
        fewest = self._crossings()
        for turn in range(_ROUNDS_OF_ORDER):
            if not fewest:
                break
            if turn % 2 == 0:
                for upper, row in pairwise(self.rows):
                    _sort_by(row, upper, self.above)
            else:
                for row, lower in reversed(list(pairwise(self.rows))):
                    _sort_by(row, lower, self.below)
            crossings = self._crossings()
            if crossings < fewest:
                fewest, best = crossings, [list(row) for row in self.rows]
        self.rows = best

    def _crossings(self) -> int:
        total = 0
        for upper, lower in pairwise(self.rows):
            place = {node: index for index, node in enumerate(lower)}
            seen: list[int] = []
            for node in upper:
                ends = sorted(place[other] for other, _ in self.below[node])
                for end in ends:
                    total += len(seen) - bisect_right(seen, end)
                for end in ends:
                    insort(seen, end)
        return total

    # ------------------------------------------------------------------- places

    def place(self) -> None:
        """Choose each one's place from left to right."""
        self.x = [0.0] * len(self.widths)
        for row in self.rows:
            offsets = self._offsets(row)
            for node, offset in zip(row, offsets, strict=True):
                self.x[node] = offset - offsets[-1] / 2
        for turn in range(_ROUNDS_OF_PLACE):
            if turn < _ROUNDS_OF_PLACE // 3:
                for row in self.rows:
                    self._settle(row, self.above)
                for row in reversed(self.rows):
                    self._settle(row, self.below)
            else:
                for row in self.rows if turn % 2 else reversed(self.rows):
                    self._settle(row, self.above, self.below)
        for _ in range(2):  # what has moved has made room for others
            self._straighten()
        left = min(self.x[node] - self.widths[node] / 2 for node in range(len(self.x)))
        self.x = [round(x - left, 1) for x in self.x]

    def _offsets(self, row: Sequence[int]) -> list[float]:
        """Where each would be, packed from the left."""
        real = len(self.sizes)
        offsets = [0.0]
        for one, other in pairwise(row):
            gap = _GAP_X if one < real and other < real else _GAP_X / 2
            between = (self.widths[one] + self.widths[other]) / 2 + gap
            offsets.append(offsets[-1] + between)
        return offsets

    def _settle(self, row: Sequence[int], *sides: list[list[tuple[int, float]]]) -> None:
        wishes: list[float] = []
        weights: list[float] = []
        for node in row:
            near = [tie for side in sides for tie in side[node]]
            weight = sum(weight for _, weight in near)
            mean = sum(self.x[other] * weight for other, weight in near)
            wishes.append(mean / weight if near else self.x[node])
            weights.append(weight or 0.05)
        offsets = self._offsets(row)
        free = [wish - offset for wish, offset in zip(wishes, offsets, strict=True)]
        for node, shift, offset in zip(row, _pooled(free, weights), offsets, strict=True):
            self.x[node] = shift + offset

    def _straighten(self) -> None:
        """Put each chain, of boxes or placeholders, in one line as far as there is room.

        An arrow that goes back comes as near to its boxes as there is room.
        """
        beside = {
            self.chains[number][0]: (self.x[source] + self.x[target]) / 2
            for number in self.back
            for source, target in (self.links[number],)
        }
        for chain in self._lines():
            wish = beside.get(chain[0])
            run: list[int] = []
            low, high = -inf, inf
            for node in chain:
                left, right = self._room(node)
                if run and max(low, left) > min(high, right):
                    self._align(run, low, high, wish)
                    run, low, high = [], -inf, inf
                run.append(node)
                low, high = max(low, left), min(high, right)
            self._align(run, low, high, wish)

    def _align(
        self, run: Sequence[int], low: float, high: float, wish: float | None
    ) -> None:
        if wish is None:
            wish = sum(self.x[node] for node in run) / len(run)
        for node in run:
            self.x[node] = min(max(wish, low), high)

    def _room(self, node: int) -> tuple[float, float]:
        """How far it may go to the left and to the right."""
        row = self.rows[self.ranks[node]]
        index = row.index(node)
        low, high = -inf, inf
        if index:
            other = row[index - 1]
            low = self.x[other] + self._offsets((other, node))[1]
        if index + 1 < len(row):
            other = row[index + 1]
            high = self.x[other] - self._offsets((node, other))[1]
        return low, high

    def _lines(self) -> list[list[int]]:
        """The longest chains in which each has one neighbour above and one below."""
        strong_above = [[n for n, weight in near if weight > _WEAK] for near in self.above]
        strong_below = [[n for n, weight in near if weight > _WEAK] for near in self.below]

        def follows(node: int) -> bool:
            return (
                len(strong_above[node]) == 1
                and len(strong_below[strong_above[node][0]]) == 1
            )

        lines: list[list[int]] = []
        for row in self.rows:
            for node in row:
                if follows(node):
                    continue
                line = [node]
                while len(strong_below[line[-1]]) == 1 and follows(
                    strong_below[line[-1]][0]
                ):
                    line.append(strong_below[line[-1]][0])
                lines.append(line)
        return sorted(lines, key=len, reverse=True)

    # ------------------------------------------------------------------- result

    def result(self) -> Layout:
        """The places as they are now."""
        heights = [
            max(
                (self.sizes[node].height for node in row if node < len(self.sizes)),
                default=0,
            )
            for row in self.rows
        ]
        tops: list[float] = []
        top = _TURN if any(self.ranks[self.links[n][1]] == 0 for n in self.back) else 0.0
        for height in heights:
            tops.append(top)
            top += height + _GAP_Y
        bottom = top - _GAP_Y
        if any(self.ranks[self.links[n][0]] == len(heights) - 1 for n in self.back):
            bottom += _TURN
        centres = tuple(
            Point(self.x[node], tops[self.ranks[node]] + heights[self.ranks[node]] / 2)
            for node in range(len(self.sizes))
        )
        spans = list(zip(tops, heights, strict=True))
        routes = self._routes(centres, spans)
        right = max(self.x[node] + self.widths[node] / 2 for node in range(len(self.x)))
        return Layout(right, bottom, centres, routes)

    def _routes(
        self, centres: Sequence[Point], spans: Sequence[tuple[float, float]]
    ) -> tuple[Route, ...]:
        leaving, entering = self._ports()
        routes: list[Route] = []
        for number, (source, target) in enumerate(self.links):
            start = Point(
                centres[source].x + leaving[number],
                centres[source].y + self.sizes[source].height / 2,
            )
            end = Point(
                centres[target].x + entering[number],
                centres[target].y - self.sizes[target].height / 2,
            )
            chain = self.chains[number]
            lanes = [(self.x[node], *spans[self.ranks[node]]) for node in chain]
            draw = _around if number in self.back else _down
            routes.append(draw(start, end, lanes))
        return tuple(routes)

    def _ports(self) -> tuple[Mapping[int, float], Mapping[int, float]]:
        """How far from its box's middle each arrow leaves and enters."""
        leaving: dict[int, list[tuple[float, int]]] = {}
        entering: dict[int, list[tuple[float, int]]] = {}
        for number, (source, target) in enumerate(self.links):
            chain = self.chains[number]
            first, last = (chain[0], chain[-1]) if chain else (target, source)
            if number in self.back:
                first, last = last, first
            leaving.setdefault(source, []).append((self.x[first], number))
            entering.setdefault(target, []).append((self.x[last], number))
        return self._spread(leaving), self._spread(entering)

    def _spread(self, ports: Mapping[int, list[tuple[float, int]]]) -> dict[int, float]:
        """Light arrows, and those that go back, keep to the sides of the others."""
        found: dict[int, float] = {}
        aside = self.back | self.light
        for node, arrows in ports.items():
            room = max(0.0, self.sizes[node].width - 40)
            between = min(_PORT, room / max(1, len(arrows) - 1))
            main = sorted(arrow for arrow in arrows if arrow[1] not in aside)
            others = sorted(arrow for arrow in arrows if arrow[1] in aside)
            if not main:
                main, others = others, []
            middle = (len(main) - 1) / 2
            for index, (_, number) in enumerate(main):
                found[number] = (index - middle) * between
            right = [number for x, number in others if x >= self.x[node]]
            left = [number for x, number in reversed(others) if x < self.x[node]]
            for sign, numbers in ((1, right), (-1, left)):
                for index, number in enumerate(numbers, 1):
                    found[number] = sign * (middle + index) * between
        return found


def _sort_by(
    row: list[int], fixed: Sequence[int], near: Sequence[Sequence[tuple[int, float]]]
) -> None:
    place = {node: index for index, node in enumerate(fixed)}
    keys: dict[int, float] = {}
    for index, node in enumerate(row):
        found = [place[other] for other, _ in near[node] if other in place]
        # Who has no neighbour there keeps about the place it has.
        keys[node] = (
            sum(found) / len(found) if found else index * len(fixed) / max(1, len(row))
        )
    row.sort(key=keys.__getitem__)


def _pooled(wishes: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The rising numbers that are nearest to the wishes."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    for wish, weight in zip(wishes, weights, strict=True):
        mean, total, count = wish, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, other_weight, other_count = blocks.pop()
            mean = (mean * total + other * other_weight) / (total + other_weight)
            total, count = total + other_weight, count + other_count
        blocks.append((mean, total, count))
    return [mean for mean, _, count in blocks for _ in range(count)]


def _down(start: Point, end: Point, lanes: Sequence[tuple[float, float, float]]) -> Route:
    points = [start]
    for x, top, height in lanes:
        points += [Point(x, top), Point(x, top + height)]
    points.append(end)
    curves: list[tuple[Point, Point, Point]] = []
    for one, other in pairwise(points):
        half = (other.y - one.y) / 2
        curves.append((Point(one.x, one.y + half), Point(other.x, other.y - half), other))
    other = points[1]
    return Route(start, tuple(curves), _beside(start, points[1]), _beside(points[-2], end))


def _beside(start: Point, end: Point) -> Point:
    """Where a label may stand: beside the line if that is steep, else above or below it."""
    lean = end.x - start.x
    aside = 0.0 if abs(lean) < 16 else (-9.0 if lean > 0 else 9.0)
    return Point((start.x + end.x) / 2, (start.y + end.y) / 2 + aside)


def _around(start: Point, end: Point, lanes: Sequence[tuple[float, float, float]]) -> Route:
    """Out of the bottom, up beside the boxes, and in from the top."""
    x, top, height = lanes[-1]
    points = [Point(x, top + height - 6)]
    for x, top, height in reversed(lanes):
        points += [Point(x, top + height - 6), Point(x, top + 6)]
    curves = [
        (Point(start.x, start.y + _TURN), Point(points[0].x, start.y + _TURN), points[0])
    ]
    for one, other in pairwise(points):
        half = (other.y - one.y) / 2
        curves.append((Point(one.x, one.y + half), Point(other.x, other.y - half), other))
    last = points[-1]
    curves.append((Point(last.x, end.y - _TURN), Point(end.x, end.y - _TURN), end))
    half_way = points[len(points) // 2]
    return Route(start, tuple(curves), half_way, half_way)

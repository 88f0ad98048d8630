"""A graph as SVG: one picture that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from anabranch.workflow.drawing.graph import (
    KIND_NAMES,
    TONE_NAMES,
    Edge,
    EdgeKind,
    Graph,
    Kind,
    Node,
)
from anabranch.workflow.drawing.layout import Point, Route, Size, arrange
from anabranch.workflow.drawing.style import css
from anabranch.workflow.drawing.text import columns, escaped, one_line, shortened, wrapped

_NAME: Final = 7.9  # the width of a character of a name, in pixels
_PILL_NAME: Final = 7.3
_NOTE: Final = 6.3  # of a note; its letters vary, so this is a wide one
_NAME_LINE: Final = 17.0
_NOTE_LINE: Final = 15.0
_WIDEST_NAME: Final = 34  # characters
_MARGIN: Final = 20.0
_PILLS: Final[frozenset[Kind]] = frozenset(
    ("start", "stop", "event", "ask", "answer", "failure", "person")
)
# Labels that say something of where an arrow comes from; the others, of where it goes.
_OF_THE_SOURCE: Final = ("list", "fails")
_LIGHT: Final[tuple[EdgeKind, ...]] = ("need", "failure")
_HEADS: Final[tuple[EdgeKind, ...]] = ("flow", "need", "failure", "person")


class Picture(NamedTuple):
    """A drawing: the inside of an ``svg`` element, and its size in pixels."""

    width: float
    height: float
    body: str


@dataclass(frozen=True, slots=True)
class _Box:
    """A node with its words in lines."""

    node: Node
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    size: Size


def picture(
    graph: Graph, *, max_label_length: int | None = None, name: str = "g"
) -> Picture:
    """A graph as a drawing.

    Args:
        graph: What to draw.
        max_label_length: The most characters of a name that are shown.
        name: Tells the drawings on one page apart.
    """
    boxes = [_box(node, max_label_length) for node in graph.nodes]
    numbers = {node.id: index for index, node in enumerate(graph.nodes)}
    links = [(numbers[edge.source], numbers[edge.target]) for edge in graph.edges]
    light = frozenset(i for i, edge in enumerate(graph.edges) if edge.kind in _LIGHT)
    layout = arrange([box.size for box in boxes], links, light)
    remarks = [line for remark in graph.remarks for line in _sentences(remark)]
    parts = [_markers(name)]
    edges = _labelled_once(graph.edges)
    parts += [
        _edge(edge, route, name, numbers, max_label_length)
        for edge, route in zip(edges, layout.routes, strict=True)
    ]
    parts += [
        _node(box, centre, name, index)
        for index, (box, centre) in enumerate(zip(boxes, layout.centres, strict=True))
    ]
    bottom = layout.height + 26
    for index, line in enumerate(remarks):
        y = bottom + index * _NOTE_LINE
        parts.append(f'<text class="faint" x="0" y="{_n(y)}">{escaped(line)}</text>')
    labels = [
        _label_place(edge, route).x + 10 + columns(edge.label) * _NOTE
        for edge, route in zip(edges, layout.routes, strict=True)
    ]
    width = max([layout.width, *labels, *(columns(line) * _NOTE for line in remarks)])
    height = layout.height + (16 + len(remarks) * _NOTE_LINE if remarks else 0)
    moved = "\n".join(parts)
    return Picture(
        round(width + 2 * _MARGIN, 1),
        round(height + 2 * _MARGIN, 1),
        f'<g transform="translate({_n(_MARGIN)} {_n(_MARGIN)})">\n{moved}\n</g>',
    )


def document(title: str, *pictures: Picture) -> str:
    """Pictures, one below the other, as an SVG file with its own style."""
    width = max(picture.width for picture in pictures)
    width = max(width, columns(title) * 9 + 2 * _MARGIN)
    parts: list[str] = []
    top = 34.0
    for shown in pictures:
        left = (width - shown.width) / 2
        parts.append(f'<g transform="translate({_n(left)} {_n(top)})">{shown.body}</g>')
        top += shown.height
    words = escaped(one_line(title))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ab" role="img" '
        f'width="{_n(width)}" height="{_n(top)}" viewBox="0 0 {_n(width)} {_n(top)}">\n'
        f"<title>{words}</title>\n<style>\n{css()}\n</style>\n"
        f'<rect class="ground" width="100%" height="100%"/>\n'
        f'<text class="ink title" x="{_n(_MARGIN)}" y="28">{words}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def legend_sign(kind: Kind) -> str:
    """A small box of this kind, as an ``svg`` element, for a legend."""
    return (
        '<svg class="ab" width="30" height="16" viewBox="-1 -1 30 16" aria-hidden="true">'
        f'<g class="{kind}">{_shape(kind, Size(28, 14))}</g></svg>'
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _sentences(remark: str) -> list[str]:
    """A remark in lines of readable length."""
    lines = [""]
    for word in remark.split():
        if len(lines[-1]) + len(word) > 90:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


# ----------------------------------------------------------------------- nodes


def _box(node: Node, max_label_length: int | None) -> _Box:
    label = shortened(one_line(node.label), max_label_length)
    lines = tuple(wrapped(label, _WIDEST_NAME))
    pill = node.kind in _PILLS
    letter = _PILL_NAME if pill else _NAME
    wide = max(columns(line) for line in lines) * letter
    notes = tuple(note for note in node.notes if note)
    wide = max([wide, *(columns(note) * _NOTE for note in notes)])
    height = len(lines) * _NAME_LINE + len(notes) * _NOTE_LINE
    if pill:
        return _Box(node, lines, notes, Size(round(wide + 34, 1), height + 10))
    return _Box(node, lines, notes, Size(round(max(wide + 34, 90), 1), height + 19))


def _node(box: _Box, centre: Point, name: str, index: int) -> str:
    node = box.node
    left, top = centre.x - box.size.width / 2, centre.y - box.size.height / 2
    classes = f"node {node.kind} {node.tone}" + (" pill" if node.kind in _PILLS else "")
    parts = [_shape(node.kind, box.size)]
    if node.tone != "plain":
        parts.append(
            f'<rect class="mark" x="0" y="6" width="4" height="{_n(box.size.height - 12)}" '
            'rx="2"/>'
        )
    y = (box.size.height - len(box.lines) * _NAME_LINE - len(box.notes) * _NOTE_LINE) / 2
    middle = _n(box.size.width / 2)
    for line in box.lines:
        parts.append(
            f'<text class="name" x="{middle}" y="{_n(y + 13)}" text-anchor="middle">'
            f"{escaped(line)}</text>"
        )
        y += _NAME_LINE
    for note in box.notes:
        parts.append(
            f'<text class="note" x="{middle}" y="{_n(y + 11)}" text-anchor="middle">'
            f"{escaped(note)}</text>"
        )
        y += _NOTE_LINE
    return (
        f'<g class="{classes}" data-node="{name}{index}" '
        f'transform="translate({_n(left)} {_n(top)})">'
        f"<title>{escaped(told(node))}</title>{''.join(parts)}</g>"
    )


def told(node: Node) -> str:
    """All that is known of a node, as plain text."""
    first = f"{one_line(node.label)} ({KIND_NAMES[node.kind]}"
    first += f", {TONE_NAMES[node.tone]})" if node.tone in TONE_NAMES else ")"
    rest = (f"{name}: {one_line(text)}" for name, text in node.details)
    return "\n".join((first, *(note for note in node.notes if note), *rest))


def _shape(kind: Kind, size: Size) -> str:
    width, height = size
    w, h = _n(width), _n(height)
    match kind:
        case "resource":  # a hexagon
            points = [(10, 0), (width - 10, 0), (width, height / 2), (width - 10, height)]
            points += [(10, height), (0, height / 2)]
            said = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
            return f'<polygon class="box" points="{said}"/>'
        case "config":  # a sheet with a folded corner
            fold = _n(width - 12)
            return (
                f'<path class="box" d="M0 0H{fold}L{w} 12V{h}H0Z"/>'
                f'<path class="ring" d="M{fold} 0V12H{w}"/>'
            )
        case "workflow":  # a box within a box
            return (
                f'<rect class="box" width="{w}" height="{h}" rx="5"/>'
                f'<path class="ring" d="M8 0V{h}M{_n(width - 8)} 0V{h}"/>'
            )
        case "stop":  # ringed twice
            inner = f'width="{_n(width - 6)}" height="{_n(height - 6)}"'
            corner = height / 2
            return (
                f'<rect class="box" width="{w}" height="{h}" rx="{_n(corner)}"/>'
                f'<rect class="ring" x="3" y="3" {inner} rx="{_n(corner - 3)}"/>'
            )
        case _:
            corner = min(height / 2, 16.0) if kind in _PILLS else 7.0
            return f'<rect class="box" width="{w}" height="{h}" rx="{_n(corner)}"/>'


# ----------------------------------------------------------------------- edges


def _markers(name: str) -> str:
    heads = "".join(
        f'<marker id="{name}-{kind}" viewBox="0 0 10 10" refX="9" refY="5" '
        f'markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        f'<g class="{kind}"><path class="head" d="M0 1L10 5L0 9Z"/></g></marker>'
        for kind in _HEADS
    )
    return f"<defs>{heads}</defs>"


def _edge(
    edge: Edge,
    route: Route,
    name: str,
    numbers: Mapping[str, int],
    max_label_length: int | None,
) -> str:
    d = f"M{_p(route.start)}" + "".join(f"C{_points(curve)}" for curve in route.curves)
    parts = [f'<path class="arrow" d="{d}" marker-end="url(#{name}-{edge.kind})"/>']
    if edge.label:
        label = shortened(one_line(edge.label), max_label_length)
        place = _label_place(edge, route)
        x, y = place.x + 6, place.y + 4
        parts.append(f'<text class="label" x="{_n(x)}" y="{_n(y)}">{escaped(label)}</text>')
    ends = (
        f'data-from="{name}{numbers[edge.source]}" data-to="{name}{numbers[edge.target]}"'
    )
    return f'<g class="edge {edge.kind}" {ends}>{"".join(parts)}</g>'


def _labelled_once(edges: Sequence[Edge]) -> list[Edge]:
    """The edges, of which several with one target and one label say it only once."""
    said: set[tuple[str, str]] = set()
    shown: list[Edge] = []
    for edge in edges:
        key = (edge.target, edge.label)
        is_said = edge.kind == "flow" and edge.label not in _OF_THE_SOURCE and key in said
        shown.append(replace(edge, label="") if is_said else edge)
        said.add(key)
    return shown


def _label_place(edge: Edge, route: Route) -> Point:
    return route.middle if edge.label in _OF_THE_SOURCE else route.last


def _p(point: Point) -> str:
    return f"{_n(point.x)} {_n(point.y)}"


def _points(points: Sequence[Point]) -> str:
    return " ".join(map(_p, points))

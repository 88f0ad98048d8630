"""A graph as Mermaid text, for Markdown pages that draw it themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from anabranch.workflow.drawing.graph import Edge, EdgeKind, Graph, Kind, Node, Tone
from anabranch.workflow.drawing.style import LIGHT
from anabranch.workflow.drawing.text import one_line, shortened

_SHAPES: Final[dict[Kind, tuple[str, str]]] = {
    "step": ("[", "]"),
    "handler": ("[", "]"),
    "resource": ("{{", "}}"),
    "config": ("[/", "/]"),
    "workflow": ("[[", "]]"),
    "person": ("((", "))"),
    "earlier": ("[", "]"),
}
_PILL: Final = ("([", "])")
_ARROWS: Final[dict[EdgeKind, str]] = {
    "flow": "-->",
    "need": "-.->",
    "failure": "-.->",
    "person": "-.->",
}
_TONED: Final[tuple[Tone, ...]] = ("warned", "bad", "busy")


def mermaid(graph: Graph, *, max_label_length: int | None = None) -> str:
    """The text of a Mermaid flowchart.

    Args:
        graph: What to draw.
        max_label_length: The most characters of a name that are shown.
    """
    ids = _ids(graph)
    lines = [f"%% {_comment(graph.title)}", "flowchart TD"]
    lines += [f"    {_node(node, ids[node.id], max_label_length)}" for node in graph.nodes]
    lines += [f"    {_edge(edge, ids, max_label_length)}" for edge in graph.edges]
    if graph.remarks:
        said = _label("\n".join(graph.remarks))
        lines.append(f'    remarks["{said}"]:::kindRemark')
    lines += [f"    {line}" for line in _classes(graph)]
    return "\n".join(lines) + "\n"


def _ids(graph: Graph) -> dict[str, str]:
    """An identifier for each node: never a word of Mermaid's own, such as ``end``."""
    found: dict[str, str] = {}
    taken: set[str] = {"remarks"}
    for node in graph.nodes:
        plain = re.sub(r"[^0-9A-Za-z]+", "_", node.id).strip("_") or "node"
        if plain.lower() in (
            "end",
            "graph",
            "subgraph",
            "class",
            "style",
            "click",
            "default",
        ):
            plain += "_node"
        free, number = plain, 2
        while free in taken:
            free, number = f"{plain}_{number}", number + 1
        taken.add(free)
        found[node.id] = free
    return found


def _node(node: Node, name: str, most: int | None) -> str:
    before, after = _SHAPES.get(node.kind, _PILL)
    words = [shortened(one_line(node.label), most), *(note for note in node.notes if note)]
    style = f":::tone{node.tone.title()}" if node.tone in _TONED else ""
    style = style or f":::kind{node.kind.title()}"
    return f'{name}{before}"{_label(chr(10).join(words))}"{after}{style}'


def _edge(edge: Edge, ids: dict[str, str], most: int | None) -> str:
    label = shortened(one_line(edge.label), most)
    said = f'|"{_label(label)}"|' if label else ""
    return f"{ids[edge.source]} {_ARROWS[edge.kind]}{said} {ids[edge.target]}"


def _label(text: str) -> str:
    """Text in quotes: all but plain characters by their numbers, so none is syntax."""
    lines = (one_line(line) for line in text.split("\n"))
    return "<br/>".join(
        "".join(
            char if char.isalnum() or char in _HARMLESS else f"#{ord(char)};"
            for char in line
        )
        for line in lines
    )


# Not the comma's neighbours in Markdown: a label may be read as such.
_HARMLESS: Final = frozenset(" ,.:/()+-=?!·×…_")


def _comment(text: str) -> str:
    return "".join(char for char in one_line(text) if char.isalnum() or char in _HARMLESS)


def _classes(graph: Graph) -> Iterator[str]:
    kinds: dict[Kind, None] = dict.fromkeys(node.kind for node in graph.nodes)
    for kind in kinds:
        fill, line, ink = LIGHT.kinds[kind]
        yield f"classDef kind{kind.title()} fill:{fill},stroke:{line},color:{ink}"
    fill, _, ink = LIGHT.kinds["step"]
    tones: dict[Tone, None] = dict.fromkeys(node.tone for node in graph.nodes)
    for tone in tones:
        if tone in _TONED:
            yield (
                f"classDef tone{tone.title()} fill:{fill},stroke:{LIGHT.tones[tone]},"
                f"stroke-width:3px,color:{ink}"
            )
    if graph.remarks:
        yield "classDef kindRemark fill:none,stroke:none,color:#5c6878"

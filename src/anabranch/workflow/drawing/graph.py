"""What a drawing shows: nodes and edges, without places or colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "step",
    "handler",
    "start",
    "stop",
    "event",
    "ask",
    "answer",
    "failure",
    "person",
    "resource",
    "config",
    "workflow",
    "earlier",
]
Tone: TypeAlias = Literal["plain", "good", "warned", "bad", "busy"]
EdgeKind: TypeAlias = Literal["flow", "need", "failure", "person"]

KIND_NAMES: dict[Kind, str] = {
    "step": "step",
    "handler": "handler of failures",
    "start": "start event",
    "stop": "stop event",
    "event": "event",
    "ask": "question to a person",
    "answer": "answer of a person",
    "failure": "failure",
    "person": "a person, or a program outside",
    "resource": "resource",
    "config": "configuration file",
    "workflow": "nested workflow",
    "earlier": "what is no longer remembered",
}
TONE_NAMES: dict[Tone, str] = {
    "good": "done",
    "warned": "retried or recovered",
    "bad": "failed",
    "busy": "under way",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing in a drawing.

    Attributes:
        notes: Short lines below the label.
        details: What is told on request, as pairs of a name and a text.
        tone: Of a step in a run, how it went.
    """

    id: str
    kind: Kind
    label: str
    notes: tuple[str, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An arrow between two nodes, by their ids."""

    source: str
    target: str
    label: str = ""
    kind: EdgeKind = "flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A drawing.

    Attributes:
        title: The workflow's name.
        remarks: Sentences about what the drawing leaves out or puts together.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    remarks: tuple[str, ...] = ()


class Draft:
    """A graph in the making; what is added twice is in it once."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._nodes: dict[str, Node] = {}
        self._edges: dict[tuple[str, str, str, EdgeKind], Edge] = {}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._nodes

    def add(self, node: Node) -> str:
        """Add a node, unless there is one with its id; the id."""
        self._nodes.setdefault(node.id, node)
        return node.id

    def join(
        self, source: str, target: str, label: str = "", kind: EdgeKind = "flow"
    ) -> None:
        """Add an edge."""
        key = (source, target, label, kind)
        self._edges.setdefault(
            key, Edge(source=source, target=target, label=label, kind=kind)
        )

    def graph(self, remarks: tuple[str, ...] = ()) -> Graph:
        """The finished graph."""
        return Graph(
            title=self._title,
            nodes=tuple(self._nodes.values()),
            edges=tuple(self._edges.values()),
            remarks=remarks,
        )

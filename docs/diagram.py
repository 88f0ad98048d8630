"""Draws the rooms and who may import whom, from the contract that enforces it.

The layers in ``pyproject.toml`` are the only source; ``python docs/diagram.py`` writes
``docs/_static/architecture.svg``, and a test says when that file is out of date.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/_static/architecture.svg"

# What a box says under its name. A module of the contract that is missing here is a
# KeyError: say in a few words what it is for.
ABOUT = {
    "cli": "the anabranch command",
    "serve": "runs over HTTP",
    "rag": "read, split, embed, store, find",
    "workflow": "typed events through steps",
    "sandbox": "code you did not write",
    "jobs": "many awaitables at once",
    "postgres": "the address of a database",
    "errors": "what can go wrong",
    "clock": "time, real or virtual",
    "observe": "what happened, told",
    "retry": "when to try again",
    "testing": "virtual time, planted faults, conformance suites",
}

WIDTH, MARGIN, BOX, GAP, ARROW = 900, 30, 66, 14, 34
ROOMS = 640  # the width that the layers share; the rest is the test kit's

STYLE = """
text { font-family: system-ui, sans-serif; fill: #1b2733; text-anchor: middle }
.name { font-size: 16px; font-weight: 600 }
.about, .note { font-size: 12.5px; fill: #44525f }
.note { text-anchor: start }
.paper { fill: #ffffff }
.box { fill: #e3f0f4; stroke: #2f7486; stroke-width: 1.5 }
.later { fill: #ffffff; stroke-dasharray: 5 4 }
.kit { fill: #f6efe0; stroke: #9a7427 }
.arrow { stroke: #44525f; stroke-width: 1.5; fill: none; marker-end: url(#tip) }
.across { stroke-dasharray: 3 3 }
"""


@dataclass(frozen=True, slots=True)
class Room:
    name: str
    exists: bool
    hearts: tuple[str, ...]


def main() -> None:
    PICTURE.write_text(draw())


def draw() -> str:
    contracts = read_contracts()
    layers = [
        [room(name, contracts["forbidden"]["source_modules"]) for name in split(layer)]
        for layer in contracts["layers"]["layers"]
    ]
    in_layers = {room.name for layer in layers for room in layer}
    outside = [
        last(name)
        for name in contracts["protected"]["protected_modules"]
        if last(name) not in in_layers
    ]

    parts: list[str] = []
    top = MARGIN
    for number, layer in enumerate(layers):
        parts += row(layer, top)
        if number + 1 < len(layers):
            middle = MARGIN + ROOMS / 2
            parts.append(arrow(middle, top + BOX + 3, middle, top + BOX + ARROW - 4))
        top += BOX + ARROW
    bottom = top - ARROW

    left = MARGIN + ROOMS + 50
    for name in outside:
        height = bottom - MARGIN
        parts += tall_box(name, left, MARGIN, WIDTH - MARGIN - left, height)
        parts.append(
            arrow(
                left - 4, MARGIN + height / 2, left - 44, MARGIN + height / 2, across=True
            )
        )
    parts += notes(bottom + 28)
    return page(parts, height=bottom + 28 + 4 * 20 + MARGIN - 20)


def read_contracts() -> dict[str, dict[str, list[str]]]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {each["type"]: each for each in config["tool"]["importlinter"]["contracts"]}


def split(layer: str) -> list[str]:
    return [last(name.strip(" ()")) for name in layer.split("|")]


def last(module: str) -> str:
    return module.rpartition(".")[2]


def room(name: str, hearts: list[str]) -> Room:
    home = ROOT / "src/anabranch" / name
    mine = [last(heart) for heart in hearts if heart.split(".")[1] == name]
    return Room(name, home.is_dir() or home.with_suffix(".py").is_file(), tuple(mine))


def row(rooms: list[Room], top: float) -> list[str]:
    width = (ROOMS - GAP * (len(rooms) - 1)) / len(rooms)
    parts: list[str] = []
    for number, each in enumerate(rooms):
        left = MARGIN + number * (width + GAP)
        about = [ABOUT[each.name]]
        if each.hearts:
            about.append(f"heart: {', '.join(each.hearts)}")
        shape = "box" if each.exists else "box later"
        parts += box(each.name, about, left, top, width=width, shape=shape)
    return parts


def box(
    name: str, about: list[str], left: float, top: float, *, width: float, shape: str
) -> list[str]:
    middle = left + width / 2
    first = top + BOX / 2 - 8 * (len(about) - 1) - 2
    return [
        rectangle(shape, left, top, width=width, height=BOX),
        text("name", middle, first, name),
        *(text("about", middle, first + 18 + 16 * n, line) for n, line in enumerate(about)),
    ]


def tall_box(name: str, left: float, top: float, width: float, height: float) -> list[str]:
    middle = left + width / 2
    center = top + height / 2
    lines = ABOUT[name].split(", ")
    return [
        rectangle("box kit", left, top, width=width, height=height),
        text("name", middle, center - 20, name),
        *(text("about", middle, center + 2 + 17 * n, line) for n, line in enumerate(lines)),
    ]


def rectangle(shape: str, x: float, y: float, *, width: float, height: float) -> str:
    size = f'width="{width:g}" height="{height:g}"'
    return f'<rect class="{shape}" x="{x:g}" y="{y:g}" {size} rx="7"/>'


def notes(top: float) -> list[str]:
    lines = (
        "A box may import what lies below it, and nothing beside or above it.",
        "Nobody imports testing or cli; testing, too, may import what lies below cli.",
        "A heart holds rules only: it never awaits, and reads no clock and no chance.",
        "Dashed: has its place, is not there yet.",
    )
    return [text("note", MARGIN, top + 20 * n, line) for n, line in enumerate(lines)]


def text(kind: str, x: float, y: float, words: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float, *, across: bool = False) -> str:
    kind = "arrow across" if across else "arrow"
    return f'<path class="{kind}" d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>'


def page(parts: list[str], *, height: float) -> str:
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}"
 role="img" aria-label="The rooms of anabranch and who may import whom">
<style>{STYLE}</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
 orient="auto"><path d="M0 0L8 4L0 8z" fill="#44525f"/></marker></defs>
<rect class="paper" width="{WIDTH}" height="{height:g}" rx="9"/>
{body}
</svg>
"""


if __name__ == "__main__":
    main()

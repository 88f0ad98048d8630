"""Drawings as one page that needs no network, and runs no script but its own.

What comes from outside, such as names and error texts, is escaped; and should that ever
fail, the page's security policy still refuses whatever is not its own script, by digest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from anabranch.workflow.drawing.graph import KIND_NAMES, TONE_NAMES, Graph, Kind
from anabranch.workflow.drawing.mermaid import mermaid
from anabranch.workflow.drawing.style import css
from anabranch.workflow.drawing.svg import Picture, legend_sign, picture
from anabranch.workflow.drawing.text import escaped, one_line

_KEYS: Final = (
    "Drag to move, wheel to zoom; <kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd> and arrow keys do "
    "the same. <kbd>Tab</kbd> goes from box to box, <kbd>Enter</kbd> keeps one."
)
_PACKAGE: Final = __name__.rpartition(".")[0]
_TOOLS: Final = (
    '<div class="tools">'
    '<button type="button" data-do="+" aria-label="Larger">+</button>'
    '<button type="button" data-do="-" aria-label="Smaller">−</button>'
    '<button type="button" data-do="0" aria-label="Show all">all</button></div>'
)


class Section(NamedTuple):
    """A graph on a page, with a heading unless it is the only one."""

    heading: str
    graph: Graph


def page(
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    *,
    facts: Sequence[tuple[str, str]] = (),
    time: Picture | None = None,
    max_label_length: int | None = None,
) -> str:
    """The page.

    Args:
        title: Its heading.
        subtitle: What it shows.
        sections: The graphs.
        facts: What to tell first, as pairs of a name and a text.
        time: A run's time.
        max_label_length: The most characters of a name that are shown.
    """
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    words = escaped(one_line(title))
    body = [
        f"<header><h1>{words}<small>{escaped(subtitle)}</small></h1>{_facts(facts)}</header>"
    ]
    for index, section in enumerate(sections):
        body.append(_section(section, f"g{index}", max_label_length))
    if time is not None:
        body.append(_time(time))
    body.append(_texts(sections, max_label_length))
    body.append(f"<footer><p>{_KEYS}</p></footer>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{words}: {escaped(subtitle)}</title>\n"
        f"<style>\n{css()}\n{_asset('page.css')}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


@cache
def _asset(name: str) -> str:
    return files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    tones = {"failed": "bad", "error": "bad", "completed": "good", "retries": "warned"}
    items = "".join(
        f'<li class="{tones.get(value, tones.get(name, ""))}">'
        f"<span>{escaped(name)}</span><b>{escaped(value)}</b></li>"
        for name, value in facts
    )
    return f'<ul class="facts">{items}</ul>'


def _section(section: Section, name: str, most: int | None) -> str:
    graph = section.graph
    drawn = picture(replace(graph, remarks=()), max_label_length=most, name=name)
    remarks = "".join(f'<p class="remarks">{escaped(said)}</p>' for said in graph.remarks)
    heading = (
        f"<h2>{escaped(section.heading)}</h2>" if section.heading else "<h2>Graph</h2>"
    )
    known = "".join(
        f'<div id="known-{name}{index}">{_known(graph, index)}</div>'
        for index in range(len(graph.nodes))
    )
    height = f"min({max(drawn.height * 1.15 + 12, 280):.0f}px,74vh)"
    return (
        f'<section>{heading}<div class="stage" style="--height:{height}">'
        f'<div class="view" tabindex="0" role="group" '
        f'aria-label="{escaped(f"Graph of {graph.title}")}">{_svg(drawn)}{_TOOLS}</div>'
        '<aside aria-live="polite"><p class="hint">Point at a box, or choose it, and what '
        f"is known of it is told here.</p></aside></div>{remarks}{_legend(graph)}"
        f'<div class="known" aria-hidden="true">{known}</div></section>'
    )


def _svg(drawn: Picture) -> str:
    width, height = f"{drawn.width:g}", f"{drawn.height:g}"
    return (
        f'<svg class="ab" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{drawn.body}</svg>'
    )


def _known(graph: Graph, index: int) -> str:
    node = graph.nodes[index]
    kind = KIND_NAMES[node.kind]
    if node.tone in TONE_NAMES:
        kind += f": {TONE_NAMES[node.tone]}"
    notes = "".join(f"<dd>{escaped(note)}</dd>" for note in node.notes)
    details = "".join(
        f"<dt>{escaped(name)}</dt><dd>{escaped(text)}</dd>" for name, text in node.details
    )
    return (
        f'<h3>{escaped(one_line(node.label))}</h3><p class="kind">{escaped(kind)}</p>'
        f"<dl>{notes}{details}</dl>"
    )


def _legend(graph: Graph) -> str:
    kinds: dict[Kind, None] = dict.fromkeys(node.kind for node in graph.nodes)
    signs = [f"<li>{legend_sign(kind)}{escaped(KIND_NAMES[kind])}</li>" for kind in kinds]
    return (
        f'<ul class="legend">{"".join(signs)}{_tones({n.tone for n in graph.nodes})}</ul>'
    )


def _tones(tones: set[str]) -> str:
    return "".join(
        f'<li><i style="background:var(--{tone})"></i>{escaped(said)}</li>'
        for tone, said in TONE_NAMES.items()
        if tone in tones
    )


def _time(time: Picture) -> str:
    legend = (
        '<ul class="legend">'
        '<li><i style="background:var(--good)"></i>first attempt</li>'
        '<li><i style="background:var(--warned)"></i>later attempt</li>'
        '<li><i style="background:var(--bad)"></i>failed attempt</li>'
        '<li><i style="background:var(--busy)"></i>under way, or cut off</li></ul>'
    )
    return (
        f'<section><h2>Time</h2><div class="time" tabindex="0" role="group" '
        f'aria-label="Time of the run">{_svg(time)}</div>{legend}</section>'
    )


def _texts(sections: Sequence[Section], most: int | None) -> str:
    parts = [
        f"<pre>{escaped(mermaid(section.graph, max_label_length=most))}</pre>"
        for section in sections[:1]
    ]
    return (
        "<section><details><summary>As Mermaid text</summary>"
        f'<button type="button" data-copy>Copy</button>{"".join(parts)}</details></section>'
    )

"""Colours and letters of drawings, for light and dark."""

from __future__ import annotations

from typing import Final, NamedTuple

from anabranch.workflow.drawing.graph import Kind, Tone

MONO: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
SANS: Final = (
    "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif"
)


class Paint(NamedTuple):
    """Of a box: fill, outline and letters."""

    fill: str
    line: str
    ink: str


class Theme(NamedTuple):
    """All colours of one appearance."""

    ground: str
    ink: str
    faint: str
    rule: str
    arrow: str
    kinds: dict[Kind, Paint]
    tones: dict[Tone, str]


LIGHT: Final = Theme(
    ground="#ffffff",
    ink="#1b2430",
    faint="#5c6878",
    rule="#e3e7ec",
    arrow="#7b8796",
    kinds={
        "step": Paint("#eaf1fd", "#3d72c9", "#14315f"),
        "handler": Paint("#fbf0ef", "#b9736e", "#6b1f1b"),
        "start": Paint("#e3f5ea", "#2f9560", "#124a2e"),
        "stop": Paint("#f0eafb", "#7d54c2", "#3b2168"),
        "event": Paint("#f4f6f8", "#a3adb9", "#2f3946"),
        "ask": Paint("#fdf3dc", "#c08a1e", "#5e420a"),
        "answer": Paint("#fdf3dc", "#c08a1e", "#5e420a"),
        "failure": Paint("#fdf1f0", "#d9827d", "#7c2a26"),
        "person": Paint("#c08a1e", "#c08a1e", "#ffffff"),
        "resource": Paint("#e2f4f3", "#2e8d8a", "#0f4745"),
        "config": Paint("#eef3e6", "#7a944a", "#3b4a1d"),
        "workflow": Paint("#e9ebfb", "#5a62c4", "#262c74"),
        "earlier": Paint("#ffffff", "#a3adb9", "#5c6878"),
    },
    tones={
        "plain": "#3d72c9",
        "good": "#2f9560",
        "warned": "#c08a1e",
        "bad": "#c9352d",
        "busy": "#3d72c9",
    },
)
DARK: Final = Theme(
    ground="#14181f",
    ink="#e4e9f0",
    faint="#97a3b3",
    rule="#2b323d",
    arrow="#7d8998",
    kinds={
        "step": Paint("#1d2c47", "#6c9be8", "#dbe7fb"),
        "handler": Paint("#342326", "#c58480", "#fadad8"),
        "start": Paint("#173226", "#4fb985", "#d5f2e2"),
        "stop": Paint("#2a2142", "#a583e6", "#e6dcfa"),
        "event": Paint("#222932", "#5f6b7a", "#d3dae3"),
        "ask": Paint("#352a12", "#d6a33c", "#f7e6bd"),
        "answer": Paint("#352a12", "#d6a33c", "#f7e6bd"),
        "failure": Paint("#331d1f", "#b5615d", "#f2cbc9"),
        "person": Paint("#d6a33c", "#d6a33c", "#231a05"),
        "resource": Paint("#12302f", "#4ab5b1", "#cdeeec"),
        "config": Paint("#252d18", "#9db568", "#e3edce"),
        "workflow": Paint("#222550", "#8e95ec", "#dfe1fb"),
        "earlier": Paint("#14181f", "#5f6b7a", "#97a3b3"),
    },
    tones={
        "plain": "#6c9be8",
        "good": "#4fb985",
        "warned": "#d6a33c",
        "bad": "#ec6a62",
        "busy": "#6c9be8",
    },
)

# Without var(), which programs that are no browsers do not know.
_SHAPES: Final = f"""
.ab text{{font-family:{SANS};font-size:11px}}
.ab .name{{font-family:{MONO};font-size:13px}}
.ab .step .name,.ab .handler .name,.ab .workflow .name{{font-weight:600}}
.ab .pill .name,.ab .person .name{{font-size:12px}}
.ab .box{{stroke-width:1.3}}
.ab .step .box,.ab .handler .box,.ab .workflow .box{{stroke-width:1.6}}
.ab .arrow{{fill:none;stroke-width:1.4}}
.ab .need .arrow{{stroke-dasharray:2 4;stroke-linecap:round}}
.ab .failure .arrow,.ab .person .arrow{{stroke-dasharray:6 4}}
.ab .earlier .box{{stroke-dasharray:4 4}}
.ab .label{{paint-order:stroke;stroke-width:5px;stroke-linejoin:round}}
.ab .busy .mark,.ab .bar.busy{{fill-opacity:.55}}
.ab .ring{{fill:none}}
.ab .title{{font-size:15px;font-weight:600}}
""".strip()


def css() -> str:
    """The style sheet of a drawing, for light and dark."""
    dark = _colours(DARK)
    return f"{_SHAPES}\n{_colours(LIGHT)}\n@media (prefers-color-scheme:dark){{\n{dark}\n}}"


def _colours(theme: Theme) -> str:
    red = theme.kinds["failure"].line
    amber = theme.kinds["ask"].line
    rules = [
        f".ab .ground{{fill:{theme.ground}}}",
        f".ab .ink{{fill:{theme.ink}}}",
        f".ab .faint{{fill:{theme.faint}}}",
        f".ab .rule{{stroke:{theme.rule}}}",
        f".ab .band{{fill:{theme.rule};fill-opacity:.45}}",
        f".ab .label{{fill:{theme.faint};stroke:{theme.ground}}}",
        f".ab .arrow{{stroke:{theme.arrow}}}",
        f".ab .head{{fill:{theme.arrow}}}",
        f".ab .failure .arrow{{stroke:{red}}}.ab .failure .head{{fill:{red}}}",
        f".ab .person .arrow{{stroke:{amber}}}.ab .person .head{{fill:{amber}}}",
    ]
    for kind, paint in theme.kinds.items():
        rules.append(
            f".ab .{kind} .box{{fill:{paint.fill};stroke:{paint.line}}}"
            f".ab .{kind} .ring{{stroke:{paint.line}}}"
            f".ab .{kind} .name,.ab .{kind} .note{{fill:{paint.ink}}}"
        )
    for tone, colour in theme.tones.items():
        rules.append(f".ab .{tone} .mark,.ab .bar.{tone}{{fill:{colour}}}")
        if tone in ("bad", "warned"):
            rules.append(
                f".ab .{tone}.step .box,.ab .{tone}.handler .box{{stroke:{colour}}}"
            )
    return "\n".join(rules)

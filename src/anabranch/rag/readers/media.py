"""Which kinds of source can be read, and how a name or its first bytes tell the kind."""

from __future__ import annotations

from pathlib import PurePosixPath

TEXT = "text/plain"
MARKDOWN = "text/markdown"
RST = "text/x-rst"
HTML = "text/html"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/jsonl"
PYTHON = "text/x-python"
CODE = "text/x-source-code"
"""Source code in the language that the name's suffix says."""
DOCSTRINGS = "application/x-anabranch-docstrings"
"""Python, of which only the docstrings are wanted."""
PYDOC = "application/x-anabranch-pydoc+json"
"""A JSON list of ``{"name", "kind", "signature", "doc"}``, all strings: the docstrings
of a module that has no source to read them from. ``kind`` is ``module``, ``class``,
``function``, ``method`` or ``topic``."""

LANGUAGES = {
    "python": ".pyi",
    "c": ".c .h",
    "c++": ".cc .cpp .cxx .hh .hpp",
    "c#": ".cs",
    "go": ".go",
    "java": ".java",
    "javascript": ".js .jsx .mjs .cjs",
    "kotlin": ".kt .kts",
    "lua": ".lua",
    "perl": ".pl .pm",
    "php": ".php",
    "r": ".r",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala",
    "shell": ".sh .bash",
    "sql": ".sql",
    "swift": ".swift",
    "typescript": ".ts .tsx",
}
"""The languages that are read as code, beside ``.py``, and their suffixes."""

SUFFIXES = {
    ".txt": TEXT,
    ".text": TEXT,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".rst": RST,
    ".rest": RST,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".pdf": PDF,
    ".docx": DOCX,
    ".csv": CSV,
    ".tsv": TSV,
    ".tab": TSV,
    ".json": JSON,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".py": PYTHON,
} | {suffix: CODE for suffixes in LANGUAGES.values() for suffix in suffixes.split()}

KINDS = {
    "text": (TEXT,),
    "markdown": (MARKDOWN,),
    "rst": (RST,),
    "html": (HTML,),
    "pdf": (PDF,),
    "docx": (DOCX,),
    "table": (CSV, TSV),
    "jsonl": (JSON_LINES,),
    "json": (JSON,),
    "python": (PYTHON,),
    "code": (PYTHON, CODE),
}
"""The kinds of file by the names people use, and the media types of each."""

FOUND = tuple(kind for kind in KINDS if kind != "json")
"""The kinds that are taken from folders if nobody says which: most JSON is no text but
settings and what programs have made. It is read where a file is named, or ``json`` is."""

ALIASES = {
    "application/xhtml+xml": HTML,
    "application/x-pdf": PDF,
    "application/x-python-code": PYTHON,
    "text/x-script.python": PYTHON,
    "text/x-markdown": MARKDOWN,
    "text/prs.fallenstein.rst": RST,
    "text/rst": RST,
    "application/csv": CSV,
    "application/x-ndjson": JSON_LINES,
    "application/ndjson": JSON_LINES,
    "application/jsonlines": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "text/json": JSON,
}
"""Other names servers use, and ours for the same thing."""

RECORDS = frozenset({CSV, TSV, JSON, JSON_LINES})
"""What holds records, of which fields can be chosen."""

STREAMABLE = frozenset({TEXT, MARKDOWN, RST, CSV, TSV, JSON_LINES, PYTHON, CODE})
"""What can be read piece by piece, so that its size does not matter."""


def language(name: str) -> str | None:
    """The language of source code that a file's name or URL's path suggests, if any."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".py":
        return "python"
    found = (each for each, suffixes in LANGUAGES.items() if suffix in suffixes.split())
    return next(found, None) if suffix else None


def of_name(name: str) -> str | None:
    """The media type that a file's name or URL's path suggests, if any."""
    return SUFFIXES.get(PurePosixPath(name).suffix.lower())


def of_bytes(start: bytes) -> str | None:
    """The media type that the first bytes suggest; None when they are not text."""
    head = start[:1024].lstrip().lower()
    if head.startswith(b"%pdf-"):
        return PDF
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return HTML
    return None if b"\0" in head else TEXT


def unsupported(media_type: str) -> str:
    """Why a page of this type is of no use, and which would be."""
    return f"is {media_type}, which cannot be read: {', '.join(KINDS)} can"

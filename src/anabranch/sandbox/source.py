"""Source text as a tree, if it is one that can be judged at all."""

from __future__ import annotations

import ast
import re
from typing import Final, Literal

from anabranch.errors import SourceRefused

__all__ = ["Mode", "parsed"]

Mode = Literal["eval", "exec"]

MAX_CHARS: Final = 100_000
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 150

# PEP 263: Python looks for it in the first two lines. Text has no encoding, but whoever
# writes a cookie expects other bytes to run than the ones that were read.
_COOKIE: Final = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-_.a-zA-Z0-9]+)", re.MULTILINE)
_UTF8: Final = frozenset({"utf8", "utf"})


def parsed(source: str | bytes | bytearray, mode: Mode) -> ast.Module | ast.Expression:
    """The tree of a source; the text itself is never compiled.

    Raises:
        SourceRefused: If it is no text, too long, too deep, or says to be encoded in
            another way than UTF-8.
        SyntaxError: If it is not Python.
    """
    text = _text(source)
    if mode == "eval":
        text = text.strip(" \t\r\n")
    try:
        tree = ast.parse(text, "<sandbox>", mode)
    except (MemoryError, RecursionError):
        raise _too_deep() from None
    except ValueError as error:
        raise SourceRefused(line=None, construct="the source", reason=str(error)) from None
    except SyntaxError:
        if mode == "eval":
            _refuse_statement(text)
        raise
    _measure(tree)
    assert isinstance(tree, (ast.Module, ast.Expression))
    return tree


def _refuse_statement(text: str) -> None:
    try:
        statement = ast.parse(text, "<sandbox>", "exec").body[0]
    except (SyntaxError, ValueError, MemoryError, RecursionError, IndexError):
        return
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        raise SourceRefused(
            line=statement.lineno,
            construct="an import statement",
            reason="nothing is imported",
        ) from None


def _text(source: object) -> str:
    if type(source) in (bytes, bytearray):
        assert isinstance(source, (bytes, bytearray))
        if len(source) > 4 * MAX_CHARS:
            raise _too_long(len(source))
        try:
            source = bytes(source).decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceRefused(
                line=None, construct="the source", reason=f"it is not UTF-8: {error.reason}"
            ) from None
    if type(source) is not str:
        raise SourceRefused(
            line=None,
            construct=f"a {type(source).__name__} as source",
            reason="only text can be read before it runs; pass a str",
        )
    if len(source) > MAX_CHARS:
        raise _too_long(len(source))
    if "\0" in source:
        raise SourceRefused(line=None, construct="a NUL character", reason="it hides text")
    start = "\n".join(re.split(r"\r\n|\r|\n", source, maxsplit=2)[:2])
    for name in _COOKIE.findall(start):
        if re.sub(r"[^a-z]", "", name.lower()) not in _UTF8 or "7" in name or "16" in name:
            raise SourceRefused(
                line=1, construct=f"the encoding {name!r}", reason="source is read as UTF-8"
            )
    return source.removeprefix("\ufeff")


def _measure(tree: ast.AST) -> None:
    """Refuses a tree that would exhaust those who walk it: the compiler, and us."""
    nodes = 0
    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        depth += 1
        nodes += len(level)
        if depth > MAX_DEPTH:
            raise _too_deep()
        if nodes > MAX_NODES:
            raise SourceRefused(
                line=None,
                construct=f"a source of over {MAX_NODES:,} parts",
                reason="it is too long to judge; pass data as values instead of code",
            )
        level = [child for node in level for child in ast.iter_child_nodes(node)]


def _too_long(length: int) -> SourceRefused:
    return SourceRefused(
        line=None,
        construct=f"a source of {length:,} characters",
        reason=f"at most {MAX_CHARS:,} are read; pass data as values instead of code",
    )


def _too_deep() -> SourceRefused:
    return SourceRefused(
        line=None,
        construct=f"nesting deeper than {MAX_DEPTH} levels",
        reason="it cannot be judged safely; use intermediate names",
    )

"""Python's docstrings, from the source alone: nothing is imported or run."""

from __future__ import annotations

import ast
import gc
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import PurePath

from anabranch.errors import SourceError
from anabranch.rag.readers import text
from anabranch.rag.readers.pydoc import Entry, document, is_public
from anabranch.rag.types import Content, Document

_LONG_DEFAULT = 40
# Parsing warns about invalid escapes, which is for the author of the source to see. The
# filter names our own name for sources, so nobody else's warnings are touched; it stays,
# since taking it away would not be safe among threads.
_SOURCE = "<anabranch source>"
_filters = threading.Lock()
# Python keeps the depth of a tree under construction once for all threads, and fails if a
# collection of garbage lets another one in meanwhile that parses as well
# (python/cpython#106905). It need not be one of ours: printing a traceback parses.
_parser = threading.Lock()

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = ast.ClassDef | _Function


def documents(content: Content) -> Iterator[Document]:
    """A document for each docstring of the module, its classes and their functions.

    The id is the source's URI for the module itself and ``uri#qualified.name`` for the
    rest; the text is a signature, a blank line and the docstring. Private names are left
    out, special methods are not; of several definitions of one name the first that has a
    docstring counts. Metadata: ``title`` is the dotted name,
    ``kind`` is ``module``, ``class``, ``function`` or ``method``, ``line`` is a number.

    Raises:
        SourceError: It is not Python that this interpreter can read.
    """
    tree = _parse(content)
    module = _module_name(content)
    if doc := _docstring(tree):
        entry = Entry(name=module, kind="module", signature=module, doc=doc)
        yield document(content, "", entry, line=1)
    seen: set[str] = set()
    for name, kind, node in _definitions(tree.body, "", "function"):
        if name not in seen and (doc := _docstring(node)):
            seen.add(name)
            dotted = f"{module}.{name}"
            entry = Entry(
                name=dotted, kind=kind, signature=_signature(dotted, node), doc=doc
            )
            yield document(content, f"#{name}", entry, line=node.lineno)


def _parse(content: Content) -> ast.Module:
    try:
        return parse(text.held(content))
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        reason = f"is not Python that this interpreter reads: {error.msg}{where}"
        raise SourceError(content.uri, reason) from error
    except (ValueError, RecursionError, MemoryError) as error:
        reason = (
            f"is not Python that this interpreter reads: {str(error) or 'nested too deep'}"
        )
        raise SourceError(content.uri, reason) from error


def parse(source: bytes) -> ast.Module:
    """The syntax tree of a module, without warnings about its style.

    Raises:
        SyntaxError: It is not Python, or not in the encoding it declares.
        ValueError: It holds a NUL.
        RecursionError: It is nested too deep; a MemoryError in some versions.
    """
    _quieten()
    with _parser:
        collects = gc.isenabled()
        gc.disable()
        try:
            return ast.parse(source, _SOURCE)
        finally:
            if collects:
                gc.enable()


def defined(source: bytes) -> set[str]:
    """The names of the classes and functions a module defines."""
    return {name for name, _, _ in _definitions(parse(source).body, "", "function")}


def _quieten() -> None:
    pattern = re.escape(_SOURCE)
    with _filters:
        first = warnings.filters[0] if warnings.filters else None
        # Other filters may have been put before ours since: look at the first only.
        if first is None or getattr(first[3], "pattern", None) != pattern:
            warnings.filterwarnings("ignore", module=pattern)


def _module_name(content: Content) -> str:
    if isinstance(name := content.metadata.get("module"), str):
        return name
    path = PurePath(content.uri)
    return path.parent.name if path.stem == "__init__" else path.stem


def _docstring(node: ast.Module | _Definition) -> str:
    return (ast.get_docstring(node) or "").strip()


def _definitions(
    body: list[ast.stmt], prefix: str, kind: str
) -> Iterator[tuple[str, str, _Definition]]:
    """The public definitions, also those under a condition, in the source's order."""
    # Recursion is as deep as the parser allowed classes and conditions to be nested.
    for node in body:
        match node:
            case ast.ClassDef(name=name) if is_public(name):
                yield prefix + name, "class", node
                yield from _definitions(node.body, f"{prefix}{name}.", "method")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if is_public(name):
                    yield prefix + name, kind, node
            case ast.If() | ast.Try() | ast.With():
                for block in _blocks(node):
                    yield from _definitions(block, prefix, kind)
            case _:
                pass


def _blocks(node: ast.If | ast.Try | ast.With) -> Iterator[list[ast.stmt]]:
    yield node.body
    if isinstance(node, ast.Try):
        yield from (handler.body for handler in node.handlers)
    if not isinstance(node, ast.With):
        yield node.orelse
    if isinstance(node, ast.Try):
        yield node.finalbody


def _signature(dotted: str, node: _Definition) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(_unparse(base) for base in node.bases)
        return f"class {dotted}({bases})" if bases else f"class {dotted}"
    arguments = node.args
    arguments.defaults = [_shortened(default) for default in arguments.defaults]
    arguments.kw_defaults = [
        default and _shortened(default) for default in arguments.kw_defaults
    ]
    returns = f" -> {_unparse(node.returns)}" if node.returns else ""
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{prefix}{dotted}({_unparse(arguments)}){returns}"


def _shortened(default: ast.expr) -> ast.expr:
    return default if len(_unparse(default)) <= _LONG_DEFAULT else ast.Constant(...)


def _unparse(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except RecursionError:  # Deeper than the parser's own limit for an expression.
        return "..."

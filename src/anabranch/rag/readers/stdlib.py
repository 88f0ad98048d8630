"""The running Python's own library as sources: documentation that is on every machine.

Modules with source are found on disk and read as text, so that none of them runs. Those
written in C have their docstrings in the binary alone: they are imported, which does
nothing but make them, and written down in a format of ours (:data:`.media.PYDOC`).

Much of the library is a front to private modules: ``decimal`` to ``_decimal`` and ``os``
to ``posix``, both in C, ``concurrent.futures`` to ``concurrent.futures._base``. What is
behind a front is documented under the front's name, since that is what people ask about,
but is a source of its own.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import pkgutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ModuleSpec,
    PathFinder,
)
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, cast

from anabranch.errors import SourceError, UsageError
from anabranch.rag.readers import media
from anabranch.rag.readers._digest import digest
from anabranch.rag.readers.files import explain
from anabranch.rag.readers.pydoc import Entry, is_public
from anabranch.rag.readers.python import defined, parse
from anabranch.rag.types import Content

_SCHEME = "python:"

# Programs, tests and jokes rather than a library, wherever in it they are.
_NO_LIBRARY = frozenset(
    "__hello__ __phello__ _bundled antigravity idle_test idlelib lib2to3 pydoc_data test "
    "tests this turtledemo".split()
)
# Importing these warns that they will go, or writes to the terminal.
_NOT_IMPORTED = frozenset(
    "_crypt _imp _tkinter audioop nis ossaudiodev readline spwd".split()
)
_FRONTS = {
    "_collections_abc": "collections.abc",
    "_thread": "threading",
    "_threading_local": "threading",
    "nt": "os",
    "posix": "os",
}
"""Modules whose front has another name than theirs without the private part."""

_TOPICS = "pydoc_data.topics"
"""The language itself: what ``help("for")`` shows."""


class StandardLibrary:
    """The modules of the running Python's standard library.

    Iterating gives their URIs, such as ``python:json.decoder``, in order of their names
    and lazily; it is a Reader for them too. No module with source is imported by it, but
    for the fronts of modules in C when those are read. Private modules without a public
    front, tests, and the programs that come with the library are left out. The last
    source is what the library knows of the language itself, as ``help("for")`` shows it.

    Args:
        modules: Which modules, a package standing for all that is in it; all by default.

    Raises:
        UsageError: A name that is no module of the library.
    """

    DEMO: ClassVar[tuple[str, ...]] = tuple(
        (
            "argparse asyncio base64 bisect builtins collections concurrent contextlib "
            "copy csv dataclasses datetime fnmatch functools glob hashlib heapq html io "
            "itertools json logging math os pathlib pickle queue random re secrets shutil "
            "string struct subprocess tempfile textwrap threading time tomllib uuid"
        ).split()
    )
    """Well-known modules: enough documents to show something, few enough to embed soon."""

    def __init__(self, modules: Iterable[str] | None = None) -> None:
        self._modules = None if modules is None else tuple(modules)
        for name in self._modules or ():
            if next(_with_submodules(name), None) is None:
                raise UsageError(f"no module {name!r} in this Python's standard library")

    def __iter__(self) -> Iterator[str]:
        names: Iterable[str] | None = self._modules
        if names is None:
            names = sorted(filter(_is_wanted, sys.stdlib_module_names - _FRONTS.keys()))
        for name in names:
            for found in _with_submodules(name):
                yield _SCHEME + found
        if self._modules is None and _source(_TOPICS):
            yield _SCHEME + _TOPICS

    async def read(self, uri: str) -> Content:
        """The source of a module, or the docstrings of one that has none.

        Raises:
            SourceError: There is no such module here, or it cannot be imported.
        """
        return await asyncio.to_thread(self._read, uri)

    def _read(self, uri: str) -> Content:
        name = uri.removeprefix(_SCHEME)
        path = _source(name)
        if name == _TOPICS and path:
            data = _json(_topics(path))
            media_type = media.PYDOC
        elif path:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise SourceError(uri, explain(error)) from error
            media_type = media.DOCSTRINGS
        elif _is_binary(name):
            data = _json(_render(uri, name))
            media_type = media.PYDOC
        else:
            raise SourceError(uri, "no module of this Python: check the name")
        return Content(
            uri=uri,
            media_type=media_type,
            digest=digest(data),
            data=data,
            metadata={"module": _front(name)},
        )


def _is_wanted(name: str) -> bool:
    """Whether a module, by the last part of its name, is a public and useful one."""
    return name == "__future__" or not (name in _NO_LIBRARY or name.startswith("_"))


def _with_submodules(name: str) -> Iterator[str]:
    """A module if it is here, what it is the front of, and all that is in it."""
    if _source(name) or _is_binary(name):
        yield name
    if "." not in name:
        yield from _behind(name)
    spec = _spec(name)
    # Not None, which would mean every module there is.
    inside = (spec and spec.submodule_search_locations) or []
    for module in pkgutil.iter_modules(inside):
        last = module.name
        if last not in _NO_LIBRARY and not last.startswith("__"):
            yield from _with_submodules(f"{name}.{last}")


def _behind(name: str) -> Iterator[str]:
    """The private modules at the top whose front is ``name`` or is in it."""
    fronts = _FRONTS | {f"_{name}": name}
    for private, front in fronts.items():
        # A private module in Python beside its public one is the same again, slower.
        named = private in _FRONTS and _source(private)
        if front.partition(".")[0] == name and (named or _is_binary(private)):
            yield private


def _front(name: str) -> str:
    """The name under which people know what is in a module."""
    if name in _FRONTS:
        return _FRONTS[name]
    if "." not in name:
        return name if name == "__future__" else name.lstrip("_")
    return ".".join(part for part in name.split(".") if not part.startswith("_"))


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, found without importing it or the package it is in."""
    path: list[str] | None = _library() if _is_dotted(name) else None
    spec = None
    for part in name.split("."):
        # Only the library's own folders are searched: a json.py in the working folder
        # is not Python's.
        spec = PathFinder.find_spec(part, path) if path else None
        path = list(spec.submodule_search_locations or ()) if spec else None
    return spec


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


@cache
def _library() -> list[str]:
    """The folders of the library itself, without what was installed beside it."""
    paths = (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        sysconfig.get_config_var("DESTSHARED"),
    )
    return [str(path) for path in dict.fromkeys(paths) if path]


def _source(name: str) -> Path | None:
    spec = _spec(name)
    origin = (spec and spec.origin) or ""
    return Path(origin) if origin.endswith(tuple(SOURCE_SUFFIXES)) else None


def _is_binary(name: str) -> bool:
    """Whether a module is written in C, and harmless to import."""
    if name in _NOT_IMPORTED:
        return False
    if name in sys.builtin_module_names:
        return True
    spec = _spec(name) if name in sys.stdlib_module_names else None
    return bool(spec and spec.origin and spec.origin.endswith(tuple(EXTENSION_SUFFIXES)))


def _json(entries: list[Entry]) -> bytes:
    return json.dumps(entries, ensure_ascii=False).encode()


def _topics(path: Path) -> list[Entry]:
    """The chapters on the language, which the library keeps as one dict of texts."""
    for node in parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign):
            topics = cast("dict[str, str]", ast.literal_eval(node.value))
            return [
                Entry(name=name, kind="topic", signature=name, doc=doc.strip())
                for name, doc in topics.items()
            ]
    return []


def _render(uri: str, name: str) -> list[Entry]:
    front = _front(name)
    try:
        module = import_module(name)
        facade = import_module(front)
    except ImportError as error:
        raise SourceError(uri, f"cannot be imported: {error}") from error
    own = inspect.getdoc(module) if front == name else None
    entries = [Entry(name=name, kind="module", signature=name, doc=own)] if own else []
    entries.extend(_members(module, facade))
    return entries


def _members(module: ModuleType, facade: ModuleType) -> Iterator[Entry]:
    """What the front passes on of a module, under the front's name."""
    path = _source(facade.__name__) if facade is not module else None
    # What the front defines in Python too, as what to do without C, is documented there.
    documented = defined(path.read_bytes()) if path else set[str]()
    # Nobody writes builtins.len.
    prefix = "" if module.__name__ == "builtins" else f"{facade.__name__}."
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or getattr(facade, name, None) is not value:
            continue
        if name in documented:
            continue
        if inspect.isclass(value):
            yield from _described(prefix + name, "class", value)
            for member, described in sorted(vars(value).items()):
                if is_public(member) and _is_own(member, described):
                    yield from _described(f"{prefix}{name}.{member}", "method", described)
        elif inspect.isroutine(value):
            yield from _described(prefix + name, "function", value)


# Any: what is in a module or class may be anything.
def _is_own(name: str, value: Any) -> bool:
    """Whether a class's member says something that not every object's says."""
    if not (inspect.isroutine(value) or inspect.isdatadescriptor(value)):
        return False
    everyones = getattr(type, name, None)
    return getattr(everyones, "__doc__", None) != value.__doc__


def _described(name: str, kind: str, value: Any) -> Iterator[Entry]:
    # Not getdoc(), which would repeat an inherited docstring at each heir.
    doc = getattr(value, "__doc__", None)
    if isinstance(doc, str) and doc.strip():
        keyword = "class " if kind == "class" else ""
        signature = f"{keyword}{name}{_signature(value)}"
        yield Entry(name=name, kind=kind, signature=signature, doc=inspect.cleandoc(doc))


def _signature(value: Callable[..., object]) -> str:
    try:
        return str(inspect.signature(value))
    except Exception:  # Evaluating a C function's default may fail in any way.
        return "(...)"

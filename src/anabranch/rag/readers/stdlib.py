"""The running Python's own library as sources: documentation that is on every machine.

Modules with source are found on disk and read as text, so that none of them runs. Those
written in C have their docstrings in the binary alone: they are imported, which does
nothing but make them, and written down in a format of ours (:data:`.media.PYDOC`).

Much of the library's Python is a front to a private module in C: ``decimal`` to
``_decimal``, ``os`` to ``posix``. What a front passes on is documented under the
front's name, since that is what people ask about, but in a source of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ModuleSpec,
    PathFinder,
)
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from anabranch.errors import SourceError, UsageError
from anabranch.rag.readers import media
from anabranch.rag.readers._digest import digest
from anabranch.rag.readers.files import explain
from anabranch.rag.readers.pydoc import Entry
from anabranch.rag.types import Content

_SCHEME = "python:"

# Programs, tests and jokes rather than a library, wherever in it they are.
_NO_LIBRARY = frozenset(
    "__hello__ __phello__ antigravity idle_test idlelib lib2to3 pydoc_data test tests "
    "this turtledemo".split()
)
# Importing these warns that they will go, or writes to the terminal.
_NOT_IMPORTED = frozenset(
    "_crypt _imp _tkinter audioop nis ossaudiodev readline spwd".split()
)
_FRONTS = {"_thread": "threading", "nt": "os", "posix": "os"}
"""Modules in C whose front has another name than theirs without the underscore."""

_BEHIND = {
    front: [name for name, of in _FRONTS.items() if of == front]
    for front in _FRONTS.values()
}
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class StandardLibrary:
    """The modules of the running Python's standard library.

    Iterating gives their URIs, such as ``python:json.decoder``, in order of their names
    and lazily; it is a Reader for them too. No module with source is imported by it, but
    for the fronts of modules in C when those are read. Private modules, tests, and the
    programs that come with the library are left out.

    Args:
        modules: Which modules, a package standing for all that is in it; all by default.

    Raises:
        UsageError: A name that is no module of the library.
    """

    DEMO: ClassVar[tuple[str, ...]] = (
        "asyncio",
        "collections",
        "itertools",
        "json",
        "logging",
        "pathlib",
    )
    """Well-known modules: enough documents to show something, few enough to embed soon."""

    def __init__(self, modules: Iterable[str] | None = None) -> None:
        self._modules = None if modules is None else tuple(modules)
        for name in self._modules or ():
            if name.partition(".")[0] not in sys.stdlib_module_names:
                raise UsageError(f"no module {name!r} in Python's standard library")

    def __iter__(self) -> Iterator[str]:
        names = self._modules
        if names is None:
            names = sorted(filter(_is_wanted, sys.stdlib_module_names - _FRONTS.keys()))
        for name in names:
            for found in _with_submodules(name):
                yield _SCHEME + found

    async def read(self, uri: str) -> Content:
        """The source of a module, or the docstrings of one that has none.

        Raises:
            SourceError: There is no such module here, or it cannot be imported.
        """
        return await asyncio.to_thread(self._read, uri)

    def _read(self, uri: str) -> Content:
        name = uri.removeprefix(_SCHEME)
        path = _source(name)
        if path:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise SourceError(uri, explain(error)) from error
            media_type = media.PYTHON
        elif _is_binary(name):
            data = json.dumps(_render(uri, name), ensure_ascii=False).encode()
            media_type = media.PYDOC
        else:
            raise SourceError(uri, "no module of this Python: check the name")
        return Content(
            uri=uri,
            media_type=media_type,
            digest=digest(data),
            data=data,
            metadata={"module": name},
        )


def _is_wanted(name: str) -> bool:
    """Whether the last part of a module's name is that of a public, useful one."""
    last = name.rpartition(".")[2]
    return last not in _NO_LIBRARY and (last == "__future__" or not last.startswith("_"))


def _with_submodules(name: str) -> Iterator[str]:
    """A module if it is here, what it is the front of, and all that is in it."""
    if _source(name) or _is_binary(name):
        yield name
    if "." not in name:
        yield from filter(_is_binary, (f"_{name}", *_BEHIND.get(name, ())))
    spec = _spec(name)
    for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else []):
        if _is_wanted(module.name):
            yield from _with_submodules(f"{name}.{module.name}")


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, found without importing it or the package it is in."""
    path: list[str] | None = _library()
    spec = None
    for part in name.split("."):
        # Only the library's own folders are searched: a json.py in the working folder
        # is not Python's.
        spec = PathFinder.find_spec(part, path) if path else None
        path = list(spec.submodule_search_locations or ()) if spec else None
    return spec


def _library() -> list[str]:
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


def _render(uri: str, name: str) -> list[Entry]:
    front = _FRONTS.get(name, name.lstrip("_"))
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
    # Nobody writes builtins.len.
    prefix = "" if module.__name__ == "builtins" else f"{facade.__name__}."
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or getattr(facade, name, None) is not value:
            continue
        if inspect.isclass(value):
            yield from _described(prefix + name, "class", value)
            for method, function in sorted(vars(value).items()):
                if not method.startswith("_") and callable(getattr(value, method, None)):
                    dotted = f"{prefix}{name}.{method}"
                    yield from _described(dotted, "method", function)
        elif inspect.isroutine(value):
            yield from _described(prefix + name, "function", value)


# Any: the members of a module may be anything.
def _described(name: str, kind: str, value: Any) -> Iterator[Entry]:
    # Not getdoc(), which would repeat an inherited docstring at each heir.
    doc = getattr(value, "__doc__", None)
    if isinstance(doc, str) and doc.strip():
        keyword = "class " if kind == "class" else ""
        signature = f"{keyword}{name}{_signature(value)}"
        yield Entry(name=name, kind=kind, signature=signature, doc=inspect.cleandoc(doc))


def _signature(value: Callable[..., object]) -> str:
    try:
        # An address would make the digest another one each time.
        return _ADDRESS.sub("", str(inspect.signature(value)))
    except Exception:  # Evaluating a C function's default may fail in any way.
        return "(...)"

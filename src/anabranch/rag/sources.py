"""Everything that can be named as a source: paths, URLs and the standard library."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from types import TracebackType
from typing import Self

from anabranch.errors import SourceError, UsageError
from anabranch.rag import plan
from anabranch.rag.readers import FileReader, StandardLibrary, Walk, WebReader, find
from anabranch.rag.readers.files import is_reached
from anabranch.rag.types import Content, Fields, Reader
from anabranch.rag.web.urls import host_and_port, normalise

# Names found in one turn of a thread.
FOUND_AT_ONCE = 64

PYTHON = "python:"


class Sources:
    """The sources behind some names, and a reader for all of them.

    A name is a file, a folder (everything readable in it), an ``http(s)`` URL,
    ``python:MODULE`` for a module of the running Python's standard library, or
    ``python:`` for all of it. Use it as an async context manager.

    Args:
        names: The names.
        allow_private: Hosts of URLs that need not be on the public internet, or True for
            all: see :class:`~anabranch.rag.WebReader`.
        fields: Which fields of tables, JSON and JSON lines are text and which metadata.

    Raises:
        UsageError: A name is empty, or a URL of another kind.
    """

    def __init__(
        self,
        names: Sequence[str | os.PathLike[str]],
        *,
        allow_private: bool | Collection[str] = False,
        fields: Fields | None = None,
    ) -> None:
        texts = [os.fspath(name) for name in names]
        for name in texts:
            if not name:
                raise UsageError("a source's name is empty: give a file, a folder or a URL")
            scheme, separator, _ = name.partition("://")
            if separator and scheme.lower() not in ("http", "https"):
                raise UsageError(
                    f"{name}: {scheme}:// is not a kind of source: give a file, a folder, "
                    "or a URL with http:// or https://"
                )
        self._urls = list(dict.fromkeys(name for name in texts if "://" in name))
        modules = [name for name in texts if name.startswith(PYTHON)]
        wanted = [name.removeprefix(PYTHON) for name in modules]
        self._modules = [StandardLibrary([name] if name else None) for name in wanted]
        known = {*self._urls, *modules}
        self._paths = [name for name in texts if name not in known]
        self._walk: Walk | None = None
        self._files = FileReader(fields=fields)
        self._library = StandardLibrary()
        self._allow_private = allow_private
        self._web: Reader | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._urls:
            self._web = await self._open.enter_async_context(
                WebReader(allow_private=self._allow_private)
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    def __aiter__(self) -> AsyncIterator[str | SourceError]:
        """Every source once, in order; an error for what cannot be found."""
        return self._found()

    async def _found(self) -> AsyncIterator[str | SourceError]:
        self._walk = find(self._paths)
        found = self._names(self._walk)
        while some := await asyncio.to_thread(lambda: list(islice(found, FOUND_AT_ONCE))):
            for name in some:
                yield name

    async def count(self) -> int:
        """How many there are now."""
        return await asyncio.to_thread(
            lambda: sum(1 for _ in self._names(find(self._paths)))
        )

    @property
    def paths(self) -> Sequence[str]:
        """Those names that are files and folders, as they were given."""
        return tuple(self._paths)

    @property
    def skipped(self) -> int:
        """Files of other kinds, and links out, passed over in folders so far."""
        return 0 if self._walk is None else self._walk.skipped

    async def read(self, uri: str) -> Content:
        """The content of any of the sources.

        Raises:
            SourceError: It cannot be read.
        """
        if uri.startswith(PYTHON):
            return await self._library.read(uri)
        if "://" in uri and self._web is not None:
            return await self._web.read(uri)
        return await self._files.read(uri)

    def is_gone(self, uri: str) -> bool:
        """Whether a stored source belongs to these and has ceased to exist.

        What only a link that leads out of them reaches is as good as gone.
        """
        paths = [os.path.abspath(path) for path in self._paths]
        is_there = os.path.lexists(uri) and is_reached(uri, paths)
        return not is_there and plan.is_known_gone(
            uri,
            named=paths,
            folders=[path for path in paths if os.path.isdir(path)],
            unlisted=[] if self._walk is None else self._walk.unlisted,
        )

    def _names(self, walk: Iterable[str | SourceError]) -> Iterator[str | SourceError]:
        yield from self._urls
        for modules in self._modules:
            yield from modules
        yield from walk


def hosts_of(names: Iterable[str]) -> list[str]:
    """The hosts, each with its port, of the URLs among some names of sources."""
    found: list[str] = []
    for name in names:
        try:
            host, port = host_and_port(normalise(name))
        except ValueError:
            continue  # no URL, or a wrong one, of which is told when it is read
        found.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return found

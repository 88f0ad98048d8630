"""Sources and a reader of ours around loaders of theirs."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar, cast

from anabranch.errors import AnabranchError, SourceError
from anabranch.rag.adapters.calls import Calls
from anabranch.rag.readers import media
from anabranch.rag.readers._digest import digest
from anabranch.rag.types import Content, Metadata

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document of theirs.

    Attributes:
        name: The same on every run, as far as can be.
        text: All of it.
        metadata: As ours.
    """

    name: str
    text: str
    metadata: Metadata


class LoadedSources:
    """The documents of a loader as sources: their names when iterated, and their reader.

    Give it to a pipeline as both: ``Pipeline(reader=sources, ...).run(sources)``. A
    document is held from when it is named until it is read. What comes twice under one
    name has ``#2``, ``#3`` behind it. When the loader fails, what came before stands, and
    the last thing named is a :class:`~anabranch.errors.SourceError`.
    """

    def __init__(self, load: Callable[[], AsyncGenerator[Loaded]], *, who: str) -> None:
        self._load = load
        self._who = who
        self._held: dict[str, Loaded] = {}

    def __aiter__(self) -> AsyncIterator[str | SourceError]:
        return self._names()

    async def read(self, uri: str) -> Content:
        """The document of this name, once.

        Raises:
            SourceError: It was not named, or was read already.
        """
        loaded = self._held.pop(uri, None)
        if loaded is None:
            raise SourceError(
                uri, "is not among what was loaded, or was read already: iterate anew"
            )
        return content_of(uri, [loaded])

    async def _names(self) -> AsyncIterator[str | SourceError]:
        seen: Counter[str] = Counter()
        try:
            async with aclosing(self._load()) as documents:
                async for loaded in documents:
                    seen[loaded.name] += 1
                    count = seen[loaded.name]
                    name = loaded.name if count == 1 else f"{loaded.name}#{count}"
                    self._held[name] = loaded
                    yield name
        except Exception as error:
            yield _failed(self._who, error)


class LoadedReader:
    """A :class:`~anabranch.rag.Reader` that loads a source by a function of its name.

    Several documents of one source become one text, with blank lines between them and
    the metadata that they share.
    """

    def __init__(self, load: Callable[[str], Awaitable[Sequence[Loaded]]]) -> None:
        self._load = load

    async def read(self, uri: str) -> Content:
        """What the function gives for this name.

        Raises:
            SourceError: It failed.
        """
        try:
            loaded = await self._load(uri)
        except Exception as error:
            raise _failed(uri, error) from error
        return content_of(uri, loaded)


def loading(
    load: Callable[[str], Sequence[T]] | Callable[[str], Awaitable[Sequence[T]]],
    taken: Callable[[Sequence[T]], Sequence[Loaded]],
    *,
    concurrency: int,
) -> LoadedReader:
    """A reader by a function of theirs: in a thread, or awaited if it is a coroutine's.

    Args:
        load: Given a source's name, its documents.
        taken: What these are to us.
        concurrency: Sources that are loaded at once.
    """
    calls = Calls(concurrency)
    is_coroutine = inspect.iscoroutinefunction(load)

    async def documents(uri: str) -> Sequence[Loaded]:
        if is_coroutine:
            awaited = cast("Callable[[str], Awaitable[Sequence[T]]]", load)
            return taken(await calls.awaited(awaited, uri))
        return taken(await calls.threaded(cast("Callable[[str], Sequence[T]]", load), uri))

    return LoadedReader(documents)


def content_of(uri: str, loaded: Sequence[Loaded]) -> Content:
    """The content of a source that came as documents."""
    text = "\n\n".join(document.text for document in loaded)
    metadata = _shared([document.metadata for document in loaded])
    data = text.encode("utf-8", "replace")
    facts = json.dumps(metadata, sort_keys=True).encode()
    return Content(
        uri=uri,
        media_type=media.TEXT,
        # What it says about itself is stored too: a change of it is a change.
        digest=digest(digest(data).encode() + facts),
        data=data,
        charset="utf-8",
        metadata=metadata,
    )


def _shared(all_metadata: Sequence[Metadata]) -> Metadata:
    first, *others = all_metadata or [{}]
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }


def _failed(uri: str, error: Exception) -> SourceError:
    if isinstance(error, SourceError):
        return error
    if isinstance(error, AnabranchError):
        return SourceError(uri, str(error))
    made = SourceError(uri, f"cannot be loaded ({type(error).__name__}: {error})")
    made.__cause__ = error
    return made

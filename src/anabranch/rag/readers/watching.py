"""Files and folders watched for changes.

What must hold: a change is never lost between two looks. So the watch stands before
anybody walks the folders, and what it sees is kept until somebody asks. The operating
system tells of names, not of contents, late and twice; of a folder that is moved in it
tells the folder alone. So a change is only a path to look at again, with all that is in it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Self

from anabranch.errors import SourceError, UsageError
from anabranch.rag.readers import media
from anabranch.rag.readers.files import Walk, explain, find, is_reached, named, printable

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

# Where one change follows the other without end, they are told of after so many times the
# time that there should be quiet.
_AT_MOST = 10


@dataclass(frozen=True, slots=True)
class Changes:
    """Where something has changed, or may have.

    Attributes:
        paths: Files and folders that came, changed or went; all that is in such a folder
            is to be looked at.
    """

    paths: frozenset[str]
    _kinds: tuple[str, ...] = media.FOUND
    _watched: tuple[str, ...] = ()

    def found(self) -> Iterator[str | SourceError]:
        """The URI of each file that is there now. It blocks: iterate it in a thread."""
        reached = {path for path in self.paths if is_reached(path, self._watched)}
        # Links may lead anywhere in what is watched, not only in the folder that changed.
        walk = Walk(
            sorted(filter(os.path.isdir, reached)),
            kinds=self._kinds,
            follows=lambda path, around: is_reached(path, self._watched or around),
        )
        inside: set[str] = set()
        for found in walk:
            inside.add(found if isinstance(found, str) else found.uri)
            yield found
        for path in sorted(reached - inside):
            if Path(path).is_file():
                yield named(path)

    def are_files(self) -> bool:
        """Whether each path is a file, or was one by its name. It blocks."""
        return all(
            media.of_name(path) is not None and not Path(path).is_dir()
            for path in self.paths
        )

    def touch(self, uri: str) -> bool:
        """Whether a source is one of the paths or in one of them."""
        return uri in self.paths or not self.paths.isdisjoint(
            str(parent) for parent in PurePath(uri).parents
        )


class Watch:
    """Changes of files and folders, from ``async with`` on, as an async iterator.

    Whatever changes after the block was entered is told of, at once or when somebody asks
    next: so enter it, walk the folders, then iterate. Nothing is lost when a wait for
    the next changes is cancelled. Files of other kinds, hidden names and what only a link
    out of the folder leads to are passed over, as :func:`find` does; a file that is named
    is watched by its name, so that it may be replaced by another, as editors do.

    What the operating system does not tell is not known: changes of a network's file
    system by another machine, and in more folders than it watches at once (Linux:
    ``fs.inotify.max_user_watches``). Walk the folders again every now and then.

    Args:
        paths: Files and folders; each must be there.
        kinds: Which kinds of file in folders, as for :func:`find`.
        settle: Seconds of quiet after which changes are told of; while there is none, ten
            times as long.
        poll: Look at every file each so many seconds instead of asking the operating
            system: for file systems where it does not know.

    Raises:
        UsageError: A value cannot be meant.
        SourceError: A path is not there or cannot be watched; when the block is entered.
        ImportError: watchfiles is not installed; when the block is entered.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        kinds: Collection[str] = media.FOUND,
        settle: float = 0.2,
        poll: float | None = None,
    ) -> None:
        for name, value in (("settle", settle), ("poll", poll)):
            if value is not None and not 0.001 <= value <= 3600:
                raise UsageError(f"{name} is {value} seconds: give 0.001 to 3600")
        find((), kinds=kinds)  # says which kinds there are
        self._paths = [os.path.abspath(path) for path in paths]
        self._kinds = tuple(kinds)
        self._settle_ms = max(1, round(settle * 1000))
        self._poll_ms = None if poll is None else max(1, round(poll * 1000))
        self._files: frozenset[str] = frozenset()
        self._folders: tuple[str, ...] = ()
        self._stop = threading.Event()
        self._notifiers: list[RustNotify] = []
        self._waiting: dict[asyncio.Future[set[str]], RustNotify] = {}
        self._threads: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="anabranch-watch")
        loop = asyncio.get_running_loop()
        try:
            # In a thread: it looks into every folder.
            await loop.run_in_executor(self._threads, self._begin)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Changes:
        """The next changes, after some quiet; it ends with the block alone."""
        if self._threads is None:
            raise UsageError("a watch is open inside 'async with' only")
        loop = asyncio.get_running_loop()
        while True:
            for notifier in self._notifiers:
                if notifier not in self._waiting.values():
                    # An executor's future is not cancelled with who waits for it below.
                    waiting = loop.run_in_executor(self._threads, self._wait, notifier)
                    self._waiting[waiting] = notifier
            if not self._waiting:
                raise StopAsyncIteration
            done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
            paths: set[str] = set()
            # From here to the end nothing awaits that could be cancelled and lose them.
            for each in done:
                del self._waiting[each]
                paths |= each.result()
            if paths:
                return Changes(frozenset(paths), self._kinds, tuple(self._paths))

    def _begin(self) -> None:
        try:
            from watchfiles._rust_notify import RustNotify
        except ModuleNotFoundError as error:
            raise ImportError(
                "watching needs watchfiles: pip install 'anabranch[watch]'"
            ) from error
        for path in self._paths:
            try:
                Path(path).stat()
            except (OSError, ValueError) as error:
                raise SourceError(printable(path), explain(error)) from error
        self._folders = tuple(filter(os.path.isdir, self._paths))
        self._files = frozenset(self._paths) - frozenset(self._folders)
        parents = {str(Path(path).parent) for path in self._files}
        for paths, recursive in ((self._folders, True), (sorted(parents), False)):
            if not paths:
                continue
            try:
                notifier = RustNotify(
                    list(paths),
                    False,  # says nothing of its own
                    self._poll_ms is not None,
                    self._poll_ms or 300,
                    recursive,
                    True,  # what may not be read is told of by the walk
                )
            except (OSError, RuntimeError) as error:
                raise SourceError(
                    ", ".join(map(printable, paths)),
                    f"cannot be watched ({error}): on Linux fs.inotify.max_user_watches "
                    "limits the number of folders; poll= needs none",
                ) from error
            self._notifiers.append(notifier)

    def _wait(self, notifier: RustNotify) -> set[str]:
        """In a thread: the next paths that changed; none at the end."""
        try:
            found = notifier.watch(
                self._settle_ms * _AT_MOST, self._settle_ms, 0, self._stop
            )
        except RuntimeError as error:
            raise SourceError(
                ", ".join(map(printable, self._paths)),
                f"can no longer be watched ({error}): start again",
            ) from error
        if isinstance(found, str):
            return set()
        return {path for _, path in found if self._is_wanted(path)}

    async def _end(self) -> None:
        self._stop.set()
        threads, self._threads = self._threads, None
        if threads is None:
            return
        # Each thread sees within one settling time that it is over.
        await asyncio.to_thread(threads.shutdown)
        for each in self._waiting:
            await asyncio.wait([each])
            each.exception()
        self._waiting.clear()
        while self._notifiers:
            self._notifiers.pop().close()

    def _is_wanted(self, path: str) -> bool:
        if path in self._files:
            return True
        for folder in self._folders:
            if path == folder:
                return True
            if path.startswith(folder.rstrip(os.sep) + os.sep):
                inner = PurePath(path).relative_to(folder)
                if not any(part.startswith(".") for part in inner.parts):
                    return self._is_kind(path)
        return False

    def _is_kind(self, path: str) -> bool:
        """Of a kind that is read, or a folder, or what may have been one."""
        types = {each for kind in self._kinds for each in media.KINDS[kind]}
        return media.of_name(path) in types or not Path(path).is_file()

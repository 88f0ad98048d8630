"""Files and folders: finding what can be read, and reading it.

A file's URI is its absolute path as it was reached: links are not resolved, so the name
in the index is the one its user knows.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from anabranch.errors import SourceError, UsageError
from anabranch.rag.readers import media
from anabranch.rag.readers._digest import combined, hasher
from anabranch.rag.types import Content, Fields

MIB = 1 << 20
HELD_BYTES = 8 * MIB
"""A text-like file above this is handed on as its path, and read piece by piece."""


def find(
    paths: Iterable[str | os.PathLike[str]],
    *,
    kinds: Collection[str] = media.FOUND,
    follow_links: bool = False,
) -> Walk:
    """The files under some paths, found while they are asked for.

    Args:
        paths: Files and folders. A file named here is taken whatever its suffix, and a
            link named here is followed wherever it leads.
        kinds: Which kinds to take from folders, of :data:`~anabranch.rag.readers.KINDS`;
            by default all but ``json``, which is settings more often than text.
        follow_links: Whether links in a folder are followed where they lead out of it:
            by default they are passed over, since whoever may write into a folder could
            otherwise have any file of this machine read.

    Raises:
        UsageError: A kind that does not exist.
    """
    return Walk(paths, kinds=kinds, follows=_always if follow_links else is_reached)


class Walk:
    """One walk over files and folders.

    Iterating yields the URI of each file, and a :class:`~anabranch.errors.SourceError`
    as a value for what cannot be walked; the walk goes on. Within a folder the order is
    that of the names, files and folders mixed; the same files give the same order.
    Hidden names are passed over, and so are links that lead out of the folder that was
    named. Other links are followed, but no folder is walked twice and no file is given
    twice, so a loop of links ends. Memory grows with the number of folders, of links that
    lead out, and of entries in the largest folder, not with the number of files.

    Args:
        paths: As for :func:`find`, and so is ``kinds``.
        follows: Whether a link in a folder is followed: it is called with the path of the
            link, and with the folders, of which there is one, that were named.

    Attributes:
        skipped: How many files were passed over as being of other kinds, so far, and
            links as leading out.
        unlisted: Folders that could not be listed, so far: what is in them is unknown,
            which is not the same as gone.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        kinds: Collection[str] = media.FOUND,
        follows: Callable[[str, Collection[str]], bool] | None = None,
    ) -> None:
        for kind in kinds:
            if kind not in media.KINDS:
                raise UsageError(
                    f"no kind {kind!r} of file: choose from {', '.join(media.KINDS)}"
                )
        self.skipped = 0
        self.unlisted: list[str] = []
        self._paths = paths
        self._types = {each for kind in kinds for each in media.KINDS[kind]}
        self._follows = follows or is_reached
        self._named: set[str] = set()
        self._passed: set[str] = set()
        self._walked: set[tuple[int, int]] = set()
        self._walked_paths: set[str] = set()
        self._iterator = self._walk()

    def __iter__(self) -> Iterator[str | SourceError]:
        return self._iterator

    def _walk(self) -> Iterator[str | SourceError]:
        for path in self._paths:
            # Not resolve(): links stay as they were named.
            uri = os.path.abspath(path)
            try:
                mode = Path(uri).stat().st_mode
            except (OSError, ValueError) as error:
                yield SourceError(printable(uri), explain(error))
                continue
            if stat.S_ISDIR(mode):
                yield from self._folder(uri)
            elif uri not in self._named and not self._was_found(uri):
                self._named.add(uri)
                yield named(uri)

    def _was_found(self, uri: str) -> bool:
        folder, name = os.path.split(uri)
        return (
            folder in self._walked_paths
            and uri not in self._passed
            and not name.startswith(".")
            and media.of_name(name) in self._types
        )

    def _folder(self, root: str) -> Iterator[str | SourceError]:
        # A stack instead of recursion: a tree may be deeper than Python's limit.
        stack = [self._entries(root, root)]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
            elif isinstance(found, os.DirEntry):
                stack.append(self._entries(found.path, root))
            else:
                yield found

    def _entries(
        self, folder: str, root: str
    ) -> Iterator[str | SourceError | os.DirEntry[str]]:
        """The files of one folder, and the folders in it, by name."""
        try:
            status = Path(folder).stat()
            identity = (status.st_dev, status.st_ino)
            if identity in self._walked:
                return
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            self.unlisted.append(folder)
            yield SourceError(printable(folder), f"cannot be listed: {explain(error)}")
            return
        self._walked.add(identity)
        self._walked_paths.add(folder)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not self._follows(entry.path, [root]):
                self._passed.add(entry.path)
                self.skipped += 1
            elif is_folder(entry):
                yield entry
            elif media.of_name(entry.name) not in self._types:
                self.skipped += 1
            elif entry.path not in self._named:
                yield from self._file(entry)

    def _file(self, entry: os.DirEntry[str]) -> Iterator[str | SourceError]:
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            yield SourceError(printable(entry.path), explain(error))
        else:
            if stat.S_ISREG(mode):
                yield named(entry.path)
            else:  # A socket or pipe is of another kind, whatever its name says.
                self.skipped += 1


class FileReader:
    """Reads files.

    Never holds more than ``max_bytes`` of one file, never waits for a pipe or device,
    and keeps its blocking work off the event loop. Plain text, Markdown,
    reStructuredText, source code, tables and JSON lines above 8 MiB are given as their
    path, to be read piece by piece: those may be of any size.

    Args:
        max_bytes: The largest HTML, PDF, DOCX or JSON file to read.
        fields: Which fields of tables, JSON and JSON lines are text and which metadata.
    """

    def __init__(self, max_bytes: int = 64 * MIB, *, fields: Fields | None = None) -> None:
        if max_bytes < 1:
            raise UsageError(f"max_bytes is {max_bytes}: it must be at least 1")
        self.max_bytes = max_bytes
        self.fields = fields

    async def read(self, uri: str) -> Content:
        """The content of the file whose path is ``uri``.

        Raises:
            SourceError: It is missing, unreadable, too large or not a regular file.
        """
        return await asyncio.to_thread(self._read, uri)

    def _read(self, uri: str) -> Content:
        # A name of unknown kind was given on purpose: try it as text.
        media_type = media.of_name(uri) or media.TEXT
        try:
            with open_regular(uri) as file:
                data, digest = self._hold(uri, media_type, file)
        except (OSError, ValueError) as error:
            raise SourceError(printable(uri), explain(error)) from error
        fields = self.fields if media_type in media.RECORDS else None
        return Content(
            uri=uri,
            media_type=media_type,
            digest=combined(digest, fields),
            data=data,
            fields=fields,
        )

    def _hold(self, uri: str, media_type: str, file: BinaryIO) -> tuple[bytes | Path, str]:
        """The bytes, or the path of what is too much to hold, and the digest."""
        streamable = media_type in media.STREAMABLE
        limit = HELD_BYTES if streamable else self.max_bytes
        if not streamable:
            self._refuse_above(uri, os.fstat(file.fileno()).st_size)
        running = hasher()
        pieces: list[bytes] = []
        size = 0
        # Count what is read, rather than trust the size: a file may grow meanwhile.
        while piece := file.read(MIB):
            running.update(piece)
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
            elif streamable:
                pieces.clear()
            else:
                self._refuse_above(uri, size)
        data = b"".join(pieces) if size <= limit else Path(uri)
        return data, running.hexdigest()

    def _refuse_above(self, uri: str, size: int) -> None:
        if size > self.max_bytes:
            raise SourceError(
                uri,
                f"is {megabytes(size)}, above the limit of {megabytes(self.max_bytes)}: "
                "split it, or raise max_bytes",
            )


def open_regular(path: str | Path) -> BinaryIO:
    """The file opened for reading; refuses what is not a regular file, without waiting.

    Raises:
        ValueError: It is a pipe, a socket or a device: the message says which.
        OSError: It cannot be opened.
    """
    # Look before opening, since opening some devices does something; open without
    # blocking and look again, since it may have been replaced by a pipe in between.
    require_regular(Path(path).stat().st_mode)
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        require_regular(os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def require_regular(mode: int) -> None:
    """Raise what :func:`open_regular` does unless a file of this mode is regular."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))
        kind = next((name for test, name in kinds if test(mode)), "device")
        raise ValueError(f"is a {kind}, not a file: give the path of a file")


def is_reached(path: str, named: Collection[str]) -> bool:
    """Whether a path leads, by its links, to a place within what was named around it.

    What was named is reached itself, and so is a path that nothing named is around.
    Absolute paths.
    """
    around = [each for each in named if _is_within(path, each)]
    if not around:
        return True
    place = os.path.realpath(path)
    return any(_is_within(place, os.path.realpath(each)) for each in around)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _always(_path: str, _named: Collection[str]) -> bool:
    return True


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; not, if that cannot be told."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def named(path: str) -> str | SourceError:
    """``path``, unless its name cannot be written down."""
    if printable(path) == path:
        return path
    return SourceError(
        printable(path), "its name is not valid UTF-8, so no index can hold it: rename it"
    )


def printable(path: str) -> str:
    r"""``path`` with the bytes that are not UTF-8 written as ``\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def megabytes(size: int) -> str:
    """A size in bytes, for people."""
    return f"{size / MIB:,.1f} MiB" if size >= MIB / 10 else f"{size:,} bytes"


def explain(error: OSError | ValueError) -> str:
    """What a failure of the file system means, for a person."""
    match error:
        case FileNotFoundError():
            return "there is no such file or folder: check the path"
        case PermissionError():
            return "permission denied: make it readable for this user, or leave it out"
        case IsADirectoryError():
            return "is a folder, not a file: find() gives the files in it"
        case NotADirectoryError():
            return "a part of the path is a file, not a folder: check the path"
        case OSError(strerror=str(text)):
            return f"cannot be read: {text[:1].lower()}{text[1:]}"
        case ValueError() if "null" in str(error):
            return "the path holds a NUL character: check the path"
        case _:
            return str(error)

"""Pages that are empty without a browser."""

from __future__ import annotations

import os
from collections.abc import Collection
from types import TracebackType
from typing import Self, TypedDict, Unpack

from anabranch.clock import Clock
from anabranch.rag.readers.files import MIB
from anabranch.rag.readers.web import WebReader
from anabranch.rag.web.browser import Browser
from anabranch.rag.web.cache import HttpCache
from anabranch.rag.web.pace import Manners
from anabranch.retry import Retry


class WebOptions(TypedDict, total=False):
    """The options of a :class:`~anabranch.rag.WebReader` by keyword."""

    allow_private: bool | Collection[str]
    concurrency: int
    manners: Manners | None
    retry: Retry | int | None
    cache: HttpCache | str | os.PathLike[str] | None
    outline: bool
    main_text: bool
    user_agent: str
    clock: Clock | None


class BrowserReader(WebReader):
    """A :class:`~anabranch.rag.WebReader` that lets the scripts of HTML pages run.

    A page is fetched as by a WebReader, then rendered by an installed Chromium, and what
    it has become is the content. Chromium itself has no network: whatever a page's scripts
    ask for is fetched by the reader, within the same limits, and from nowhere that the
    reader may not go. A page that is not HTML is given as it is.

    A page takes some hundred milliseconds of processor time: use it where a WebReader
    finds no text. Many pages are different each time they are rendered; with
    ``main_text=True`` an index sees fewer changes.

    Args:
        timeout: Seconds for one answer, and for rendering one page.
        max_bytes: The largest page, as it is sent and as it is rendered.
        executable: The path of Chromium; by default what is installed under a usual name.
        tabs: Pages that are rendered at once.
        settle: Seconds, after a page has loaded, in which its requests may end.
        sandbox: Whether Chromium confines the processes that run scripts. It cannot if it
            is started by root.
        **options: As for :class:`~anabranch.rag.WebReader`.
    """

    def __init__(
        self,
        timeout: float = 30.0,
        max_bytes: int = 16 * MIB,
        *,
        executable: str | os.PathLike[str] | None = None,
        tabs: int = 4,
        settle: float = 3.0,
        sandbox: bool = True,
        **options: Unpack[WebOptions],
    ) -> None:
        super().__init__(timeout, max_bytes, **options)
        self._browser = Browser(
            executable, tabs=tabs, timeout=timeout, settle=settle, sandbox=sandbox
        )
        self._visitor.browser = self._browser

    async def __aenter__(self) -> Self:
        await self._browser.open()
        return await super().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._browser.aclose()
        finally:
            await super().__aexit__(kind, error, traceback)

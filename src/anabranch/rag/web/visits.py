"""One page, from its address to its content."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urldefrag

from anabranch.rag.readers import media
from anabranch.rag.types import Content, Scalar
from anabranch.rag.web import main_text
from anabranch.rag.web.browser import Browser
from anabranch.rag.web.client import Answer
from anabranch.rag.web.fetch import Admit, Fetcher
from anabranch.rag.web.outline import Outline
from anabranch.rag.web.pages import check_kind, content_of, outline_of
from anabranch.rag.web.urls import normalise

# Of a page's links, as metadata: each passage of the page will carry them.
KEPT_LINKS: Final = 100


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was fetched.

    Attributes:
        content: Its bytes, under the name that it was asked for by.
        url: Where it was, after redirects, normalised.
        outline: What it says beside its text; empty if nobody wants to know.
    """

    content: Content
    url: str
    outline: Outline


class Visitor:
    """Fetches pages and makes contents of them.

    Args:
        fetcher: What fetches.
        concurrency: Pages in hand at once.
        outline: Whether headings and links are kept as metadata.
        main_text: Whether what surrounds the main text is removed.

    Attributes:
        browser: What renders pages of HTML, if anything does.
    """

    def __init__(
        self, fetcher: Fetcher, *, concurrency: int, outline: bool, main_text: bool
    ) -> None:
        self.fetcher = fetcher
        self.browser: Browser | None = None
        self.concurrency = concurrency
        self._outline = outline
        self._main_text = main_text
        # One thread: it holds the interpreter's lock, and several would only take turns.
        self._thread: ThreadPoolExecutor | None = None

    async def visit(
        self, uri: str, *, admit: Admit | None = None, outlined: bool = True
    ) -> Page:
        """Fetch a page.

        Args:
            uri: Its address.
            admit: Asked about each redirect.
            outlined: Whether anybody wants to know its outline.

        Raises:
            SourceError: It cannot be had, or is of no readable kind.
        """
        url = urldefrag(uri).url
        answer = await self.fetcher.fetch(
            url, check=lambda at, headers: check_kind(url, at, headers), admit=admit
        )
        content = await content_of(url, answer, {"url": _shown(url, answer)})
        if self.browser is not None and content.media_type == media.HTML:
            answer = await self.browser.render(url, answer, self.fetcher)
            content = await content_of(url, answer, {"url": _shown(url, answer)})
        wanted = outlined or self._outline
        found = await outline_of(content, answer) if wanted else Outline()
        return Page(content, answer.url, found)

    async def finish(self, page: Page, name: str | None = None) -> Content:
        """The content of a page, under another name if one is given."""
        content, outline = page.content, page.outline
        metadata: dict[str, Scalar | list[Scalar]] = {**content.metadata}  # type: ignore[dict-item]
        if self._outline and content.media_type == media.HTML:
            metadata["headings"] = list(outline.headings)
            metadata["links"] = list(outline.links[:KEPT_LINKS])
        content = replace(content, uri=name or content.uri, metadata=metadata)
        if not self._main_text or content.media_type != media.HTML:
            return content
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="anabranch-extract")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, main_text.extracted, content)

    async def aclose(self) -> None:
        """Let go of the thread and the connections. Idempotent."""
        thread, self._thread = self._thread, None
        try:
            await self.fetcher.aclose()
        finally:
            if thread is not None:
                await asyncio.to_thread(thread.shutdown)


def _shown(url: str, answer: Answer) -> str:
    """Where a page was; as it was asked for if nothing led elsewhere."""
    return url if normalise(url) == answer.url else answer.url

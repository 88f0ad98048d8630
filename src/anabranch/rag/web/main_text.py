"""The main text of a page, without what surrounds it on every page of its site.

trafilatura finds it. It takes some forty times as long as reading the whole page, leaves
out what it is not sure of, and gives nothing for pages that are lists of links: so it is
offered and not the default. See docs/decisions/0023-web-reader.md.
"""

from __future__ import annotations

from dataclasses import replace

from anabranch.rag.readers import html, media
from anabranch.rag.readers._digest import digest
from anabranch.rag.types import Content


def extracted(content: Content) -> Content:
    """A page of HTML as Markdown of its main text; as it is if it has none.

    The digest is that of the text: a page whose surroundings change is unchanged.

    Raises:
        ImportError: trafilatura or selectolax is not installed.
        SourceError: It is nested deeper than any page.
    """
    try:
        import trafilatura
    except ImportError as error:
        raise ImportError(
            "main_text needs trafilatura: pip install 'anabranch[extract]'"
        ) from error
    tree = html.parsed(content)
    text: str | None = trafilatura.extract(
        tree.html or "",
        output_format="markdown",
        include_comments=False,
        include_formatting=True,
    )
    if not text or not text.strip():
        return content
    title = tree.css_first("title")
    titled = {} if title is None else {"title": html.squeeze(title.text())}
    data = text.encode("utf-8", "replace")
    return replace(
        content,
        media_type=media.MARKDOWN,
        digest=digest(data),
        data=data,
        charset="utf-8",
        metadata={**titled, **content.metadata},
    )

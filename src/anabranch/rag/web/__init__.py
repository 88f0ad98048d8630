"""Many pages of the web: lists, sitemaps and crawls.

:class:`~anabranch.rag.WebReader` is where to begin; here is what it gives and takes.
"""

from anabranch.rag.web.cache import HttpCache
from anabranch.rag.web.crawl import Crawl
from anabranch.rag.web.frontier import Duplicate, Skipped
from anabranch.rag.web.loaded import Loaded
from anabranch.rag.web.outline import Outline, outline
from anabranch.rag.web.pace import Manners
from anabranch.rag.web.pages import Pages

__all__ = [
    "Crawl",
    "Duplicate",
    "HttpCache",
    "Loaded",
    "Manners",
    "Outline",
    "Pages",
    "Skipped",
    "outline",
]

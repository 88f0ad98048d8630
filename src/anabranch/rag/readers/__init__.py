"""Reading sources: find them, fetch their bytes, make documents of them.

::

    for uri in find(["docs"]):  # str, or a SourceError for what cannot be walked
        content = await FileReader().read(uri)
        for document in documents(content):
            ...
"""

from anabranch.rag.readers.browser import BrowserReader
from anabranch.rag.readers.files import FileReader, Walk, find
from anabranch.rag.readers.media import KINDS
from anabranch.rag.readers.parse import MEDIA_TYPES, documents
from anabranch.rag.readers.stdlib import StandardLibrary
from anabranch.rag.readers.watching import Changes, Watch
from anabranch.rag.readers.web import WebReader

__all__ = [
    "KINDS",
    "MEDIA_TYPES",
    "BrowserReader",
    "Changes",
    "FileReader",
    "StandardLibrary",
    "Walk",
    "Watch",
    "WebReader",
    "documents",
    "find",
]

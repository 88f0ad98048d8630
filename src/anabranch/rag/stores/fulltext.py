"""Questions as full-text queries."""

from __future__ import annotations

import re

_TERM = re.compile(r"\w+")

# Words so common that matching them only costs time; BM25 gives them next to no weight.
STOP_WORDS = frozenset(
    "a an and are as at be by can do does for from has have how i if in into is it its me "
    "my no not of on or so such that the their then there these they this to was we what "
    "when where which who why will with would you your".split()
)


def telling_words(question: str) -> list[str]:
    """The question's words in lower case, in their order, without stop words.

    With them if there is nothing else. A word that is said twice is there twice.
    """
    terms = [term.lower() for term in _TERM.findall(question)]
    return [term for term in terms if term not in STOP_WORDS] or terms


def match_any(question: str) -> str | None:
    """A query that finds passages with any of the question's words.

    Every word is quoted, so that nothing in a question is ever query syntax. ``None`` if
    there are no words at all.

    A word that the question says twice counts twice, as in BM25 for long questions.
    Source: S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and
    Beyond", 2009, with k3 without bound.
    """
    return " OR ".join(f'"{term}"' for term in telling_words(question)) or None

"""What a question of keywords asks for, and which texts have it: rules only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from unicodedata import normalize

from anabranch.rag.stores.fulltext import STOP_WORDS

Words: TypeAlias = tuple[str, ...]
"""A keyword: one word, or several that follow each other."""

Match: TypeAlias = Literal["any", "all"]
"""Whether a passage must have one of the keywords, or each of them."""

_WORD = re.compile(r"\w+")
_PART = re.compile(r"""([+-]?)(?:"([^"]*)"|(\S+))""")


@dataclass(frozen=True, slots=True)
class Keywords:
    """A question, taken apart.

    Attributes:
        optional: The more of them a passage has, the better.
        required: A passage must have each.
        excluded: A passage must have none.
    """

    optional: tuple[Words, ...]
    required: tuple[Words, ...]
    excluded: tuple[Words, ...]

    @classmethod
    def of(cls, query: str, *, match: Match = "any") -> Keywords:
        """The keywords of a question.

        ``"in quotes"`` is a phrase, which must occur; so must what has a plus before it;
        what has a minus before it must not. A word that is written with other signs, such
        as ``foo.bar``, is a phrase of its parts. Words that every text has are keywords
        only in phrases, behind a sign, or where there is nothing else.

        Args:
            query: What was asked.
            match: ``"all"`` makes each keyword a required one.
        """
        found: dict[str, list[Words]] = {"": [], "+": [], "-": []}
        common: list[Words] = []
        for sign, phrase, word in _PART.findall(query):
            words = words_of(phrase or word)
            if not words:
                continue
            if not sign and not phrase and len(words) == 1 and words[0] in STOP_WORDS:
                common.append(words)
            else:
                found[sign or ("+" if phrase or match == "all" else "")].append(words)
        if not (found[""] or found["+"]):
            found["+" if match == "all" else ""] += common
        return cls(*(tuple(dict.fromkeys(found[sign])) for sign in ("", "+", "-")))

    @property
    def wanted(self) -> tuple[Words, ...]:
        """Those that a passage may or must have."""
        return tuple(dict.fromkeys(self.required + self.optional))

    def count(self, text: str) -> int:
        """How many of the wanted keywords a text has; 0 if it is not meant at all."""
        words = words_of(text)
        places: dict[str, list[int]] = {}
        for place, word in enumerate(words):
            places.setdefault(word, []).append(place)
        if any(_has(words, places, phrase) for phrase in self.excluded):
            return 0
        if not all(_has(words, places, phrase) for phrase in self.required):
            return 0
        return sum(_has(words, places, phrase) for phrase in self.wanted)


def words_of(text: str) -> Words:
    """The words of a text, without regard to upper and lower case."""
    return tuple(_WORD.findall(normalize("NFC", text).lower()))


def _has(words: Sequence[str], places: Mapping[str, Sequence[int]], phrase: Words) -> bool:
    return any(
        words[place : place + len(phrase)] == phrase for place in places.get(phrase[0], ())
    )

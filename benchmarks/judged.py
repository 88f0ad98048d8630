"""Collections of documents with questions, and judgements of what answers them.

They are read in the form in which Cranfield and CISI are passed on: records that begin
with ``.I NUMBER`` and have fields, each a line with a dot and a letter and the text below.

- Cranfield: ``cran.all.1400``, ``cran.qry``, ``cranqrel``. Its judgements name questions by
  their place in the file, not by the numbers there; the last column is a grade from 1, a
  complete answer, to 4, of minimum interest.
- CISI: ``CISI.ALL``, ``CISI.QRY``, ``CISI.REL``. Some questions have no judgements.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FIELD = re.compile(r"\.([A-Z])\s*(\d+)?\s*$")


@dataclass(frozen=True, slots=True)
class Collection:
    """What is searched, what is asked, and what answers it.

    Attributes:
        documents: Title and text by number.
        questions: By number; those that have judgements.
        gains: By question: how much each document is worth that answers it.
    """

    documents: Mapping[str, tuple[str, str]]
    questions: Mapping[int, str]
    gains: Mapping[int, Mapping[str, float]]


def read(folder: Path) -> Collection:
    """The collection in a folder, whichever of the two it is.

    Raises:
        FileNotFoundError: It is neither.
    """
    if (folder / "cran.all.1400").is_file():
        return _cranfield(folder)
    return _cisi(folder)


def _cranfield(folder: Path) -> Collection:
    questions = _records(folder / "cran.qry")
    gains: dict[int, dict[str, float]] = {}
    for line in (folder / "cranqrel").read_text().splitlines():
        question, document, *_, grade = line.split()
        # One judgement has the grade -1, which is taken for 1.
        gains.setdefault(int(question), {})[document] = 5 - abs(int(grade))
    return _collection(
        folder / "cran.all.1400",
        {place: each["W"] for place, each in enumerate(questions, start=1)},
        gains,
    )


def _cisi(folder: Path) -> Collection:
    questions = {int(each["I"]): each["W"] for each in _records(folder / "CISI.QRY")}
    gains: dict[int, dict[str, float]] = {}
    for line in (folder / "CISI.REL").read_text().splitlines():
        question, document, *_ = line.split()
        gains.setdefault(int(question), {})[document] = 1.0
    return _collection(folder / "CISI.ALL", questions, gains)


def _collection(
    file: Path, questions: Mapping[int, str], gains: Mapping[int, Mapping[str, float]]
) -> Collection:
    documents = {
        each["I"]: (each.get("T", ""), each.get("W", "")) for each in _records(file)
    }
    judged = {number: text for number, text in questions.items() if number in gains}
    return Collection(documents, judged, gains)


def _records(file: Path) -> Sequence[Mapping[str, str]]:
    """The fields of each record by their letters; ``I`` is its number."""
    records: list[dict[str, str]] = []
    field = ""
    for line in file.read_text("latin-1").split("\n"):
        text = line.rstrip("\r")
        if found := _FIELD.match(text):
            field = found[1]
            if field == "I":
                records.append({"I": found[2] or ""})
        elif records and field != "I":
            known = records[-1].get(field)
            records[-1][field] = text if known is None else f"{known}\n{text}"
    return [each for each in records if each["I"]]


def ndcg(found: Sequence[str], gains: Mapping[str, float], *, at: int = 10) -> float:
    """Normalised discounted cumulative gain of a ranking of documents.

    Source: K. Järvelin, J. Kekäläinen, "Cumulated gain-based evaluation of IR
    techniques", TOIS 20(4), 2002; with the gain as it is and a logarithm from the first.
    """

    def cumulated(values: Sequence[float]) -> float:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(values, start=1))

    best = sorted(gains.values(), reverse=True)
    return cumulated([gains.get(each, 0.0) for each in found[:at]]) / cumulated(best[:at])


def recall(found: Sequence[str], gains: Mapping[str, float], *, at: int = 100) -> float:
    """The share of what answers a question that is among the first."""
    return len(gains.keys() & set(found[:at])) / len(gains)

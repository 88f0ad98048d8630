"""Tables in text: CSV and TSV, a document a row or a few, however many there are."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

from anabranch.errors import SourceError
from anabranch.rag.fields import Fields, Record, groups, missing, record
from anabranch.rag.readers import media, text
from anabranch.rag.types import Content, Document, Scalar

_DELIMITERS: Final = ",;\t|"
_SAMPLE_LINES = 100
_SAID = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*(?:[eE][-+]?\d+)?\s?%?")
_YEAR = re.compile(r"[12]\d{3}")
# Not 007, which is a name, nor more digits than a database's numbers have.
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,17})\.\d{1,17}")


def documents(content: Content) -> Iterator[Document]:
    """A document a row, ``uri#row=1`` and on, or of several rows if so chosen.

    A row's text is a line ``name: value`` for each cell that is not empty, by the names
    in the first row. That row is data, and the columns are ``column 1`` and on, if a cell
    of it is a number other than a year. The delimiter is the one of comma, semicolon, tab
    and bar by which the first rows have the same number of cells. Metadata: ``row``, from
    1, and what :class:`~anabranch.rag.types.Fields` chose, numbers as numbers.

    Rows are read one after the other: a file of any size needs little memory.

    Raises:
        SourceError: It is not text, lacks a chosen column, or holds a cell of more than
            131,072 characters, such as behind a quotation mark that is never closed.
    """
    fields = content.fields or Fields()
    for number, group in groups(_records(content, fields), fields.together):
        yield Document(
            f"{content.uri}#row={number}",
            "\n\n".join(each.text for each in group),
            {**content.metadata, **_typed(group[0]), "row": number},
        )


def _records(content: Content, fields: Fields) -> Iterator[tuple[int, Record]]:
    rows = _rows(content)
    first = next(rows, None)
    if first is None:
        return
    header = is_header(first)
    names = _names(first if header else [""] * len(first))
    if lacking := missing(fields, names):
        raise SourceError(
            content.uri,
            f"has no column {', '.join(map(repr, lacking))}: its columns are "
            f"{', '.join(map(repr, names))}",
        )
    for number, row in enumerate(rows if header else chain([first], rows), 1):
        while len(names) < len(row):
            names.append(f"column {len(names) + 1}")
        found = record(fields, dict(zip(names, row, strict=False)))
        if found.text:
            yield number, found


def _rows(content: Content) -> Iterator[list[str]]:
    """The rows that hold something, each cell without white space around it."""
    lines = text.lines(content)
    sample = list(islice(lines, _SAMPLE_LINES))
    if sample and (said := _SAID.fullmatch(sample[0])):
        sample, delimiter = sample[1:], said[1]
    else:
        delimiter = "\t" if content.media_type == media.TSV else find_delimiter(sample)
    reader = csv.reader(
        chain(sample, lines), delimiter=delimiter, skipinitialspace=delimiter != "\t"
    )
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield cells
    except csv.Error as error:
        raise SourceError(
            content.uri, f"is no table that can be read: {error}, in line {reader.line_num}"
        ) from error


def find_delimiter(sample: Sequence[str]) -> str:
    """What parts the cells of these lines: a comma if they have one cell each."""

    def alike(delimiter: str) -> tuple[float, int]:
        rows = csv.reader(sample, delimiter=delimiter, skipinitialspace=True)
        try:
            widths = [len(row) for row in rows if row]
        except csv.Error:
            return 0, 0
        # The sample may end in the middle of a row.
        widths = widths[:-1] if len(widths) > 2 else widths
        usual = max(widths, key=widths.count, default=0)
        return (widths.count(usual) / len(widths), usual) if usual > 1 else (0, 0)

    return max(_DELIMITERS, key=alike)


def is_header(row: Sequence[str]) -> bool:
    """Whether a first row names the columns."""
    return not any(_NUMBER.fullmatch(cell) and not _YEAR.fullmatch(cell) for cell in row)


def _names(row: Sequence[str]) -> list[str]:
    """A name for each column, each another."""
    names: list[str] = []
    for number, cell in enumerate(row, 1):
        name, again = cell or f"column {number}", 1
        while name in names:
            again += 1
            name = f"{cell} {again}"
        names.append(name)
    return names


def _typed(found: Record) -> dict[str, Scalar]:
    return {
        name: value if name == "title" else _value(str(value))
        for name, value in found.metadata.items()
        if isinstance(value, str)
    }


def _value(cell: str) -> Scalar:
    if _WHOLE.fullmatch(cell):
        return int(cell)
    return float(cell) if _DECIMAL.fullmatch(cell) else cell or None

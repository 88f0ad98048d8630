"""Tables in text: CSV and TSV, a document a row or a few, however many there are."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from anabranch.errors import SourceError
from anabranch.rag.fields import Fields, Record, groups, missing, record
from anabranch.rag.readers import media, text
from anabranch.rag.types import Content, Document, Scalar

MOST_COLUMNS: Final = 10_000

ROW_CHARACTERS: Final = 4 * 1024 * 1024
"""The longest row. What a mark that is never closed swallows ends here."""

NAME_CHARACTERS: Final = 1_000
"""The longest name of a column: each row's text repeats it."""

_DELIMITERS: Final = ",;\t|"
_SAMPLE_LINES = 100
_SAMPLE_CHARACTERS = 256 * 1024
_SAID = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
# The first digit is found without going back: a cell may hold 131,072 of them.
_NUMBER = re.compile(r"[-+]?[.,]*\d[\d.,]*(?:[eE][-+]?\d+)?\s?%?")
_YEAR = re.compile(r"[12]\d{3}")
# Not 007, which is a name, nor more digits than a database's numbers have.
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,17})\.\d{1,17}")


def documents(content: Content) -> Iterator[Document]:
    """A document a row, ``uri#row=1`` and on, or of several rows if so chosen.

    A row's text is a line ``name: value`` for each cell that is not empty, by the names
    in the first row. That row is data, and the columns are ``column 1`` and on, if a cell
    of it is a number other than a year, or of more than 1,000 characters. The delimiter is
    the one of comma, semicolon, tab and bar by which the first rows have the same number
    of cells. Metadata: ``row``, from 1, of several rows the first, and what
    :class:`~anabranch.rag.types.Fields` chose, numbers as numbers.

    Rows are read one after the other: a file of any size needs little memory.

    Raises:
        SourceError: It is not text, lacks a chosen column, has more than 10,000 columns,
            or holds a row of more than 4 Mi characters or a cell of more than 131,072,
            such as behind a quotation mark that is never closed.
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
    names = _Names(first if header else [""] * len(first))
    if lacking := missing(fields, names):
        raise SourceError(
            content.uri,
            f"has no column {', '.join(map(repr, lacking))}: its columns are "
            f"{', '.join(map(repr, names))}",
        )
    for number, row in enumerate(rows if header else chain([first], rows), 1):
        while len(names) < len(row):
            names.add("")
        found = record(fields, dict(zip(names, row, strict=False)))
        if found.text:
            yield number, found


def _rows(content: Content) -> Iterator[list[str]]:
    """The rows that hold something, each cell without white space around it."""
    lines = text.lines(content)
    sample = _sample(lines)
    if sample and (said := _SAID.fullmatch(sample[0])):
        sample, delimiter = sample[1:], said[1]
    else:
        delimiter = "\t" if content.media_type == media.TSV else find_delimiter(sample)
    of_row = _OfRow(content.uri, chain(sample, lines))
    reader = csv.reader(of_row, delimiter=delimiter, skipinitialspace=delimiter != "\t")
    try:
        for row in reader:
            of_row.characters = 0
            if not row:
                continue
            if len(row) > MOST_COLUMNS:
                raise SourceError(
                    content.uri,
                    f"has {len(row):,} columns in line {reader.line_num:,}, above the "
                    f"limit of {MOST_COLUMNS:,}: leave it out, or keep those that matter",
                )
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield cells
    except csv.Error as error:
        raise SourceError(content.uri, _explained(error, reader.line_num)) from error


def _sample(lines: Iterator[str]) -> list[str]:
    """The first lines, enough to find the delimiter by."""
    found: list[str] = []
    characters = 0
    for line in lines:
        found.append(line)
        characters += len(line)
        if len(found) == _SAMPLE_LINES or characters > _SAMPLE_CHARACTERS:
            break
    return found


class _OfRow:
    """The lines for a reader of rows, which would join as many as a quotation mark asks.

    Attributes:
        characters: Of the lines since whoever reads set it to 0.
    """

    def __init__(self, uri: str, lines: Iterator[str]) -> None:
        self.characters = 0
        self._uri = uri
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._lines, 1):
            self.characters += len(line)
            if self.characters > ROW_CHARACTERS:
                raise SourceError(
                    self._uri,
                    f"holds a row of more than {ROW_CHARACTERS:,} characters, up to line "
                    f"{number:,}: check that each quotation mark is closed",
                )
            yield line


def _explained(error: csv.Error, line: int) -> str:
    # The module has one error for all, and its limit is a setting of the process.
    if "field limit" in str(error):
        return (
            f"holds a cell of more than {csv.field_size_limit():,} characters, in line "
            f"{line:,}: check that each quotation mark is closed"
        )
    return f"is no table that can be read: {error}, in line {line:,}"


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
    return not any(
        len(cell) > NAME_CHARACTERS
        or (_NUMBER.fullmatch(cell) and not _YEAR.fullmatch(cell))
        for cell in row
    )


class _Names(list[str]):
    """A name for each column, each another."""

    def __init__(self, cells: Sequence[str]) -> None:
        super().__init__()
        self._again: dict[str, int] = {}
        for cell in cells:
            self.add(cell)

    def add(self, cell: str) -> None:
        """One more column, which is called so where no other is."""
        name = wanted = cell or f"column {len(self) + 1}"
        while name in self._again:
            # Goes on where it was: many columns of one name cost no more than others.
            self._again[wanted] += 1
            name = f"{wanted} {self._again[wanted]}"
        self._again[name] = 1
        self.append(name)


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

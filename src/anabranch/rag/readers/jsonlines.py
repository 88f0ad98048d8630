"""JSON and JSON lines: a document a record, or of a few."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import cast

from anabranch.errors import SourceError
from anabranch.rag.fields import Fields, Json, Record, flat, groups, record, shown
from anabranch.rag.readers import media, text
from anabranch.rag.types import Content, Document

MOST_VALUES = 4_000_000
"""In a JSON file that is read at once: each takes some 70 bytes and a microsecond."""

_NAMES_SHOWN = 10


def documents(content: Content) -> Iterator[Document]:
    """A document a record, or of several if so chosen.

    Of JSON lines each line is a record, ``uri#line=1`` and on; of a JSON list each item,
    ``uri#record=1`` and on; other JSON is one record, ``uri``. A record's text is a line
    ``name: value`` for each field that holds something, or what
    :class:`~anabranch.rag.types.Fields` chose. Metadata: ``line`` or ``record``, and the
    chosen fields.

    JSON lines are read one after the other: a file of any size needs little memory.
    A line that is no JSON breaks the source, at the place where it is met: a file with a
    hole in it would look whole to whoever searches.

    Raises:
        SourceError: It is not JSON, in which line; it holds more than 4,000,000 values and
            is no JSON lines; or no record has the chosen text.
    """
    fields = content.fields or Fields()
    what = "line" if content.media_type == media.JSON_LINES else "record"
    values = _lines(content) if what == "line" else _items(content, fields)
    records = _records(content, fields, values)
    for number, group in groups(records, fields.together):
        whole = "\n\n".join(each.text for each in group)
        metadata = {**content.metadata, **group[0].metadata}
        if number == 0:
            yield Document(content.uri, whole, metadata)
        else:
            name = f"{content.uri}#{what}={number}"
            yield Document(name, whole, metadata | {what: number})


def _records(
    content: Content, fields: Fields, values: Iterator[tuple[int, Json]]
) -> Iterator[tuple[int, Record]]:
    names: dict[str, None] = {}
    seen = kept = 0
    for number, value in values:
        seen += 1
        if isinstance(value, dict):
            fields_found = _flat(content, value, number)
            found = record(fields, fields_found)
            names |= dict.fromkeys(islice(fields_found, _NAMES_SHOWN))
        else:
            found = Record("" if fields.text or value is None else shown(value), {})
        if found.text:
            kept += 1
            yield number, found
    if fields.text and seen and not kept:
        raise SourceError(
            content.uri,
            f"no record has the field {' or '.join(map(repr, fields.text))}: there are "
            f"{', '.join(map(repr, islice(names, _NAMES_SHOWN))) or 'no fields'}",
        )


def _lines(content: Content) -> Iterator[tuple[int, Json]]:
    for number, line in enumerate(text.lines(content), 1):
        if line.strip():
            yield number, _loads(content, line, f"line {number:,}")


def _items(content: Content, fields: Fields) -> Iterator[tuple[int, Json]]:
    """The items of a list, from 1; or one value, as number 0."""
    source = text.read(content)
    if not source.strip():
        return
    # At most, for text may hold these as well.
    if sum(map(source.count, ",[{")) > MOST_VALUES:
        raise SourceError(
            content.uri,
            f"holds more than {MOST_VALUES:,} values: split it, or make JSON lines of it, "
            "which may be of any size",
        )
    value = _loads(content, source, "the file")
    for name in fields.records.split(".") if fields.records else ():
        value = value.get(name) if isinstance(value, dict) else None
    if fields.records and not isinstance(value, list):
        raise SourceError(content.uri, f"{fields.records!r} is not a list in it")
    yield from enumerate(value, 1) if isinstance(value, list) else [(0, value)]


def _loads(content: Content, source: str, what: str) -> Json:
    try:
        return cast("Json", json.loads(source))
    except RecursionError:
        raise SourceError(content.uri, f"{what} is nested too deep") from None
    except json.JSONDecodeError as error:
        remedy = "check what it is" if what == "the file" else "mend it or take it out"
        raise SourceError(content.uri, f"{what} is not JSON ({error}): {remedy}") from error
    except ValueError as error:  # Of int(), of which JSON makes its numbers.
        raise SourceError(
            content.uri,
            f"{what} holds a number of more than {sys.get_int_max_str_digits():,} digits: "
            "put it in quotation marks",
        ) from error


def _flat(content: Content, value: dict[str, Json], number: int) -> dict[str, Json]:
    try:
        return flat(value)
    except ValueError as error:
        raise SourceError(content.uri, f"record {number:,} {error}") from None

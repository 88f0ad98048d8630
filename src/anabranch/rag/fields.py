"""Which fields of a record are its text, and which its metadata: rules without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from anabranch.errors import UsageError
from anabranch.rag.filters import Metadata, Scalar

Json: TypeAlias = "dict[str, Json] | list[Json] | Scalar"

# Fields that make a title where nobody chose one, by their names in lower case.
_TITLES = ("title", "name", "subject")

_NAME_CHARACTERS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What to make of the records of tables, JSON and JSON lines.

    A field within an object is named with a dot, ``author.name``. A list is one field,
    whatever is in it. A record may lack any of the fields.

    Attributes:
        text: The fields that are the text, in this order. One is the text as it stands;
            of several each stands on a line behind its name. By default all that are
            not metadata.
        metadata: The fields that are metadata, under their own names. By default none.
        title: The field that is the title; by default one called title, name or subject.
        together: The most records of one document. They are consecutive and have the same
            metadata; a blank line stands between them.
        records: The field of a JSON file that holds the list of records, where the list
            is not the whole of it.

    Raises:
        UsageError: ``together`` is below 1, or a sequence of names is one name.
    """

    text: Sequence[str] | None = None
    metadata: Sequence[str] = ()
    title: str | None = None
    together: int = 1
    records: str | None = None

    def __post_init__(self) -> None:
        for what in ("text", "metadata"):
            names = getattr(self, what)
            if isinstance(names, str):
                raise UsageError(f"{what} is {names!r}: give a list, [{names!r}]")
            if names is not None:
                object.__setattr__(self, what, tuple(names))
        if self.together < 1:
            raise UsageError(f"together is {self.together}: it must be at least 1")


@dataclass(frozen=True, slots=True)
class Record:
    """One record, sorted into what it is for."""

    text: str
    metadata: Metadata


def record(fields: Fields, found: Mapping[str, Json]) -> Record:
    """A record of a flat mapping, such as :func:`flat` gives."""
    title = fields.title or _title(found)
    # A flat record holds nothing else than metadata may hold.
    metadata = cast(
        "dict[str, Scalar | Sequence[Scalar]]",
        {name: found[name] for name in fields.metadata if name in found},
    )
    if title is not None and _is_there(found.get(title)):
        metadata["title"] = shown(found[title])
    names = fields.text
    if names is None:
        names = [name for name in found if name not in fields.metadata]
    texts = {name: shown(found[name]) for name in names if _is_there(found.get(name))}
    if fields.text is not None and len(fields.text) == 1:
        return Record("".join(texts.values()), metadata)
    return Record("\n".join(f"{name}: {text}" for name, text in texts.items()), metadata)


def missing(fields: Fields, names: Sequence[str]) -> list[str]:
    """The chosen fields that are not among the names."""
    chosen = [*(fields.text or ()), *fields.metadata, *filter(None, [fields.title])]
    return [name for name in dict.fromkeys(chosen) if name not in names]


def groups(
    records: Iterator[tuple[int, Record]], together: int
) -> Iterator[tuple[int, list[Record]]]:
    """Consecutive records of the same metadata, with the number of the first.

    Where several may stand together, their titles are not compared: the first one's is
    the group's.
    """
    group: list[Record] = []
    first = 0
    for number, each in records:
        if group and (
            len(group) == together or _kept(group[0].metadata) != _kept(each.metadata)
        ):
            yield first, group
            group = []
        if not group:
            first = number
        group.append(each)
    if group:
        yield first, group


def flat(value: dict[str, Json]) -> dict[str, Json]:
    """An object's fields, those of objects within it under names with dots.

    Lists stay, with the values of lists and objects within them in a row.

    Raises:
        ValueError: The names, which repeat those of the objects they are in, are of more
            than 16 Mi characters.
    """
    found: dict[str, Json] = {}
    characters = 0
    # A stack instead of recursion: JSON may be nested deeper than Python's limit.
    stack: list[tuple[str, Json]] = list(value.items())[::-1]
    while stack:
        name, each = stack.pop()
        characters += len(name)
        if characters > _NAME_CHARACTERS:
            raise ValueError("has names that are too long, or nested too deep")
        if isinstance(each, dict):
            stack += [(f"{name}.{key}", one) for key, one in each.items()][::-1]
        else:
            found[name] = plain(each) if isinstance(each, list) else each
    return found


def shown(value: Json) -> str:
    """A value as text; a list's values with commas between them."""
    if isinstance(value, list):
        return ", ".join(map(shown, filter(_is_there, plain(value))))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip()


def plain(items: list[Json]) -> list[Json]:
    """A list's values, those of lists and objects within it in a row."""
    found: list[Json] = []
    stack = items[::-1]
    while stack:
        each = stack.pop()
        if isinstance(each, dict | list):
            stack += list(each.values() if isinstance(each, dict) else each)[::-1]
        else:
            found.append(each)
    return found


def _kept(metadata: Metadata) -> Metadata:
    return {name: value for name, value in metadata.items() if name != "title"}


def _title(found: Mapping[str, Json]) -> str | None:
    return next((name for name in found if name.lower() in _TITLES), None)


def _is_there(value: Json) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value not in (None, [])

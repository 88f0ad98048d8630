"""Reading and changing a state by dotted paths: ``user.tags.0``.

A part of a path is a key of a dictionary, an index of a list, or an attribute. Of a model
with free attributes it is the free one, if there is one, and never a method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from pydantic import BaseModel

from anabranch.errors import UsageError
from anabranch.workflow.events import DictLikeModel

MISSING: Final = object()
_MOST_PARTS: Final = 1000


def look_up(state: Any, path: str) -> Any:
    """What is at the path; :data:`MISSING` if nothing is."""
    value = state
    for part in _parts(path) if path else ():
        value = _step_into(value, part)
        if value is MISSING:
            break
    return value


Path: TypeAlias = str | Sequence[str]
"""Where something is in a state: dotted, or its parts one by one."""


def edited(state: Any, path: Path, value: Any) -> Any:
    """The state with ``value`` at the path, or ``value`` itself if the path is empty.

    The state is changed in place. Dictionaries that are missing on the way are made. What
    is :data:`MISSING` is removed.

    Raises:
        ValueError: There is no such place, or the value does not fit there.
    """
    if not path:
        return value
    *way, last = _parts(path) if isinstance(path, str) else path
    holder: Any = state
    for part in way:
        inner: Any = _step_into(holder, part)
        if inner is MISSING or inner is None:
            inner = {}
            _put(holder, part, inner, path)
        holder = inner
    if value is MISSING:
        _remove(holder, last)
    else:
        _put(holder, last, value, path)
    return state


def _remove(holder: Any, part: str) -> None:
    if isinstance(holder, dict):
        cast("dict[str, Any]", holder).pop(part, None)
    elif isinstance(holder, BaseModel) and holder.__pydantic_extra__ is not None:
        holder.__pydantic_extra__.pop(part, None)


def _parts(path: str) -> list[str]:
    parts = path.split(".")
    if len(parts) > _MOST_PARTS:
        raise UsageError(
            f"a path has at most {_MOST_PARTS} parts, and this one has {len(parts):,}"
        )
    return parts


def _step_into(holder: Any, part: str) -> Any:
    if isinstance(holder, dict):
        return cast("dict[str, Any]", holder).get(part, MISSING)
    if isinstance(holder, list | tuple):
        items = cast("list[Any]", holder)
        index = _index(part)
        if index is None or not -len(items) <= index < len(items):
            return MISSING
        return items[index]
    if isinstance(holder, DictLikeModel):
        if part in holder:
            return holder[part]
        if not _is_declared(holder, part):
            return MISSING
    return getattr(holder, part, MISSING)


def _put(holder: Any, part: str, value: Any, path: Path) -> None:
    try:
        if isinstance(holder, dict):
            holder[part] = value
        elif isinstance(holder, list):
            index = _index(part)
            if index is None:
                raise ValueError(f"a list has no {part!r}")  # noqa: TRY301  # as below
            holder[index] = value
        elif isinstance(holder, DictLikeModel) and not _is_declared(holder, part):
            holder[part] = value
        else:
            setattr(holder, part, value)
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        kind = class_of(cast("object", holder))
        shown = path if isinstance(path, str) else ".".join(path)
        raise UsageError(
            f"{shown!r} cannot be set: a {kind.__name__} takes no such value at "
            f"{part!r} ({error})"
        ) from error


def class_of(value: object) -> type[Any]:
    """The class of a value."""
    return type(value)


def _index(part: str) -> int | None:
    try:
        return int(part)
    except ValueError:
        return None


def _is_declared(model: BaseModel, name: str) -> bool:
    kind = type(model)
    return (
        name in kind.model_fields
        or name in kind.model_computed_fields
        or isinstance(getattr(kind, name, None), property)
    )


def copied(value: Any) -> Any:
    """A copy whose containers are its own: dictionaries, lists, sets and models, all down.

    What they hold besides is shared, so that clients and locks may be in a state.
    """
    copy = _COPIES.get(class_of(value))
    if copy is not None:
        return copy(value)
    if isinstance(value, BaseModel):
        return _copied_model(value)
    return value


def _copied_model(model: BaseModel) -> BaseModel:
    twin = model.model_copy()
    fields = vars(twin)
    for name, held in fields.items():
        fields[name] = copied(held)
    extra = twin.__pydantic_extra__
    if extra:
        object.__setattr__(
            twin, "__pydantic_extra__", {k: copied(v) for k, v in extra.items()}
        )
    return twin


def changes(before: Any, after: Any) -> list[tuple[Path, Any]]:
    """What makes one state into the other, to be given to :func:`edited`.

    Only what differs at the top is in it; what is of a kind that cannot be compared counts
    as different.
    """
    if type(before) is not type(after) or not isinstance(after, BaseModel):
        return [("", after)]
    if getattr(after, "__pydantic_private__", None):
        return [("", after)]
    old, new = _entries(before), _entries(after)
    changed: list[tuple[Path, Any]] = [
        ([name], value)
        for name, value in new.items()
        if name not in old or not _is_same(old[name], value)
    ]
    return changed + [([name], MISSING) for name in old if name not in new]


def _entries(model: BaseModel) -> dict[str, Any]:
    return {**vars(model), **(model.__pydantic_extra__ or {})}


def _is_same(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(new, BaseModel):
        return _is_same(_entries(old), _entries(new))
    if isinstance(new, dict):
        held = cast("Mapping[Any, Any]", new)
        return old.keys() == held.keys() and all(
            _is_same(old[key], value) for key, value in held.items()
        )
    if isinstance(new, list | tuple):
        items = cast("list[Any]", new)
        return len(old) == len(items) and all(map(_is_same, old, items))
    # Of anything else it cannot be known whether it was changed where it is.
    return isinstance(new, _UNCHANGING) and bool(old == new)


_UNCHANGING: Final = (
    str, bytes, int, float, complex, type(None), frozenset, date, time, timedelta, Decimal,
    UUID, Enum, PurePath,
)  # fmt: skip

_COPIES: Final[Mapping[type, Callable[[Any], Any]]] = {
    dict: lambda held: {key: copied(value) for key, value in held.items()},
    list: lambda held: [copied(value) for value in held],
    tuple: lambda held: tuple(copied(value) for value in held),
    set: set,
}

"""``key=value`` on the command line, and the events that are made of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from anabranch.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from anabranch.workflow import Event

    E = TypeVar("E", bound=Event)

HELP = """\
Values are JSON where they parse as JSON, and text otherwise: n=3, tags='["a",
"b"]', topic=rivers."""
EVENT_HELP = f"{HELP} Where a field takes no number, topic=2024 is text too."


def add_fields(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("fields", nargs="*", metavar="KEY=VALUE", help=what)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """The values as they were typed, by their keys.

    Raises:
        UsageError: One is no ``key=value``, or a key is there twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{text!r} is not KEY=VALUE, such as topic=rivers")
        if key in found:
            raise UsageError(f"{key!r} is given twice: {found[key]!r} and {value!r}")
        found[key] = value
    return found


def value_of(text: str) -> Any:
    """What a typed value means: JSON if it is some, else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is a word, and no JSON")


def event_of(kind: type[E], typed: Mapping[str, str], like: E | None = None) -> E:
    """An event with these fields, and else those of ``like``.

    Raises:
        UsageError: It cannot be made of them.
    """
    from pydantic import ValidationError

    values = {} if like is None else {**vars(like), **like.to_dict()}
    values |= {key: value_of(text) for key, text in typed.items()}
    try:
        try:
            return kind(**values)
        except ValidationError as error:
            refused = {str(each["loc"][0]) for each in error.errors() if each["loc"]}
            as_text = {key: typed[key] for key in refused & typed.keys()}
            try:
                return kind(**values | as_text)
            except ValidationError:
                raise error from None
    except ValidationError as error:
        raise UsageError(
            f"{kind.__name__} cannot be made of this: {_faults(error)}; {_fields(kind)}"
        ) from error
    except TypeError as error:
        raise UsageError(f"{kind.__name__} cannot be made of this: {error}") from error


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'it'}: "
        f"{each['msg'][:1].lower()}{each['msg'][1:]}"
        for each in error.errors(include_url=False)
    )


def _fields(kind: type[Event]) -> str:
    said = [
        f"{name}: {getattr(field.annotation, '__name__', None) or field.annotation}"
        + ("" if field.is_required() else " (optional)")
        for name, field in kind.model_fields.items()
    ]
    return f"it has {', '.join(said)}" if said else "it declares no fields"

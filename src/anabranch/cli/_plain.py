"""What a store holds of events, read without the classes that they are of.

A stored value is plain data in which an object such as ``{"__anabranch__": "model", "t":
"flow.Answer", "v": {"text": "yes"}}`` stands for what JSON has no form for.
"""

from __future__ import annotations

from typing import Any, Final, cast

# As in anabranch.workflow.context.serializers, which takes a while to be imported.
KIND: Final = "__anabranch__"


def full_name(plain: Any) -> str:
    """The class of a stored event, error or class, with its module; empty if not known."""
    match plain:
        case {"t": str(name)}:
            return name
        case _:
            return ""


def short_name(plain: Any) -> str:
    """The class's name alone."""
    return full_name(plain).rpartition(".")[2] or "?"


def fields(plain: Any) -> dict[str, Any]:
    """The fields of a stored event."""
    value = readable(plain)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"value": value}


def error(plain: Any) -> str:
    """A stored error, with its type."""
    match plain:
        case {"t": str(), "v": message}:
            return f"{short_name(plain)}: {message}" if message else short_name(plain)
        case _:
            return "an error"


def readable(plain: Any) -> Any:
    """A stored value as JSON for people: an object is its fields, an error a sentence."""
    if isinstance(plain, list):
        items = cast("list[Any]", plain)  # type: ignore[redundant-cast]
        return [readable(item) for item in items]
    if not isinstance(plain, dict):
        return plain
    held = cast("dict[str, Any]", plain)
    value = held.get("v")
    match held.get(KIND):
        case None:
            return {key: readable(item) for key, item in held.items()}
        case "model":
            # A stop event keeps its result where its class does not show it.
            private = {key.lstrip("_"): item for key, item in held.get("p", {}).items()}
            return {key: readable(item) for key, item in {**private, **value}.items()}  # type: ignore[dict-item]
        case "dict":
            return {str(readable(key)): readable(item) for key, item in value or ()}
        case "class":
            return full_name(held)
        case "error":
            return error(held)
        case _:
            return readable(value)

"""numpy and pandas as contained code sees them (work in progress)."""

from __future__ import annotations

from typing import Any

from anabranch.sandbox.guards import Given, refuse

__all__ = ["attribute", "view_of"]


def attribute(value: Any, name: str) -> Any:
    return refuse(f"the attribute {name!r} of a {type(value).__name__}", "it is not offered")


def view_of(name: str) -> Given:
    return Given(f"module {name}", {})

"""Names for types that signatures of programs mention."""

from __future__ import annotations

from typing import Any, TypeVar

from anabranch.workflow.events import StopEvent

__all__ = ["RunResultT", "StopEventT"]

StopEventT = TypeVar("StopEventT", bound=StopEvent)
RunResultT = TypeVar("RunResultT", bound=StopEvent | Any)

"""Workflows that others use, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anabranch.errors import ServiceNotFoundError

if TYPE_CHECKING:
    from anabranch.workflow.workflow import Workflow

__all__ = ["ServiceManager", "ServiceNotFoundError"]


class ServiceManager:
    """Keeps workflows by the names under which steps ask for them."""

    def __init__(self) -> None:
        self._services: dict[str, Workflow] = {}

    def get(self, name: str, default: Workflow | None = None) -> Workflow:
        """The workflow of this name.

        Raises:
            ServiceNotFoundError: There is none, and no default was given.
        """
        service = self._services.get(name, default)
        if service is None:
            there = ", ".join(sorted(self._services)) or "none"
            raise ServiceNotFoundError(
                f"Service {name} not found: add it with add_workflows({name}=...); there "
                f"are: {there}"
            )
        return service

    def add(self, name: str, service: Workflow) -> None:
        """Put a workflow under this name, in the place of what was there."""
        self._services[name] = service

"""By what a step's annotations are told apart, without importing what they name."""

from __future__ import annotations


class IsContext:
    """The base of what a step is given as its context."""


class IsWorkflow:
    """The base of what a step may ask for as a service."""

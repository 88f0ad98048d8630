"""Options and fixtures for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_left_out = pytest.StashKey[int]()


# The same examples on every run: a failure is the change's doing. No time limit a case,
# since the first one loads a model.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("exhaustive", deadline=None, max_examples=1000)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("exhaustive" if config.getoption("--exhaustive") else "steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="also run the tests marked exhaustive: long kill and interleaving matrices",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--exhaustive"):
        return
    long = [item for item in items if item.get_closest_marker("exhaustive")]
    items[:] = [item for item in items if item not in long]
    config.stash[_left_out] = len(long)
    config.hook.pytest_deselected(items=long)


def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> None:
    """Says what was left out; `bin/test` repeats the line at its end."""
    if count := config.stash.get(_left_out, 0):
        terminalreporter.write_line(f"not run: {count} exhaustive tests (--exhaustive)")

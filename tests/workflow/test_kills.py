"""Real processes, killed with SIGKILL at every place, on every store: nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import database
from tests.workflow.mortal import EXPECTED, PARTS

PROGRAM = Path(__file__).with_name("mortal.py")
STORES = ["sqlite", "postgres"]
STEPS = 1 + PARTS + 1 + 4


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "runs.db")
    else:
        with database() as url:
            yield url


def lives(place: str, log: Path, *how: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-W", "error", str(PROGRAM), place, str(log), *how]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


def is_whole(told: dict[str, Any]) -> None:
    """Each step was recorded once, each event streamed once, nothing counted twice."""
    assert told["result"] == EXPECTED
    assert set(told["recorded"].values()) == {1}
    assert len(told["recorded"]) == STEPS
    assert set(told["said"].values()) == {1}
    assert len(told["said"]) == PARTS + 4


@pytest.mark.parametrize("place", STORES, indirect=True)
def test_a_run_that_is_killed_at_any_time_ends_as_if_it_had_not(
    place: str, tmp_path: Path
) -> None:
    [told] = lives(place, tmp_path / "log", "random", "1")
    is_whole(told)
    assert told["kills"] > 0


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", STORES, indirect=True)
def test_a_run_that_is_killed_at_any_commit_ends_as_if_it_had_not(
    place: str, tmp_path: Path
) -> None:
    told = lives(place, tmp_path / "log", "boundaries")
    for one in told:
        is_whole(one)
    print(f"{place[:6]}: {len(told)} kills at commits")
    assert len(told) > 20


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", STORES, indirect=True)
def test_many_runs_that_are_killed_at_many_times_end_as_if_they_had_not(
    place: str, tmp_path: Path
) -> None:
    kills = bodies = 0
    for seed in range(2, 22):
        [told] = lives(place, tmp_path / f"log{seed}", "random", str(seed))
        is_whole(told)
        kills += told["kills"]
        bodies += told["bodies"]
    print(f"{place[:6]}: {kills} kills at random times, {bodies} bodies for {20 * STEPS}")
    assert kills > 100

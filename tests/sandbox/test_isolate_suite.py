"""The cases of the suite in the isolate: attacks are contained, harmless code runs."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.isolate_program import runs_here
from tests.sandbox.suite.loader import Case, load
from tests.sandbox.test_policy_suite import NOT_OFFERED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

PROGRAM = Path(__file__).with_name("isolate_program.py")
ROOT = Path(__file__).parents[2]
ATTACKS = [case for case in load("attacks_isolate") if runs_here(case)]
HARMLESS = load("harmless")

# What is held where no layer is in force: a zygote is given another environment.
NEVER_GIVEN = {"host_memory-001", "host_memory-002", "host_memory-003"}


@dataclass(slots=True)
class Told:
    """What the program said.

    Attributes:
        faults: What is wrong with each case that ended, by its id.
        tripped: The canaries that each attack touched.
        facts: What was seen when all were done.
        died: If it did not come to that, how it ended, and in which cases.
    """

    faults: dict[str, str | None] = field(default_factory=dict)
    tripped: dict[str, set[str]] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)
    died: str | None = None

    def wrong(self, cases: Iterable[Case]) -> dict[str, str]:
        """The faults of these cases; that one was not run is a fault too."""
        faults = {case.id: self.faults.get(case.id, "was not run") for case in cases}
        return {name: fault for name, fault in faults.items() if fault is not None}


def told(what: str) -> Told:
    said = _told(what)
    assert said.died is None, said.died
    return said


@functools.cache
def _told(what: str) -> Told:
    return listened(
        [sys.executable, str(PROGRAM), what],
        {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )


def listened(command: list[str], environment: dict[str, str]) -> Told:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")
    said = Told()
    begun: set[str] = set()
    for line in done.stdout.splitlines():
        match json.loads(line):
            case {"begun": name}:
                begun.add(name)
            case {"id": name, "tripped": tripped}:
                said.tripped[name] = set(tripped)
            case {"id": name, "fault": fault}:
                said.faults[name] = fault
            case facts:
                said.facts |= facts
    if done.returncode:
        running = sorted(begun - said.faults.keys())
        said.died = f"status {done.returncode} during {running}: {done.stderr[-3000:]}"
    return said


def check(wrong: dict[str, str]) -> None:
    assert not wrong, "\n".join(f"{name}: {fault}" for name, fault in wrong.items())


def of(category: str, cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.category == category]


def categories(cases: list[Case]) -> list[str]:
    return list(dict.fromkeys(case.category for case in cases))


# ------------------------------------------------------------------ attacks


@pytest.mark.parametrize("category", categories(ATTACKS))
def test_attacks_are_contained_and_the_next_run_works(category: str) -> None:
    check(told("attacks").wrong(of(category, ATTACKS)))


def test_no_attack_leaves_a_process_behind() -> None:
    assert told("attacks").facts["left"] == 0
    assert told("attacks").facts["left_closed"] == 0


def test_no_attack_makes_the_host_large() -> None:
    # A few answers of the largest size that is allowed, as sixteen go on at once.
    assert told("attacks").facts["grown_bytes"] < 512 * 2**20


# ------------------------------------------------------------------ whether they can fail


def test_attacks_touch_their_canaries_where_no_layer_is_in_force() -> None:
    said = told("loose")
    stated = {case.id: set(case.trips) for case in ATTACKS if case.trips}
    assert said.tripped.keys() == stated.keys()
    idle = {name for name in stated if not stated[name] & said.tripped[name]}
    # Some need root, or a device that a machine may lack.
    assert len(idle - NEVER_GIVEN) <= len(stated) / 10, idle
    kinds: set[str] = set().union(*stated.values())
    # The folder that changes there is the child's own.
    assert kinds - set().union(*said.tripped.values()) <= {"working folder"}


def test_single_calls_get_through_where_only_the_filter_of_calls_is_missing() -> None:
    said = told("unfiltered")
    check({name: f for name, f in said.faults.items() if f and "tripped" not in f})
    # Half of them: what needs privileges is refused by the other layers.
    escaped = [name for name, tripped in said.tripped.items() if "escaped" in tripped]
    assert len(escaped) > 20


# ------------------------------------------------------------------ harmless code


@pytest.mark.parametrize("category", categories(HARMLESS))
def test_harmless_code_gives_its_result_in_a_sandbox(category: str) -> None:
    check(told("harmless").wrong(of(category, HARMLESS)))


@pytest.mark.parametrize("category", categories(HARMLESS))
def test_harmless_code_gives_its_result_under_the_policy_too(category: str) -> None:
    cases = [case for case in of(category, HARMLESS) if case.layer != "isolate"]
    wrong = {
        name: fault
        for name, fault in told("evaluated").wrong(cases).items()
        if not any(text in fault for text in NOT_OFFERED.values())
    }
    check(wrong)


# ------------------------------------------------------------------ as an ordinary user


@pytest.mark.exhaustive
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to become somebody else")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv and unshare")
@pytest.mark.parametrize("what", ["attacks", "loose"])
def test_it_is_the_same_for_an_ordinary_user(what: str) -> None:
    said = as_nobody(what)
    assert said.died is None, said.died
    if what == "attacks":
        check(said.wrong(ATTACKS))
        assert said.facts["left"] == said.facts["left_closed"] == 0
    else:
        # Most of them: some of the rest only root is allowed.
        assert sum(map(bool, said.tripped.values())) > 0.8 * len(said.tripped)


def as_nobody(what: str) -> Told:
    # The interpreter may lie where only root may go: it is mounted where anybody may.
    with tempfile.TemporaryDirectory(prefix="anabranch-python-") as name:
        place = Path(name)
        place.chmod(0o755)
        python = place / Path(sys.executable).resolve().relative_to(sys.base_prefix)
        script = 'mount --bind "$1" "$2" && shift 2 && exec setpriv "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.base_prefix, name]
        command += ["--reuid=65534", "--regid=65534", "--clear-groups", str(python)]
        paths = [path for path in sys.path if path.startswith(str(ROOT))]
        environment: dict[str, Any] = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *paths]),
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": str(place / "lib"),
        }
        return listened([*command, str(PROGRAM), what], environment)

"""Programs made up by a grammar, behind the policy: see policy_fuzz_program.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.policy_fuzz import program

pytest.importorskip("pandas", reason="the grammar speaks of tables too")

PROGRAM = Path(__file__).with_name("policy_fuzz_program.py")
ROOT = Path(__file__).parents[2]


def found(kind: str, first: int, count: int, *, seconds: float) -> list[dict[str, object]]:
    command = [sys.executable, str(PROGRAM), kind, str(first), str(count)]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["run"] > 0
    faults: list[dict[str, object]] = told["found"]
    return faults


def test_a_seed_gives_the_same_program_each_time() -> None:
    assert program(7, wild=True) == program(7, wild=True)
    assert program(7, wild=True).source != program(8, wild=True).source


@pytest.mark.parametrize("kind", ["tame", "wild"])
def test_programs_of_the_grammar_are_contained_and_give_what_python_gives(
    kind: str,
) -> None:
    assert found(kind, 0, 100, seconds=60) == []


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_many_programs_of_the_grammar_are_contained_too() -> None:
    assert found("both", 10_000, 1_000_000, seconds=600) == []

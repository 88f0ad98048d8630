"""The cases of the suite behind the policy: attacks are contained, harmless code runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.suite.loader import load

PROGRAM = Path(__file__).with_name("policy_program.py")
ROOT = Path(__file__).parents[2]
ATTACKS = sorted({case.category for case in load("attacks_policy")})
HARMLESS = sorted({case.category for case in load("harmless") if case.layer != "isolate"})

# What the policy does not offer; each of it runs in the isolate.
NOT_OFFERED = {
    "needs a class": "a class is refused",
    "needs with": "`with` is refused",
    "needs await": "`async def` is refused",
    "needs another module": "no view of the module",
}


def outcome(name: str, category: str) -> dict[str, Any]:
    command = [sys.executable, str(PROGRAM), name, category]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def is_slow(category: str) -> bool:
    return category.startswith("exhaustion")


@pytest.mark.parametrize("category", [name for name in ATTACKS if not is_slow(name)])
def test_attacks_are_contained(category: str) -> None:
    told = outcome("attacks_policy", category)
    assert told["cases"] > 0
    assert told["wrong"] == {}


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("category", [*filter(is_slow, ATTACKS)])
def test_what_would_exhaust_the_machine_is_stopped(category: str) -> None:
    assert outcome("attacks_policy", category)["wrong"] == {}


@pytest.mark.parametrize("category", HARMLESS)
def test_harmless_code_gives_its_result_or_asks_for_the_isolate(category: str) -> None:
    told = outcome("harmless", category)
    unknown = {
        case: fault
        for case, fault in told["wrong"].items()
        if not any(text in fault for text in NOT_OFFERED.values())
    }
    assert unknown == {}

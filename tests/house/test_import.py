"""Importing anabranch is cheap, and every name it offers is there."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "httpx",
    "numpy",
    "onnxruntime",
    "pydantic",
    "requests",
    "sqlite3",
    "tenacity",
    "tokenizers",
    "tqdm",
    "urllib3",
}
PACKAGES = [
    "anabranch",
    "anabranch.clock",
    "anabranch.errors",
    "anabranch.jobs",
    "anabranch.observe",
    "anabranch.rag",
    "anabranch.testing",
    "anabranch.workflow",
]


def loaded_by(statement: str) -> tuple[set[str], float]:
    """The top-level modules that *statement* loads in a new process, and its seconds."""
    program = (
        "import json, sys, time; before = set(sys.modules); start = time.process_time(); "
        f"{statement}; seconds = time.process_time() - start; "
        "print(json.dumps([sorted(set(sys.modules) - before), seconds]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    modules, seconds = json.loads(done.stdout)
    return {name.partition(".")[0] for name in modules}, seconds


def test_importing_anabranch_loads_nothing_heavy_in_under_100_ms() -> None:
    runs = [loaded_by("import anabranch") for _ in range(3)]
    assert not runs[0][0] & (HEAVY | {"asyncio"})
    assert min(seconds for _, seconds in runs) < 0.1


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_room_loads_no_extra(package: str) -> None:
    loaded, _ = loaded_by(f"import {package}")
    # What a room is made of: numbers and the embedded store, or models and strategies.
    own = {
        "anabranch.rag": {"numpy", "sqlite3"},
        "anabranch.workflow": {"pydantic", "tenacity"},
    }
    assert not loaded & (HEAVY - own.get(package, set()))


def test_a_room_whose_extra_is_missing_says_how_to_get_it() -> None:
    program = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"
        "try: import anabranch.rag\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == "anabranch.rag needs numpy: pip install 'anabranch[rag]'\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__, f"{package} says nothing of what is public"
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    import anabranch

    with pytest.raises(AttributeError, match="no_such_name"):
        anabranch.no_such_name  # noqa: B018

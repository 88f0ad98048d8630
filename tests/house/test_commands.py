"""The commands in bin/ find a Python, and what they make is whole or not there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.house.repository import ROOT

if TYPE_CHECKING:
    from types import ModuleType

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.12" if VERSION == "3.11" else "3.11"


def script(file: Path, body: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def python() -> str:
    """The body of a script that behaves as the Python which runs this test."""
    return f'exec "{sys.executable}" "$@"'


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with what a fresh machine has, but for Python."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("cat", "cksum", "sed", "dirname", "readlink", "sh", "tr"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def run(
    command: list[str | Path], *folders: Path, home: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": ":".join(map(str, folders)), "HOME": str(home), "LC_ALL": "C"},
    )


class TestFindingAPython:
    def test_a_stand_in_that_fails_is_passed_over(
        self, tmp_path: Path, tools: Path, python: str
    ) -> None:
        script(
            tmp_path / "shims/python3", "echo 'python3: command not found' >&2; exit 127"
        )
        good = script(tmp_path / "good/python3", python)
        done = run(
            [ROOT / "bin/_venv", "--find"],
            tmp_path / "shims",
            good.parent,
            tools,
            home=tmp_path,
        )
        assert done.stdout.strip() == str(good)

    def test_one_that_a_version_manager_keeps_off_the_path_is_found(
        self, tmp_path: Path, tools: Path, python: str
    ) -> None:
        kept = tmp_path / f".pyenv/versions/{VERSION}.1/bin/python{VERSION}"
        script(kept, python)
        script(tmp_path / f"shims/python{VERSION}", "exit 127")
        done = run(
            [ROOT / "bin/_venv", "--find", "--python", VERSION],
            tmp_path / "shims",
            tools,
            home=tmp_path,
        )
        assert done.stdout.strip() == str(kept)

    def test_one_of_another_version_is_not_taken(
        self, tmp_path: Path, tools: Path, python: str
    ) -> None:
        script(tmp_path / f"good/python{OTHER}", python)
        script(tmp_path / "good/python3", python)
        done = run(
            [ROOT / "bin/_venv", "--find", f"--python={OTHER}"],
            tmp_path / "good",
            tools,
            home=tmp_path,
        )
        assert done.returncode == 3

    def test_without_any_it_says_what_to_do(self, tmp_path: Path, tools: Path) -> None:
        done = run([ROOT / "bin/test", "--list"], tools, home=tmp_path)
        assert done.returncode == 3
        assert "needs Python 3.11 or later" in done.stderr
        assert "apt-get install python3" in done.stderr

    def test_nonsense_is_wrong_use(self, tmp_path: Path, tools: Path) -> None:
        done = run([ROOT / "bin/_venv", "test", "--python", "new"], tools, home=tmp_path)
        assert done.returncode == 2
        assert "not 'new'" in done.stderr


def test_a_demo_whose_environment_is_ready_starts_at_once_wherever_it_lies(
    tmp_path: Path, tools: Path, python: str
) -> None:
    tree = tmp_path / "a folder's name"
    shutil.copytree(
        ROOT / "bin", tree / "bin", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "constraints", tree / "constraints")
    shutil.copy(ROOT / "pyproject.toml", tree)
    script(tree / ".venv/bin/python", python)
    script(tree / ".venv/bin/anabranch", 'printf "<%s>" "$@"')
    made_from = subprocess.run(
        "sed '/^\\[tool\\./,$d' pyproject.toml | cat - constraints/pinned.txt bin/_venv.py | cksum",
        shell=True,
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (tree / ".venv/anabranch.stamp").write_text(f"test {made_from} {tree.resolve()}\n")
    link = tmp_path / "demo"
    link.symlink_to(tree / "bin/demo")

    done = run([link, "--all", "--python", VERSION, "two words"], tools, home=tmp_path)

    assert done.stdout == "<demo><--all><two words>", done.stderr


class TestMakingAnEnvironment:
    @pytest.fixture
    def maker(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """``bin/_venv.py`` with its two slow steps replaced by quick ones."""
        spec = importlib.util.spec_from_file_location("maker", ROOT / "bin/_venv.py")
        assert spec is not None
        assert spec.loader is not None
        maker = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(maker)

        def make(venv: Path) -> int:
            shutil.rmtree(venv, ignore_errors=True)
            (venv / "bin").mkdir(parents=True)
            (venv / "bin/python").symlink_to(sys.executable)
            return 0

        monkeypatch.setattr(maker, "make", make)
        monkeypatch.setattr(maker, "install", lambda venv, goal: 0)
        return maker

    def stamp(self, text: str = "1 2") -> str:
        return f"{text} {ROOT}"

    def test_the_stamp_is_written_last(self, maker: ModuleType, tmp_path: Path) -> None:
        venv = tmp_path / ".venv"

        def interrupted(venv: Path, goal: str) -> int:
            assert not (venv / "anabranch.stamp").exists()
            raise KeyboardInterrupt

        maker.install = interrupted  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            maker.main(venv, "demo", self.stamp())
        assert venv.is_dir()
        assert not (venv / "anabranch.stamp").exists()

    def test_one_that_was_interrupted_is_made_anew(
        self, maker: ModuleType, tmp_path: Path
    ) -> None:
        venv = tmp_path / ".venv"
        maker.make(venv)
        half = venv / "half-written"
        half.touch()
        assert maker.main(venv, "demo", self.stamp()) == 0
        assert not half.exists()
        assert (venv / "anabranch.stamp").read_text() == f"demo {self.stamp()}\n"

    def test_one_whose_python_is_gone_is_made_anew(
        self, maker: ModuleType, tmp_path: Path
    ) -> None:
        venv = tmp_path / ".venv"
        assert maker.main(venv, "demo", self.stamp()) == 0
        (venv / "bin/python").unlink()
        (venv / "bin/python").symlink_to(tmp_path / "gone")
        assert maker.main(venv, "demo", self.stamp()) == 0
        assert os.access(venv / "bin/python", os.X_OK)

    def test_a_change_of_pins_keeps_it_and_what_it_is_for(
        self, maker: ModuleType, tmp_path: Path
    ) -> None:
        venv = tmp_path / ".venv"
        assert maker.main(venv, "test", self.stamp("1 2")) == 0
        kept = venv / "kept"
        kept.touch()
        assert maker.main(venv, "demo", self.stamp("3 4")) == 0
        assert kept.exists()
        assert (venv / "anabranch.stamp").read_text() == f"test {self.stamp('3 4')}\n"

    def test_a_failed_installation_leaves_no_stamp(
        self, maker: ModuleType, tmp_path: Path
    ) -> None:
        maker.install = lambda venv, goal: 1  # type: ignore[attr-defined]
        assert maker.main(tmp_path / ".venv", "demo", self.stamp()) == 1
        assert not (tmp_path / ".venv/anabranch.stamp").exists()


def test_everything_that_is_installed_is_pinned() -> None:
    from importlib.metadata import distributions

    stamp = Path(sys.prefix) / "anabranch.stamp"
    if not stamp.exists():
        pytest.skip("needs an environment made by bin/test")
    pins = "\n".join(file.read_text() for file in (ROOT / "constraints").glob("*.txt"))
    pinned = {line.split(" ")[0] for line in pins.splitlines()}
    installed = {
        f"{each.name.lower().replace('_', '-').replace('.', '-')}=={each.version}"
        for each in distributions()
        if each.name not in {"anabranch", "setuptools"}
    }
    assert installed <= pinned

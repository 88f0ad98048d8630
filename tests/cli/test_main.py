"""What every command does alike: help, speed, closed pipes, missing extras, terminals."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import anabranch as package
from anabranch.cli import main
from tests.cli.command import PROGRAM, anabranch, environment

COMMANDS = ["index", "ask", "demo", "run", "runs", "worker", "exec", "doctor"]
RUNS = "list show events export start send resume retry fork cancel purge".split()


def test_the_version(tmp_path: Path) -> None:
    done = anabranch("--version", cwd=tmp_path)
    assert done.stdout == f"anabranch {package.__version__}\n"


def test_python_m_is_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "anabranch", "--version"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"anabranch {package.__version__}\n"


@pytest.mark.parametrize("command", [*COMMANDS, *(f"runs {name}" for name in RUNS)])
def test_help_has_an_example_and_the_exit_statuses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"  anabranch {command}" in shown.partition("example")[2]
    assert "exit status:" in shown
    assert max(map(len, shown.splitlines())) <= 86


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import json, sys; from anabranch.cli import main; main(['runs', '--help']);"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {"asyncio", "numpy", "aiohttp", "sqlite3", "tqdm", "pydantic"}


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["index", "--frobnicate"]])
def test_wrong_use_is_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "usage: anabranch" in capsys.readouterr().err


def test_nobody_reading_is_no_reason_to_complain(made: Path) -> None:
    process = subprocess.Popen(
        [PROGRAM, "ask", "install", "--from", "ix"],
        cwd=made,
        env=environment(made),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"], ids=["out", "err", "both"])
def test_closed_streams_are_no_failure(made: Path, closed: str) -> None:
    done = subprocess.run(
        f'"{PROGRAM}" ask install --from ix {closed}',
        shell=True,
        cwd=made,
        env=environment(made),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert ("Guide" in done.stdout) is (closed == "2>&-")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_told(made: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "ask", "install", "--from", "ix"],
            cwd=made,
            env=environment(made),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "anabranch: no space left on device\n"


def test_an_encoding_that_lacks_a_character_is_no_failure(made: Path) -> None:
    done = anabranch(
        "ask", "volcanoes", "--from", "ix", cwd=made, env={"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0
    assert "\\ufffd" in done.stdout


def test_a_missing_package_is_told_with_the_command_that_installs_it() -> None:
    program = (
        "import sys; sys.modules['numpy'] = None; from anabranch.cli import main;"
        "sys.exit(main(['ask', 'x', '--from', 'ix']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'anabranch[rag]'" in done.stderr


@pytest.mark.parametrize("debug", [False, True])
def test_a_fault_of_ours_is_a_sentence_and_debug_shows_where(
    debug: bool,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_folder: object, **_options: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("anabranch.rag.open_index", fail)
    arguments = ["ask", "x", "--from", str(made / "ix"), *(["--debug"] if debug else [])]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "something unforeseen happened (KeyError: 'surprise')" in said
    assert ("Traceback" in said) is debug


class TestOnATerminal:
    def shown(
        self, made: Path, *arguments: str, env: dict[str, str] | None = None
    ) -> tuple[str, str]:
        """Standard output and error as two terminals saw them."""
        terminals = [pty.openpty() for _ in range(2)]
        for _, inner in terminals:
            termios.tcsetwinsize(inner, (24, 80))
        process = subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=made,
            env=environment(made, {"TERM": "xterm", **(env or {})}),
            stdout=terminals[0][1],
            stderr=terminals[1][1],
        )
        for _, inner in terminals:
            os.close(inner)
        texts = [self.everything(outer) for outer, _ in terminals]
        assert process.wait(30) == 0
        return texts[0], texts[1]

    def everything(self, outer: int) -> str:
        data = b""
        try:
            while piece := os.read(outer, 65536):
                data += piece
        except OSError as error:
            if error.errno != errno.EIO:  # which is how Linux tells the end
                raise
        finally:
            os.close(outer)
        return data.decode()

    def test_there_is_a_bar_and_a_little_weight(self, made: Path) -> None:
        out, err = self.shown(made, "index", "docs", "--into", "ix")
        assert "indexing: 100%|" in err
        assert "4/4" in err
        assert "\x1b[2msources" in out

    def test_titles_are_bold(self, made: Path) -> None:
        out, _ = self.shown(made, "ask", "install", "--from", "ix")
        assert "\x1b[1mGuide\x1b[0m" in out

    def test_no_color_is_respected(self, made: Path) -> None:
        out, _ = self.shown(made, "ask", "install", "--from", "ix", env={"NO_COLOR": "1"})
        assert "\x1b" not in out

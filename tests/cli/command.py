"""The real command, in a process of its own, as its users meet it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("anabranch")


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of ours but the home, so that no test sees another's cache or keys."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), "COLUMNS": "80", **(more or {})}


def anabranch(
    *arguments: str | Path,
    cwd: Path,
    stdin: str | bytes = "",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=cwd,
        input=data,
        env=environment(cwd, env),
        check=False,
        capture_output=True,
        timeout=60,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


class Started:
    """The command, under way in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def wait_until_it_says(self, text: str) -> None:
        assert self.process.stderr is not None
        while text not in self.said:
            line = self.process.stderr.readline()
            assert line, f"it ended without saying {text!r}: {self.said}"
            self.said += line

    def end(self, number: int | None = None) -> tuple[int, str, str]:
        """Its exit status, standard output and the rest of standard error."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def suggested(said: str) -> list[str]:
    """The arguments of the command that was suggested last."""
    lines = [line for line in said.splitlines() if line.startswith("    anabranch ")]
    return shlex.split(lines[-1])[1:]

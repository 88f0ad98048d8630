"""The real command, in a process of its own, as its users meet it."""

from __future__ import annotations

import os
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

"""Makes or repairs a virtual environment; called by ``bin/_venv`` when one is due.

The stamp inside the environment is removed before anything changes and written after
everything is done. So an environment without a stamp was interrupted and is made anew.
One process works at a time: the lock is the kernel's, and the pip that a process
starts holds it too, so an orphan of a killed run is waited for.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"demo": "rag,static,pdf", "test": "all"}


def main(venv: Path, goal: str, stamp: str) -> int:
    with Path(f"{venv}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that is making {venv.name} ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)

        stamp_file = venv / "anabranch.stamp"
        have_goal, have_stamp = read_stamp(stamp_file)
        if have_stamp == stamp and have_goal in {goal, "test"} and runs(venv):
            return 0  # the other run did it
        goal = "test" if have_goal == "test" else goal
        anew = not runs(venv) or not have_stamp.endswith(f" {ROOT}")
        stamp_file.unlink(missing_ok=True)

        if anew:
            what = f"making {venv.name} with Python {sys.version.split()[0]}"
        elif have_stamp == stamp:
            what = f"adding what bin/{goal} needs to {venv.name}"
        else:
            what = f"updating {venv.name}, since what it is made from has changed"
        print(f"{what} ...", flush=True)
        started = time.monotonic()
        status = make(venv) if anew else 0
        status = status or install(venv, goal)
        if status:
            return status
        temporary = stamp_file.with_suffix(".new")
        temporary.write_text(f"{goal} {stamp}\n")
        temporary.replace(stamp_file)
        print(f"{venv.name} is ready after {time.monotonic() - started:.0f} s", flush=True)
        return 0


def read_stamp(file: Path) -> tuple[str, str]:
    try:
        goal, _, stamp = file.read_text().strip().partition(" ")
    except FileNotFoundError:
        return "", ""
    return goal, stamp


def runs(venv: Path) -> bool:
    try:
        return subprocess.run([venv / "bin/python", "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def make(venv: Path) -> int:
    shutil.rmtree(venv, ignore_errors=True)
    return run([sys.executable, "-m", "venv", str(venv)])


def install(venv: Path, goal: str) -> int:
    """Installs the pinned versions, wheels only, the project itself in place."""
    pip = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install"]
    pins = ROOT / "constraints/pinned.txt"
    pinned = [f"--constraint={pins}", "--only-binary=:all:"]
    project = f"{ROOT}[{EXTRAS[goal]}]"
    group = [f"--group={ROOT}/pyproject.toml:dev"] if goal == "test" else []
    return (
        # The pip that came with Python may be too old for dependency groups.
        run([*pip, *pinned, "--upgrade", "pip", "hatchling"])
        or run([*pip, *pinned, *group, "--no-build-isolation", "--editable", project])
    )


def run(command: list[str]) -> int:
    """Runs *command* without its output, which is shown when it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        close_fds=False,  # lets it hold the lock
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout, flush=True)
        print(
            f"failed: {' '.join(command)}\n"
            "If the package registry could not be reached, run this again: "
            "it starts where it must.",
            flush=True,
        )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))

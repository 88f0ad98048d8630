"""Runs every check of the project and ends with a table of results and seconds.

A check that fails does not keep the others from running. The quick ones run side by
side, their output shown only if they fail; the tests then run alone, since some of them
measure time. The exit status is 1 if a check failed, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest")


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    about: str
    command: tuple[str, ...]
    is_quick: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    check: Check
    status: int
    seconds: float
    skipped: list[str] = field(default_factory=list)


CHECKS = (
    Check(
        "format", "ruff format", (PYTHON, "-m", "ruff", "format", "--check", "--diff", "-q")
    ),
    Check("lint", "ruff check", (PYTHON, "-m", "ruff", "check", "-q")),
    Check("mypy", "types, strict", (PYTHON, "-m", "mypy")),
    Check(
        "pyright",
        "types, strict on the package",
        (PYTHON, "-m", "pyright", "--pythonpath", PYTHON),
    ),
    Check(
        "imports",
        "who may import whom",
        (str(Path(PYTHON).with_name("lint-imports")),),
    ),
    Check(
        "docs",
        "the manual builds without a warning",
        (PYTHON, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "docs/_build/html"),
    ),
    Check(
        "tests",
        "the tests of the package and of the repository",
        (*PYTEST, "tests", "--ignore=tests/docs"),
        is_quick=False,
    ),
    Check(
        "examples",
        "every example of README, docs/ and examples/ runs",
        (*PYTEST, "tests/docs"),
        is_quick=False,
    ),
)


def main() -> int:
    options = parse()
    if options.list:
        for check in CHECKS:
            print(f"{check.name:<10}{check.about}")
        return 0

    names = {check.name for check in CHECKS}
    chosen = set(options.only) or names
    if options.keyword or options.paths:
        chosen = {"tests"}
    checks = [with_options(check, options) for check in CHECKS if check.name in chosen]
    quick = [check for check in checks if check.is_quick]
    alone = [check for check in checks if not check.is_quick]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(run_quietly, quick))
    results += [run_in_sight(check) for check in alone]

    report(results, not_chosen=sorted(names - chosen), options=options)
    return int(any(result.status for result in results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/test",
        description="Run every check of the project, or some of them.",
        epilog="Examples: bin/test --only lint,mypy    bin/test -k fusion    "
        "bin/test tests/jobs    bin/test --python 3.13 --exhaustive",
    )
    parser.add_argument(
        "paths", nargs="*", help="run only the tests in these files or folders"
    )
    parser.add_argument(
        "-k", dest="keyword", help="run only the tests that match, as pytest's -k"
    )
    parser.add_argument(
        "--only",
        metavar="NAME[,NAME]",
        type=check_names,
        default=[],
        help=f"run only these checks: {', '.join(check.name for check in CHECKS)}",
    )
    parser.add_argument(
        "--exhaustive",
        action="store_true",
        help="add the long kill and interleaving matrices",
    )
    parser.add_argument(
        "--python",
        metavar="X.Y",
        help="use this Python (in .venv-X.Y) instead of the default one",
    )
    parser.add_argument("--list", action="store_true", help="name the checks and stop")
    return parser.parse_args()


def check_names(text: str) -> list[str]:
    names = text.split(",")
    known = [check.name for check in CHECKS]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"there is no check '{name}'; there are {', '.join(known)}"
            )
    return names


def with_options(check: Check, options: argparse.Namespace) -> Check:
    if check.is_quick:
        return check
    command = list(check.command)
    if check.name == "tests" and options.paths:
        command = [*PYTEST, *(str(Path(path).resolve()) for path in options.paths)]
    if options.keyword:
        command += ["-k", options.keyword]
    if options.exhaustive:
        command.append("--exhaustive")
    if sys.stdout.isatty():
        command.append("--color=yes")
    return Check(check.name, check.about, tuple(command), check.is_quick)


def run_quietly(check: Check) -> Result:
    started = time.monotonic()
    done = subprocess.run(
        check.command,
        cwd=ROOT,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    seconds = time.monotonic() - started
    verdict = "FAILED" if done.returncode else "ok"
    lines = [f"{verdict:<8}{check.name:<10}{seconds:6.1f} s"]
    if done.returncode:
        lines = [f"$ {readable(check.command)}", done.stdout.rstrip(), *lines]
    # One write, so that two checks which end together do not mix their lines.
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    return Result(check, done.returncode, seconds)


def run_in_sight(check: Check) -> Result:
    """Runs pytest before the reader's eyes and keeps what it said it skipped."""
    print(f"$ {readable(check.command)}", flush=True)
    started = time.monotonic()
    output = bytearray()
    with subprocess.Popen(
        check.command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        # Piece by piece rather than line by line: the dots of a line come one at a time.
        while piece := os.read(process.stdout.fileno(), 65536):
            output += piece
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    text = re.sub(r"\x1b\[[0-9;]*m", "", output.decode(errors="replace"))
    skipped = re.findall(r"^(?:SKIPPED|not run:) .*", text, flags=re.MULTILINE)
    return Result(check, process.returncode, time.monotonic() - started, skipped)


def readable(command: tuple[str, ...]) -> str:
    return shlex.join(word.removeprefix(f"{ROOT}/") for word in command)


def report(
    results: list[Result], *, not_chosen: list[str], options: argparse.Namespace
) -> None:
    print(f"\n{'check':<10}{'seconds':>8}  result   (Python {sys.version.split()[0]})")
    for result in results:
        verdict = f"FAILED, status {result.status}" if result.status else "ok"
        print(f"{result.check.name:<10}{result.seconds:8.1f}  {verdict}")
    total = sum(result.seconds for result in results)
    failed = [result.check.name for result in results if result.status]
    print(f"{'':<10}{total:8.1f}  {'failed: ' + ', '.join(failed) if failed else 'all ok'}")

    skipped = [line for result in results for line in result.skipped]
    if not_chosen:
        skipped.append(f"checks not chosen: {', '.join(not_chosen)}")
    if not options.python:
        skipped.append("other interpreters: bin/test --python 3.12, --python 3.13")
    print("\nskipped:")
    for line in skipped:
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())

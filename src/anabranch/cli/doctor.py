"""``anabranch doctor``: what is here, what is missing, and the command for it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch import __version__
from anabranch.cli._errors import sentence
from anabranch.cli._help import Command
from anabranch.cli._terminal import Weight, plain, size
from anabranch.errors import ModelError

if TYPE_CHECKING:
    from anabranch.cli._extras import Requirement

_EXAMPLE = """\
examples:
  anabranch doctor
  anabranch doctor --json | jq '.checks[] | select(.ok == false)'

With --json, standard output is one object: ok, and checks, each with group, name, ok
(null for what is only told), found, and remedy. An extra that is not installed is no
fault: the exit status is 1 only if something that is needed does not work."""

_LEAST_SQLITE = (3, 35)  # RETURNING
_LEAST_OPEN_FILES = 256


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        group: What it belongs to.
        name: What was looked at.
        found: What is there.
        ok: Whether it will do; ``None`` for what is only told.
        remedy: What to do about it.
        is_required: Whether nothing works without.
    """

    group: str
    name: str
    found: str
    ok: bool | None = None
    remedy: str = ""
    is_required: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def run(args: argparse.Namespace) -> int:
    checks = [*_machine(), *_sandbox(), *_packages(), *_models()]
    is_well = all(check.ok for check in checks if check.is_required)
    if args.json:
        print(json.dumps({"ok": is_well, "checks": [asdict(check) for check in checks]}))
    else:
        print(_render(checks))
        print(
            "\nAll that is needed works."
            if is_well
            else "\nSomething that is needed does not work: see its remedy above."
        )
    return 0 if is_well else 1


def _machine() -> Iterator[Check]:
    import platform

    from anabranch.jobs.cores import usable_cores

    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield Check("machine", "anabranch", __version__)
    yield Check("machine", "Python", f"{python} ({sys.executable})")
    yield Check("machine", "platform", platform.platform())
    yield Check("machine", "event loop", _event_loop())
    yield Check("machine", "cores", f"{usable_cores()} usable of {os.cpu_count()}")
    yield Check("machine", "memory", _memory())
    yield _open_files()
    yield _sqlite()


def _event_loop() -> str:
    import asyncio

    from anabranch.jobs import asyncio_run

    async def loop() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    return asyncio_run(loop())


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text("ascii").strip()).isdigit():
        return f"{size(min(total, int(text)))} (limited by its container)"
    return size(total)


def _open_files() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    found = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} (at most {most})"
    enough = soft == resource.RLIM_INFINITY or soft >= _LEAST_OPEN_FILES
    return Check("machine", "open files", found, enough, "" if enough else "ulimit -n 1024")


def _sqlite() -> Check:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(":memory:")) as db:
        try:
            db.execute("CREATE VIRTUAL TABLE probe USING fts5(text)")
            has_fts5 = True
        except sqlite3.Error:
            has_fts5 = False
    ok = has_fts5 and sqlite3.sqlite_version_info >= _LEAST_SQLITE
    found = f"{sqlite3.sqlite_version}, {'with' if has_fts5 else 'without'} FTS5"
    remedy = "" if ok else "use a Python whose SQLite is 3.35 or later and has FTS5"
    return Check("machine", "SQLite", found, ok, remedy, is_required=True)


def _sandbox() -> Iterator[Check]:
    from anabranch.sandbox import Layer, probe

    found = probe()
    for layer in Layer:
        why = found.missing.get(layer)
        version = f", ABI {found.landlock_abi}" if layer == "landlock" and not why else ""
        yield Check(
            "sandbox",
            str(layer),
            why or f"holds{version}",
            why is None,
            "" if why is None else "without it, Sandbox needs require='process'",
        )


def _packages() -> Iterator[Check]:
    from anabranch.cli._extras import requirements

    extras: dict[str, list[Requirement]] = {}
    for each in requirements():
        extras.setdefault(each.extra, []).append(each)
    for extra, asked in extras.items():
        unmet = [each for each in asked if not each.is_met]
        target = f"'anabranch[{extra}]'" if extra else "--force-reinstall anabranch"
        yield Check(
            "packages",
            extra or "required",
            ", ".join(map(_unmet, unmet)) if unmet else "installed",
            not unmet,
            f"pip install {target}" if unmet else "",
            is_required=not extra,
        )


def _unmet(requirement: Requirement) -> str:
    if requirement.installed is None:
        return f"{requirement.name} is missing"
    return f"{requirement.name} is {requirement.installed}, not {requirement.wanted}"


def _models() -> Iterator[Check]:
    try:
        from anabranch.rag import MODELS
    except ImportError:
        remedy = "pip install 'anabranch[rag,static]'"
        yield Check("models", "all", "not installed", ok=False, remedy=remedy)
        return
    for name, load in MODELS.items():
        try:
            model = load()
        except ImportError as error:
            remedy = sentence(error).rpartition(": ")[2]
            yield Check("models", name, "not installed", ok=False, remedy=remedy)
        except ModelError as error:
            # What is missing was not wanted; what is damaged was.
            remedy = str(error).rpartition("; ")[2]
            yield Check(
                "models", name, str(error), ok=False, remedy=remedy, is_required=True
            )
        else:
            found = f"{model.name}, {model.dimensions} dimensions, digest verified"
            yield Check("models", name, found, ok=True)


_SIGNS: Mapping[bool | None, str] = {True: "ok", False: "--", None: "  "}


def _render(checks: Sequence[Check]) -> str:
    weight = Weight(sys.stdout)
    lines: list[str] = []
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            lines += [*([""] if lines else []), weight.bold(group)]
        lines.append(f"  {_SIGNS[check.ok]} {check.name:<12} {plain(check.found)}")
        if check.remedy:
            lines.append(f"     {'':<12} {weight.dim(check.remedy)}")
    return "\n".join(lines)


COMMAND = Command(
    name="doctor",
    summary="tell what is installed, what is missing, and the command that installs it",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)

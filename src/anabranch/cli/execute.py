"""``anabranch exec``: code you did not write, in a confined process."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from anabranch.cli import _fields
from anabranch.cli._help import Command, positive_seconds
from anabranch.cli._terminal import say
from anabranch.errors import LimitExceeded, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anabranch.sandbox import Grant, Result

_EXAMPLE = f"""\
examples:
  anabranch exec snippet.py n=3
  echo 'sum(numbers)' | anabranch exec - numbers='[1, 2, 3]'
  anabranch exec report.py --import pandas --grant ./tables --memory 1G --time 60

The code runs in a fresh process without network, files, environment or other
processes. It sees the standard library, the libraries given with --import, and the
files given with --grant, at their absolute paths. What it prints goes to standard
output and error. The value of its last statement, if that is an expression, is
printed last: a text as it is, anything else as JSON where it can be. With --json it
is one object: value, stdout, stderr, error (type_name, message, line, traceback; or
null), wall_s, cpu_s, memory_bytes.

{_fields.HELP}"""

_OPTIONS = {"wall_s": "--time", "cpu_s": "--time", "memory_bytes": "--memory"}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE|-", help="the code; - reads standard input")
    _fields.add_fields(parser, "a name and the value that the code finds under it")
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="NAME",
        help="a library that the code may import; may be given again",
    )
    parser.add_argument(
        "--grant",
        action="append",
        default=[],
        metavar="PATH",
        help="a file or folder that the code may read; may be given again",
    )
    parser.add_argument(
        "--scratch", type=_bytes, metavar="SIZE", help="an empty /scratch to write to"
    )
    parser.add_argument(
        "--time",
        type=positive_seconds,
        default=30.0,
        metavar="S",
        help="seconds (default: 30)",
    )
    parser.add_argument(
        "--memory",
        type=_bytes,
        default=512 * 2**20,
        metavar="SIZE",
        help="what it may allocate, such as 256M (default: 512M)",
    )
    parser.add_argument(
        "--require",
        choices=["full", "process"],
        default="full",
        help="all layers of confinement (default), or whatever this machine has",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([0-9]+)([KMG]?)i?B?", text, re.IGNORECASE)
    if found is None or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 256M")
    return int(found[1]) * _UNITS[found[2].upper()]


def run(args: argparse.Namespace) -> int:
    typed = _fields.pairs(args.fields)
    source = sys.stdin.read() if args.file == "-" else _read(args.file)

    from anabranch.jobs import asyncio_run
    from anabranch.sandbox import Limits, ReadOnly, Sandbox, Scratch

    grants: list[Grant] = [ReadOnly(Path(path).resolve()) for path in args.grant]
    if args.scratch is not None:
        grants.append(Scratch(args.scratch))
    limits = Limits(
        wall_s=args.time,
        cpu_s=args.time,
        memory_bytes=args.memory,
    )

    async def ran() -> Result:
        async with Sandbox(
            imports=args.imports,
            limits=limits,
            grants=grants,
            require=args.require,
            standby=1,
        ) as sandbox:
            values = {key: _fields.value_of(text) for key, text in typed.items()}
            return await sandbox.run(source, values)

    try:
        result = asyncio_run(ran())
    except LimitExceeded as error:
        argument = f"Limits({error.limit}=...)"
        told = str(error).replace(argument, _OPTIONS.get(error.limit, argument))
        say(f"anabranch: {told}")
        return 1
    return _show_json(result) if args.json else _show(result)


def _read(file: str) -> str:
    try:
        return Path(file).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text in UTF-8: {error.reason}") from None


def _show(result: Result) -> int:
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    if result.error is not None:
        trace = result.error.traceback.rstrip()
        say(trace or f"{result.error.type_name}: {result.error.message}")
        return 1
    if result.value is not None:
        value = _jsonable(result.value)
        # A table, or whatever JSON has not: as it is shown, not as a text of that.
        is_told = isinstance(value, str)
        print(value if is_told else json.dumps(value, indent=2, ensure_ascii=False))
    return 0


def _show_json(result: Result) -> int:
    error = result.error
    told: dict[str, Any] = {
        "value": _jsonable(result.value),
        "stdout": result.stdout,
        "stderr": result.stderr,
        "error": None
        if error is None
        else {
            "type_name": error.type_name,
            "message": error.message,
            "line": error.line,
            "traceback": error.traceback,
        },
        "wall_s": result.wall_s,
        "cpu_s": result.cpu_s,
        "memory_bytes": result.memory_bytes,
    }
    print(json.dumps(told, ensure_ascii=False))
    return 0 if error is None else 1


def _jsonable(value: Any) -> Any:
    """The value as JSON has it; what JSON has not is told as Python writes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, dict):
        table: dict[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]  # of any
        if all(isinstance(key, str) for key in table):
            return {key: _jsonable(item) for key, item in table.items()}
    return repr(cast("object", value))


COMMAND = Command(
    name="exec",
    summary="run code you did not write, in a confined process",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)

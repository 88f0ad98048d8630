"""What every command's ``--help`` has: a sentence, an example, the exit statuses."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # A private name, but argparse has no other for what add_subparsers() returns.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001

EXIT_STATUSES = """\
exit status:
  0    all went well
  1    something could not be done, and a sentence said what
  2    wrong use: an option or argument cannot be meant
  130  interrupted (143 when terminated): what was stored is kept"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        name: What is typed.
        summary: What it does, as the end of "this command will …".
        example: Examples that work, and what else a newcomer should know.
        add_arguments: Adds its arguments to a parser.
        run: Does it, and gives the exit status.
    """

    name: str
    summary: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]

    def add_to(self, commands: Commands) -> None:
        parser = commands.add_parser(
            self.name,
            help=self.summary,
            description=self.summary[0].upper() + self.summary[1:] + ".",
            epilog=f"{self.example}\n\n{EXIT_STATUSES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_arguments(parser)
        parser.add_argument(
            "--debug", action="store_true", help="show where in the program an error arose"
        )
        parser.set_defaults(run=self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Commands behind one word, such as ``anabranch runs list``.

    Attributes:
        name: The word.
        summary: What they are for.
        example: How they go together.
        commands: In the order in which help lists them.
    """

    name: str
    summary: str
    example: str
    commands: Sequence[Command]

    def add_to(self, commands: Commands) -> None:
        parser = commands.add_parser(
            self.name,
            help=self.summary,
            description=self.summary[0].upper() + self.summary[1:] + ".",
            epilog=f"{self.example}\n\n{EXIT_STATUSES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        for command in self.commands:
            command.add_to(inner)


def positive_int(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def natural_int(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive_seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration(text: str) -> float:
    """Seconds of what people write: ``90``, ``30m``, ``12h``, ``7d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", text.strip(), re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s, 30m or 7d")
    return float(match[1]) * _UNITS[match[2]]

"""The command ``anabranch``: one module a command, and what they share in ``_`` modules.

Only here is the environment read, and only here are errors turned into sentences and
exit statuses. Whatever takes time to import is imported inside a command, so that
``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from anabranch import __version__
from anabranch.cli import ask, demo, doctor, execute, index, run, runs, worker
from anabranch.cli._errors import guarded
from anabranch.cli._help import EXIT_STATUSES

__all__ = ["main"]

_COMMANDS = (
    index.COMMAND,
    ask.COMMAND,
    demo.COMMAND,
    run.COMMAND,
    runs.COMMAND,
    worker.COMMAND,
    execute.COMMAND,
    doctor.COMMAND,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments behind the program's name; by default those of the process.

    Returns:
        The exit status: 0 when all went well, 1 when something could not be done, 2 for
        wrong use, 130 and 143 when interrupted and terminated.
    """
    parser = _parser()
    try:
        args, rest = parser.parse_known_args(argv)
        if rest:
            _take_fields(parser, args, rest)
    except SystemExit as exit_:  # argparse has said everything
        return exit_.code if isinstance(exit_.code, int) else 2
    return guarded(args.run, args, debug=args.debug)


def _take_fields(
    parser: argparse.ArgumentParser, args: argparse.Namespace, rest: Sequence[str]
) -> None:
    """Take ``key=value`` wherever it is: argparse wants them all before the options."""
    fields = [text for text in rest if "=" in text and not text.startswith("-")]
    if len(fields) < len(rest) or not hasattr(args, "fields"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.fields = [*args.fields, *fields]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anabranch",
        description="Index many documents and answer questions from them; run workflows "
        "that last.",
        epilog=(
            "examples:\n"
            "  anabranch index docs/ --into my-index\n"
            '  anabranch ask "How do I install it?" --from my-index\n\n'
            "  anabranch run flow:Invoice --durable runs.db customer=7\n"
            "  anabranch runs list --durable runs.db\n\n"
            "  anabranch COMMAND --help tells what each command can do.\n\n" + EXIT_STATUSES
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anabranch {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    return parser

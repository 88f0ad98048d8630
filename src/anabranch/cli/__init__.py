"""The command ``anabranch``: one module a command, and what they share in ``_`` modules.

Only here is the environment read, and only here are errors turned into sentences and
exit statuses. Whatever takes time to import is imported inside a command, so that
``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from anabranch import __version__
from anabranch.cli import ask, demo, doctor, index
from anabranch.cli._errors import guarded
from anabranch.cli._help import EXIT_STATUSES

__all__ = ["main"]

_COMMANDS = (index.COMMAND, ask.COMMAND, demo.COMMAND, doctor.COMMAND)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments behind the program's name; by default those of the process.

    Returns:
        The exit status: 0 when all went well, 1 when something could not be done, 2 for
        wrong use, 130 and 143 when interrupted and terminated.
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as exit_:  # argparse has said everything
        return exit_.code if isinstance(exit_.code, int) else 2
    return guarded(args.run, args, debug=args.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anabranch",
        description="Index many documents at once and answer questions from them.",
        epilog=(
            "example:\n"
            "  anabranch index docs/ --into my-index\n"
            '  anabranch ask "How do I install it?" --from my-index\n\n'
            "  anabranch COMMAND --help tells what each command can do.\n\n" + EXIT_STATUSES
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anabranch {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    return parser

"""``anabranch runs``: the runs of a store, seen and steered; one module a command."""

from __future__ import annotations

from anabranch.cli import _places
from anabranch.cli._help import Group
from anabranch.cli.runs import (
    cancel,
    events,
    export,
    fork,
    list,  # noqa: A004  # a command by its name
    purge,
    resume,
    retry,
    send,
    show,
    start,
)

_EXAMPLE = f"""\
examples:
  anabranch runs list --durable runs.db
  anabranch runs show invoice-7 --durable runs.db
  anabranch runs send invoice-7 flow:Approval --durable runs.db ok=true
  anabranch runs resume invoice-7 flow:Invoice --durable runs.db

  anabranch runs COMMAND --help tells what each can do.

{_places.HELP}"""

COMMAND = Group(
    name="runs",
    summary="see and steer the runs of a store, from any process",
    example=_EXAMPLE,
    commands=(
        list.COMMAND,
        show.COMMAND,
        events.COMMAND,
        export.COMMAND,
        start.COMMAND,
        send.COMMAND,
        resume.COMMAND,
        retry.COMMAND,
        fork.COMMAND,
        cancel.COMMAND,
        purge.COMMAND,
    ),
)

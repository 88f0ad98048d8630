"""The options that name who brings runs to workers, where they do not claim them."""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anabranch.errors import UsageError

if TYPE_CHECKING:
    from anabranch.workflow import Store
    from anabranch.workflow.dispatch import Dispatcher


def add_temporal(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "runs that Temporal brings to workers", "as for 'anabranch worker'"
    )
    _add_temporal(group)


def add_engines(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "engine", "who brings the runs; by default they are claimed from the store"
    )
    group.add_argument(
        "--dbos", metavar="URL", help="DBOS, on a PostgreSQL database at this URL"
    )
    _add_temporal(group)


def _add_temporal(group: Any) -> None:  # argparse's class for it is private
    group.add_argument("--temporal", metavar="HOST:PORT", help="a Temporal server")
    group.add_argument(
        "--queue", metavar="NAME", help="the engine's queue (default: anabranch)"
    )
    group.add_argument(
        "--namespace", metavar="NAME", help="Temporal's namespace (default: default)"
    )


@asynccontextmanager
async def engine(
    args: argparse.Namespace, *, store: Store | None = None, slots: int = 100
) -> AsyncGenerator[Dispatcher | None, None]:
    """The engine that was named, if one was; let go of behind the block.

    Args:
        args: Those of the command.
        store: Where the runs are, for one that has to know.
        slots: How many runs a worker drives at once.

    Raises:
        UsageError: The options do not go together.
        ImportError: It needs an extra that is not installed.
    """
    dispatcher = _made(args, store, slots)
    try:
        yield dispatcher
    finally:
        if dispatcher is not None:
            await dispatcher.close()


def _made(args: argparse.Namespace, store: Store | None, slots: int) -> Dispatcher | None:
    dbos: str | None = getattr(args, "dbos", None)
    if args.temporal and dbos:
        raise UsageError("runs are brought by one engine: give --temporal or --dbos")
    if args.namespace and not args.temporal:
        raise UsageError("--namespace is Temporal's: give --temporal HOST:PORT as well")
    if args.queue and not (args.temporal or dbos):
        raise UsageError("--queue is an engine's: give --temporal as well, or --dbos")
    queue = args.queue or "anabranch"
    if args.temporal:
        from anabranch.workflow.dispatch.temporal import TemporalDispatcher

        namespace = args.namespace or "default"
        return TemporalDispatcher(
            args.temporal, queue=queue, namespace=namespace, slots=slots
        )
    if dbos and store is not None:
        from anabranch.workflow.dispatch.dbos import DBOSDispatcher

        return DBOSDispatcher(dbos, store, queue=queue, slots=slots)
    return None

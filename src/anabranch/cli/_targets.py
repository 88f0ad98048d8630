"""``module:Name`` on the command line: a workflow, or a class of events."""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from anabranch.cli._places import NOWHERE, place_of
from anabranch.errors import AnabranchError, UsageError

if TYPE_CHECKING:
    from anabranch.workflow import Event, RunInfo, Store, Workflow

HELP = """\
The module is one that can be imported from here (the current folder included), or
the path of a .py file. The name is a workflow class, a workflow object, or a
function without arguments that gives one."""


@dataclass(frozen=True, slots=True)
class Target:
    """What was named.

    Attributes:
        text: As it was typed.
        module: The module in which it is.
        value: The thing itself.
    """

    text: str
    module: ModuleType
    value: Any

    def beside(self, kind: type[Any]) -> str:
        """How a class is named on a command line on which this was typed so."""
        module = kind.__module__
        if module == self.module.__name__:
            module = self.text.rpartition(":")[0]
        return f"{module}:{kind.__qualname__}"


def load(text: str) -> Target:
    """What a text names.

    Raises:
        UsageError: It names nothing that is there.
        ImportError: Its module cannot be imported.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(
            f"{text!r} is not MODULE:NAME, such as flow:Invoice or flows/invoice.py:Invoice"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    is_file = place.endswith(".py") or "/" in place
    module = _from_file(place) if is_file else _imported(place, place)
    value: Any = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise UsageError(f"{place} has no {name!r}{_candidates(module)}") from None
    return Target(text, module, value)


def _from_file(place: str) -> ModuleType:
    """The module in a file, under the name that it has for those who import it."""
    path = Path(place).absolute()
    if not path.is_file():
        raise UsageError(f"there is no file {place}")
    folder, name = path.parent, path.stem
    while (folder / "__init__.py").is_file():
        folder, name = folder.parent, f"{folder.name}.{name}"
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))
    module = _imported(name, place)
    found = getattr(module, "__file__", None)
    if found is None or not path.samefile(found):
        raise UsageError(
            f"{place} cannot be imported: there is another module {name!r} "
            f"({found or 'built into Python'}); give the file another name"
        )
    return module


def _imported(name: str, said: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"there is no module {said!r} in {Path.cwd()} or where Python looks: give "
                "its name as an import has it, or the path of its .py file"
            ) from error
        raise  # one that it imports: the sentence for that says how to install it
    except (Exception, SystemExit) as error:
        raise ImportError(
            f"{said} cannot be imported: {type(error).__name__}: {error}{_where(error)}"
        ) from error


def _where(error: BaseException) -> str:
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, SyntaxError) or last.filename.startswith("<"):
        return ""
    return f" ({last.filename}, line {last.lineno})"


def _candidates(module: ModuleType) -> str:
    """What could have been meant: the workflows and events that the module defines."""
    from anabranch.workflow import Event, Workflow

    found = [
        name
        for name, value in vars(module).items()
        if isinstance(value, Workflow)
        or (
            isinstance(value, type)
            and issubclass(value, Workflow | Event)
            and value.__module__ == module.__name__
        )
    ]
    return f": it has {', '.join(sorted(found))}" if found else ""


# --------------------------------------------------------------------- what they are


def event_class(text: str) -> type[Event]:
    """The class of events that a text names.

    Raises:
        UsageError: It is none.
    """
    from anabranch.workflow import Event

    value = load(text).value
    if not isinstance(value, type) or not issubclass(value, Event):
        raise UsageError(f"{text} is {value!r}: name a class of events")
    return value


def workflow_at(
    target: Target,
    args: argparse.Namespace,
    *,
    timeout: float | Literal["own"] | None = "own",
) -> tuple[Workflow, Store]:
    """A workflow that a target names, and the store in which it keeps its runs.

    Args:
        target: Which workflow.
        args: Those of the command.
        timeout: The one of its runs; by default that which it has.

    Raises:
        UsageError: It is no workflow, or nobody has said where its runs are kept.
    """
    from anabranch.workflow.engine import engine_of
    from anabranch.workflow.stores.places import store_at

    place = place_of(args)
    workflow = _made(target, place)
    settings = engine_of(workflow).settings
    if settings.store is None and place is not None:
        settings.store = store_at(place)
    if settings.store is None:
        raise UsageError(NOWHERE)
    if args.durable and settings.store is not store_at(args.durable):
        raise UsageError(
            f"{target.text} has a store of its own, which is not the one that --durable "
            "names: leave --durable out, or let the workflow leave its own out"
        )
    if timeout != "own":
        settings.timeout = timeout
    return workflow, settings.store


def check_workflow(info: RunInfo, workflow: Workflow) -> None:
    """See to it that a run is one of a workflow's.

    Raises:
        UsageError: It is of another.
    """
    if info.workflow != workflow.workflow_name:
        raise UsageError(
            f"run {info.run_id!r} is of workflow {info.workflow}, and not of "
            f"{workflow.workflow_name}: name that one, or another run"
        )


def _made(target: Target, place: str | None) -> Workflow:
    import inspect

    from anabranch.workflow import Workflow

    value = target.value
    options: dict[str, Any] = {}
    if isinstance(value, type) and issubclass(value, Workflow) and place is not None:
        accepted = inspect.signature(value).parameters.values()
        if any(p.name == "durable" or p.kind is p.VAR_KEYWORD for p in accepted):
            options["durable"] = place
    if callable(target.value):
        try:
            value = target.value(**options)
        except AnabranchError:
            raise
        except Exception as error:
            raise ImportError(
                f"{target.text} cannot be made: {type(error).__name__}: {error}"
                f"{_where(error)}; name a function without arguments that makes it"
            ) from error
    if not isinstance(value, Workflow):
        raise UsageError(
            f"{target.text} is {value!r}: name a workflow class, a workflow object, or a "
            f"function without arguments that gives one{_candidates(target.module)}"
        )
    return value

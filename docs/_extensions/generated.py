"""Pages that are written from the program itself, so that they cannot be wrong.

Directive ``command-help``: what ``anabranch COMMAND [COMMAND] --help`` prints.
Directive ``public-names``: the names a package offers, each a link to its description.
At the end of the build: a warning for each public name that has no description.
"""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

log = logging.getLogger(__name__)


class CommandHelp(SphinxDirective):
    optional_arguments = 2

    def run(self) -> list[nodes.Node]:
        program = Path(sys.executable).with_name("anabranch")
        done = subprocess.run(
            [program, *self.arguments, "--help"],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        )
        if done.returncode:
            raise self.error(f"anabranch {self.arguments} --help: {done.stderr}")
        return [nodes.literal_block(done.stdout, done.stdout, language="text")]


class PublicNames(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = importlib.import_module(self.arguments[0])
        lines = [self.line(package, name) for name in sorted(package.__all__)]
        return self.parse_text_to_nodes("\n".join(lines))

    def line(self, package: object, name: str) -> str:
        value = getattr(package, name)
        if is_described(value):
            return f"- {{py:obj}}`{name} <{home_of(value)}.{name}>`"
        return f"- `{name} = {str(value).removeprefix('typing.')}`"


def is_described(value: object) -> bool:
    """Whether a name has an entry of its own; a constant or alias is told by its value."""
    return inspect.isclass(value) or inspect.isroutine(value)


def home_of(value: object) -> str:
    """The room or word in whose reference a class or function is described."""
    return ".".join(value.__module__.split(".")[:2])


def find_undescribed(app: Sphinx, env: BuildEnvironment) -> None:
    del app
    domain = env.domains.python_domain
    for module_name in domain.modules:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            if is_described(value) and f"{home_of(value)}.{name}" not in domain.objects:
                log.warning("%s.%s is public and described nowhere", module_name, name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    app.add_directive("public-names", PublicNames)
    app.connect("env-check-consistency", find_undescribed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

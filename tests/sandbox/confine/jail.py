"""Runs functions of `attacks.py`, each in a confined child of its own, and says what came
of each. As a program (see the end) it is the zygote and the children; imported it begins it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = Path(__file__).parents[3] / "src"
NOBODY = 65534
# A second thread would keep the zygote out of a user namespace, and be lost by a fork.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


@dataclass(frozen=True, kw_only=True)
class Jail:
    """How children are confined.

    Args:
        layers: Names of the layers that are on; all the others are off.
        user: Who begins it: 0, or an ordinary user that root becomes before anything else.
        preload: Modules that the zygote imports once it is in its namespaces.
        read: Granted paths.
        scratch: Bytes of a scratch folder, or 0 for none.
    """

    layers: Iterable[str]
    user: int = 0
    preload: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    scratch: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    path: tuple[str, ...] = ()

    def run(self, *names: str, **facts: Any) -> dict[str, Any]:
        """What each function returned, or a sentence on how it was refused or died.

        Args:
            names: Functions of `attacks.py`.
            facts: What they are told about the host.
        """
        spec = {
            "layers": sorted(self.layers),
            "user": self.user,
            "preload": self.preload,
            "read": self.read,
            "scratch": self.scratch,
            "limits": dict(self.limits),
            "path": [str(SOURCE), str(HERE), *self.path],
            "names": names,
            "facts": facts,
        }
        interpreter = [sys.executable, "-I", "-S", "-B", str(HERE / "jail.py")]
        done = subprocess.run(
            [*interpreter, json.dumps(spec)],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(line) for line in done.stdout.splitlines())


LIBRARIES = (sysconfig.get_path("purelib"),)


def _main(spec: dict[str, Any]) -> None:
    sys.path[:0] = spec["path"]
    import attacks  # type: ignore[import-not-found]

    from anabranch.sandbox import confine
    from anabranch.sandbox.limits import Grant, Limits, ReadOnly, Scratch

    for name in confine.__all__:
        getattr(confine, name)
    layers = frozenset(confine.Layer(name) for name in spec["layers"])
    scratch = spec["scratch"]
    grants: list[Grant] = [ReadOnly(path) for path in spec["read"]]
    grants += [Scratch(scratch)] if scratch else []
    limits = Limits(**spec["limits"])
    attacks.HOST.update(spec["facts"])
    becomes = spec["user"] if os.geteuid() == 0 else 0
    if becomes:
        _load(spec["preload"])
        os.setgroups([])
        os.setresgid(*[becomes] * 3)
        os.setresuid(*[becomes] * 3)
    confine.enter(layers)
    if not becomes:  # root can still read what only root may
        _load(spec["preload"])
    confine.hide_file_system(grants, layers, scratch=bool(scratch))
    confine.drop_privileges(layers, scratch=bool(scratch))
    has_rules = confine.Layer.LANDLOCK in layers and not scratch
    rules = confine.ruleset(grants) if has_rules else None
    seal = confine.Seal(layers, grants, limits, rules=rules, scratch=scratch)
    for name in spec["names"]:
        reports, report = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                seal.put_on()
            except BaseException as error:
                os.write(report, json.dumps(f"not confined: {error!r}").encode())
                os._exit(1)
            try:
                answer = getattr(attacks, name)()
            except OSError as error:
                answer = f"refused: {type(error).__name__}: {error}"
            except BaseException as error:
                answer = f"failed: {type(error).__name__}: {error}"
            os.write(report, json.dumps(answer).encode())
            os._exit(0)
        os.close(report)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it left behind holds the pipe too
        said = b"".join(iter(lambda: os.read(reports, 65536), b"")).decode()  # noqa: B023
        os.close(reports)
        answer = json.loads(said) if said else f"died: {os.waitstatus_to_exitcode(status)}"
        print(json.dumps([name, answer]), flush=True)


def _load(names: Iterable[str]) -> None:
    import attacks

    for name in names:
        __import__(name)
    attacks.warm_up()


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))

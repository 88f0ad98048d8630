"""Which layers this machine has: each is tried for real, in a fresh interpreter.

A fresh one, because a process with threads cannot be forked safely, and what a layer takes
away is not to be had back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path

from anabranch.sandbox.confine.layers import ALL, Found, Layer

__all__ = ["probe", "try_layers"]

_TIMEOUT_S = 20.0
_NAMESPACES = (Layer.MOUNT, Layer.NET, Layer.PID, Layer.IPC, Layer.UTS)

_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from anabranch.sandbox.confine.probing import try_layers
try_layers()
"""


@cache
def probe() -> Found:
    """Which layers this kernel allows this user, tried once for each process.

    Takes about a tenth of a second the first time, and blocks for it.
    """
    if not sys.platform.startswith("linux"):
        return _none(f"needs Linux, and this is {sys.platform}")
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, root]
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and program
            command,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        reasons, abi = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return _none(f"the interpreter that tries it failed: {error}")
    missing = {Layer(name): reason for name, reason in reasons.items() if reason}
    return Found(available=ALL - missing.keys(), missing=missing, landlock_abi=abi)


def _environment() -> dict[str, str]:
    """Some interpreters find their own library by this, and nothing else is passed on."""
    path = os.environ.get("LD_LIBRARY_PATH")
    return {} if path is None else {"LD_LIBRARY_PATH": path}


def _none(reason: str) -> Found:
    return Found(available=frozenset(), missing=dict.fromkeys(Layer, reason))


def try_layers() -> None:
    """Try each layer in a child of its own, and print what went wrong, as JSON.

    The rest of :func:`probe`, in a process with one thread.
    """
    from anabranch.sandbox.confine.landlock import abi

    reasons = {Layer.USER: _attempt(frozenset([Layer.USER]))}
    # An ordinary user gets the other namespaces only together with one of users.
    base = {Layer.USER} - {layer for layer in reasons if reasons[layer]}
    for layer in Layer:
        if layer is not Layer.USER:
            reasons[layer] = _attempt(base | {layer} if layer in _NAMESPACES else {layer})
    held = frozenset(layer for layer, reason in reasons.items() if not reason)
    if held and (together := _attempt(held)):
        reasons |= dict.fromkeys(held, f"not together with the others: {together}")
    sys.stdout.write(json.dumps([reasons, abi()]))


def _attempt(layers: Collection[Layer]) -> str:
    """What goes wrong when a child confines itself so, or nothing."""
    ask, answer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _confine(frozenset(layers))
            # The answer of the process in the innermost namespace counts.
            os.write(answer, b"+")
        except BaseException as error:
            os.write(answer, str(error).encode())
        finally:
            os._exit(0)
    os.close(answer)
    said = b"".join(iter(lambda: os.read(ask, 4096), b""))
    os.close(ask)
    os.waitpid(child, 0)
    if said == b"+":
        return ""
    return said.decode(errors="replace") or "the process that tried it was killed"


def _confine(layers: frozenset[Layer]) -> None:
    from anabranch.sandbox.confine.capabilities import drop_privileges
    from anabranch.sandbox.confine.landlock import ruleset
    from anabranch.sandbox.confine.mounts import hide_file_system
    from anabranch.sandbox.confine.namespaces import enter
    from anabranch.sandbox.confine.sealing import Seal
    from anabranch.sandbox.limits import Limits

    enter(layers)
    hide_file_system((), layers)
    drop_privileges(layers)
    rules = ruleset(()) if Layer.LANDLOCK in layers else None
    Seal(layers, (), Limits(), rules=rules, scratch=0).put_on()

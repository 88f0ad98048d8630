"""What the Linux kernel offers to confine a process: called in the zygote and its children.

Only the standard library is used, and importing this does nothing. Everything but
:func:`probe` changes the calling process for good, and wants it to have one thread.

In the zygote, in this order::

    enter(layers)  # returns in pid 1 of a pid namespace
    ...  # imports: the host's files are still there
    hide_file_system(grants, layers, scratch=scratch)
    drop_privileges(layers, scratch=scratch)
    program(processes=n, files=bool(grants))  # optional: compiles once for all children

In each child that it forks, before any code of a stranger::

    fresh_scratch(bytes)  # only where a Scratch is granted
    restrict_paths(grants, layers)
    drop_privileges(layers)
    set_rlimits(limits, layers)
    filter_calls(layers, processes=n, files=bool(grants))

``restrict_paths`` may also be called in the zygote, but not where children mount a scratch:
Landlock refuses every mount after it. Called in each child it also keeps the children from
signalling one another. What fails raises :class:`OSError` with a sentence; then nothing of
a stranger may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anabranch.sandbox.confine.layers import ALL, Found, Layer

if TYPE_CHECKING:
    from anabranch.sandbox.confine.capabilities import drop_privileges
    from anabranch.sandbox.confine.landlock import restrict_paths
    from anabranch.sandbox.confine.mounts import fresh_scratch, hide_file_system
    from anabranch.sandbox.confine.namespaces import enter
    from anabranch.sandbox.confine.probing import probe
    from anabranch.sandbox.confine.rlimits import set_rlimits
    from anabranch.sandbox.confine.seccomp import filter_calls, program

__all__ = [
    "ALL",
    "Found",
    "Layer",
    "drop_privileges",
    "enter",
    "filter_calls",
    "fresh_scratch",
    "hide_file_system",
    "probe",
    "program",
    "restrict_paths",
    "set_rlimits",
]

_HOMES = {
    "drop_privileges": "capabilities",
    "enter": "namespaces",
    "filter_calls": "seccomp",
    "fresh_scratch": "mounts",
    "hide_file_system": "mounts",
    "probe": "probing",
    "program": "seccomp",
    "restrict_paths": "landlock",
    "set_rlimits": "rlimits",
}


# The modules import ctypes, which costs 5 ms, and calls that only Linux has.
def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

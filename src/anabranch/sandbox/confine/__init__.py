"""What the Linux kernel offers to confine a process: called in the zygote and its children.

Only the standard library is used, and importing this does nothing. Everything but
:func:`probe` changes the calling process for good, and wants it to have one thread.

In the zygote, in this order::

    enter(layers)  # returns in pid 1 of a pid namespace
    ...  # imports: the host's files are still there
    hide_file_system(grants, layers, scratch=scratch)
    drop_privileges(layers, scratch=scratch)
    seal = Seal(layers, grants, limits, ...)  # once for all children that are alike

In each child that it forks, before any code of a stranger, ``seal.put_on()``: a scratch
where one is granted, Landlock, resource limits, and last the filter of system calls.
Landlock is entered by each child, which also keeps the children from signalling one
another; no mount is allowed after it. What fails raises :class:`OSError` with a sentence;
then nothing of a stranger may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anabranch.sandbox.confine.layers import ALL, Found, Layer

if TYPE_CHECKING:
    from anabranch.sandbox.confine.capabilities import drop_privileges
    from anabranch.sandbox.confine.landlock import ruleset
    from anabranch.sandbox.confine.mounts import hide_file_system
    from anabranch.sandbox.confine.namespaces import enter
    from anabranch.sandbox.confine.probing import probe
    from anabranch.sandbox.confine.sealing import Seal

__all__ = [
    "ALL",
    "Found",
    "Layer",
    "Seal",
    "drop_privileges",
    "enter",
    "hide_file_system",
    "probe",
    "ruleset",
]

_HOMES = {
    "Seal": "sealing",
    "drop_privileges": "capabilities",
    "enter": "namespaces",
    "hide_file_system": "mounts",
    "probe": "probing",
    "ruleset": "landlock",
}


# The modules import ctypes, which costs 5 ms, and calls that only Linux has.
def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What is granted, as paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anabranch.sandbox.limits import Grant

__all__ = ["SCRATCH", "readable", "writable"]

SCRATCH = "/scratch"


def readable(grants: Iterable[Grant]) -> list[str]:
    """The paths that may be read, without those in a folder that is one of them.

    Raises:
        OSError: If one is the root, which would leave nothing to hide.
    """
    # Here, because the module is heavy, and whoever has a grant has loaded it.
    from anabranch.sandbox.limits import ReadOnly

    paths = sorted(os.path.normpath(g.path) for g in grants if isinstance(g, ReadOnly))
    if "/" in paths:
        raise OSError("the root of the file system cannot be granted: name folders in it")
    kept: list[str] = []
    for path in paths:
        if not any(path.startswith(folder + "/") for folder in kept):
            kept.append(path)
    return kept


def writable(grants: Iterable[Grant]) -> list[str]:
    """The paths that may be written: ``/scratch`` or nothing."""
    from anabranch.sandbox.limits import Scratch

    return [SCRATCH] if any(isinstance(g, Scratch) for g in grants) else []

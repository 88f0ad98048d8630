"""Resident memory of this process, as Linux keeps it; None elsewhere."""

from __future__ import annotations

import re
from pathlib import Path


def restart_peak() -> int | None:
    """Let the kernel forget the highest resident size; the size now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return resident()


def resident() -> int | None:
    """The size now, in bytes."""
    return _status("VmRSS")


def peak() -> int | None:
    """The highest size since the last :func:`restart_peak`, in bytes."""
    return _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None

"""Bringing an index up to date before somebody's eyes: for ``index`` and ``demo``."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from anabranch.cli._terminal import Weight, counted, say, seconds, shown_path, size

if TYPE_CHECKING:
    from anabranch.errors import SourceError
    from anabranch.observe import Observer
    from anabranch.rag.pipeline import Report

SHOWN_BROKEN = 20


def progress(title: str = "indexing") -> Observer:
    """A bar of sources, with the passages stored."""
    from anabranch.jobs import Progress
    from anabranch.observe import Observers

    # Behind Observers, since the work must go on when standard error is closed.
    return Observers(Progress(title, unit="source"))


@contextmanager
def told_when_interrupted(folder: Path) -> Generator[None, None, None]:
    """Says what is safe when the block is interrupted; the interrupt goes on."""
    try:
        yield
    except KeyboardInterrupt:
        kept = counted(stored(folder)[0], "source")
        is_or_are = "is" if kept == "1 source" else "are"
        say(f"interrupted: {kept} {is_or_are} stored; run the same command again to go on")
        raise


def stored(folder: Path) -> tuple[int, int]:
    """How many sources and passages an index holds; none if there is no index yet."""
    from anabranch.errors import StoreError
    from anabranch.jobs import asyncio_run
    from anabranch.rag import SqliteStore

    async def count() -> tuple[int, int]:
        async with await SqliteStore.open(folder) as store:
            return await store.count()

    try:
        return asyncio_run(count())
    except StoreError:
        return 0, 0


def summary(report: Report, folder: Path) -> str:
    """What was done, as a table of two columns."""
    weight = Weight(sys.stdout)
    sources, passages = stored(folder)
    rows = {
        "sources": _sources(report),
        "documents": f"{report.documents:,}" if report.documents else "",
        "passages": _passages(report) if report.chunks else "",
        "time": _time(report),
        "at once": ", ".join(
            f"{stage.name} {stage.most_at_once}" for stage in report.stages if stage.done
        ),
        "held up by": _held_up_by(report),
        "memory": f"{size(peak_memory())} at most",
        "index": f"{counted(sources, 'source')}, {counted(passages, 'passage')}, "
        f"{size(disk_usage(folder))} in {shown_path(str(folder.absolute()))}",
    }
    lines = [
        f"{weight.dim(f'{name:<10}')} {value}" for name, value in rows.items() if value
    ]
    if spared := _what_was_spared(report):
        lines.append(spared)
    return "\n".join(lines)


def line(report: Report) -> str:
    """What was done, in one line, with the time of day."""
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    passages = f"; passages {_passages(report)}" if report.chunks else ""
    return f"{now} sources {_sources(report)}{passages}; {seconds(report.elapsed_s)}"


def _sources(report: Report) -> str:
    parts = {
        "new": report.new,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "broken": len(report.broken),
        "removed": report.removed,
    }
    shown = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    line = f"{report.sources:,}" + (f": {shown}" if shown else "")
    if report.skipped:
        line += f" ({counted(report.skipped, 'file')} of other kinds skipped)"
    return line


def _passages(report: Report) -> str:
    reused = report.chunks - report.embedded
    line = f"{report.chunks:,}: {report.embedded:,} embedded"
    return line + (f", {counted(reused, 'vector')} reused" if reused else "")


def _time(report: Report) -> str:
    if not report.chunks:
        return seconds(report.elapsed_s)
    rate = report.chunks / max(report.elapsed_s, 0.001)
    return f"{seconds(report.elapsed_s)} ({rate:,.0f} passages/s)"


def _held_up_by(report: Report) -> str:
    from anabranch.observe import bottleneck

    stage = bottleneck(report.stages) if report.chunks else None
    return "" if stage is None else f"{stage.name}, {stage.load:.0%} of the time at work"


def _what_was_spared(report: Report) -> str:
    if report.embedded:
        return ""
    if report.chunks:
        return "Nothing was embedded again: every passage had its vector."
    if report.unchanged and not (report.new or report.changed):
        return "Nothing was embedded again: no source has changed."
    return ""


def say_broken(broken: Sequence[SourceError], *, everything: bool) -> None:
    """The broken sources and why, for people."""
    if not broken:
        return
    say(f"{counted(len(broken), 'source')} could not be read:")
    shown = len(broken) if everything else SHOWN_BROKEN
    for error in broken[:shown]:
        say(f"  {shown_path(error.uri)}: {error.reason}")
    if len(broken) > shown:
        say(
            f"  and {len(broken) - shown:,} more: --debug shows all of them, and "
            "--report FILE writes them down"
        )


def write_broken(broken: Sequence[SourceError], file: TextIO) -> None:
    """The broken sources and why, for programs: a JSON object a line."""
    for error in broken:
        print(json.dumps({"source": error.uri, "reason": error.reason}), file=file)


def disk_usage(folder: Path) -> int:
    """Bytes of the index's own files."""
    return sum(file.stat().st_size for file in folder.glob("index.sqlite*"))


def peak_memory() -> int:
    """The most bytes of memory that this process had.

    On Linux the kernel's count of this program alone: `ru_maxrss` outlives exec, so a
    small program that a large one began would report the large one's memory.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

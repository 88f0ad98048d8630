"""A sandbox for many tests, and looks at what it leaves in the process and the machine."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anabranch.sandbox.isolate import speech
from anabranch.sandbox.isolate.peer import FACTS_BYTES, Peer
from anabranch.sandbox.limits import Limits
from anabranch.sandbox.sandbox import Sandbox

# Code that has found the descriptor it is spoken to through.
MEDDLER = """
import os, stat, time
def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False
wire = next(number for number in range(3, 16) if is_socket(number))
"""


class Lab:
    """A sandbox on an event loop of its own."""

    def __init__(self, runner: asyncio.Runner, sandbox: Sandbox) -> None:
        self.runner = runner
        self.sandbox = sandbox

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def run(self, source: Any, values: Any = None, **options: Any) -> Any:
        return self.do(self.sandbox.run(source, values, **options))


@contextmanager
def opened(**options: Any) -> Iterator[Lab]:
    with asyncio.Runner() as runner:
        sandbox = Sandbox(**options)
        runner.run(sandbox.start())
        try:
            yield Lab(runner, sandbox)
        finally:
            runner.run(sandbox.aclose())


def peers(sandbox: Sandbox) -> list[Peer]:
    """Every child that lives, idle or not."""
    assert sandbox._pool
    keepers = sandbox._pool._keepers
    return [peer for k in keepers for peer in k._peers.values() if not peer.ended]


def busy(sandbox: Sandbox) -> list[Peer]:
    """The children that have been asked to run something."""
    return [peer for peer in peers(sandbox) if peer._most > FACTS_BYTES]


def kill(peer: Peer, number: int = signal.SIGKILL) -> None:
    """As the kernel would, behind the back of the sandbox."""
    signal.pidfd_send_signal(peer._pidfd, number)


def zygote(sandbox: Sandbox) -> int:
    assert sandbox._pool
    return sandbox._pool._keepers[0]._process.pid


def descendants(pid: int) -> set[int]:
    """The processes that a process has begun, and those that they have."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    while more := {p for p, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes(pid: int | str = "self") -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )


async def until(holds: Callable[[], bool]) -> None:
    """Return when it holds; what it asks about happens in another process."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def frame(facts: dict[str, Any], parts: tuple[bytes, ...] = ()) -> bytes:
    """What a child would send to say this."""
    return speech.framed(speech.say(facts, parts), apart=False)


QUICK = Limits(wall_s=20)

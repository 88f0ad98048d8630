"""The processes that `enter` makes live and die together."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from anabranch.sandbox.confine import Layer, probe
from tests.sandbox.confine.jail import SOURCE

pytestmark = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and {Layer.USER, Layer.PID} <= probe().available),
    reason="needs user and PID namespaces",
)

PROGRAM = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from anabranch.sandbox.confine import Layer, enter
enter(frozenset([Layer.USER, Layer.PID]))
os.write(1, b"%d" % os.getpid())
exec(sys.argv[2])
"""


def begin(last: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-B", "-c", PROGRAM, str(SOURCE), last]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    ("last", "status"), [("os._exit(7)", 7), ("pass", 0), ("os.abort()", -signal.SIGABRT)]
)
def test_the_outer_process_ends_as_the_inner_one(last, status):
    process = begin(last)
    said, _ = process.communicate(timeout=30)
    # Number 1 of a namespace is spared the signals that it sends itself.
    assert said == b"1"
    assert process.returncode in {status, -signal.SIGSEGV if status < 0 else status}


def test_the_inner_process_dies_with_the_outer_one():
    with begin("time.sleep(600)") as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 10) == b"1"
        process.kill()
        # Only the inner one still holds the pipe.
        assert select.select([process.stdout], [], [], 30)[0]
        assert process.stdout.read() == b""


def test_both_die_with_the_process_that_began_them():
    ask, answer = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.dup2(answer, 1)
        command = [sys.executable, "-I", "-S", "-B", "-c", PROGRAM, str(SOURCE)]
        os.spawnv(os.P_NOWAIT, sys.executable, [*command, "time.sleep(600)"])
        signal.pause()
    os.close(answer)
    with os.fdopen(ask, "rb", buffering=0) as pipe:
        assert pipe.read(1) == b"1"
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert select.select([pipe], [], [], 30)[0]
        assert pipe.read() == b""

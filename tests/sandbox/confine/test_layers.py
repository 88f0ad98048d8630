"""Each layer alone, the others off: it still stops what it is there for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from anabranch.sandbox.confine import Layer, probe
from tests.sandbox.confine.host import host, is_alive
from tests.sandbox.confine.jail import NOBODY, Jail
from tests.sandbox.confine.test_confinement import (
    FILES,
    KERNEL,
    NETWORK,
    PROCESSES,
    everyone,
    got,
)

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
    pytest.mark.skipif(
        bool(sys.platform.startswith("linux") and probe().missing),
        reason="this machine lacks a layer: anabranch doctor says which",
    ),
]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")

WITHOUT_LAYERS = """
read_secret list_folder stat_secret chmod_secret utime_secret append_to_secret
read_through_link connect_tcp bind_tcp send_udp connect_unix connect_abstract
datagram_from_a_pair read_memory_of_target kill_target kill_thread_of_target tkill_target queue_signal_to_target
signal_by_pidfd environment_of_target memory_of_target trace_target limit_target fork
start_thread execute unshare_user io_uring memfd executable_memory executable_memory_later
shared_memory_of_host
""".split()


def run(
    user: int, layers: Iterable[str], *names: str, **more: Any
) -> tuple[dict[str, Any], bool]:
    """What each attack got, or "refused", or how the child died; and the target's life."""
    with host(user) as facts:
        answers = Jail(layers=layers, user=user, **more).run(*names, **facts)
        return answers, is_alive(facts["target"])


def base(user: int) -> set[Layer]:
    """An ordinary user enters other namespaces only along with one of users."""
    return {Layer.USER} if user else set()


@everyone
def test_without_layers_the_attacks_succeed(user):
    answers, _ = run(user, (), *WITHOUT_LAYERS)
    assert set(got(answers)) == set(WITHOUT_LAYERS)


@everyone
def test_without_layers_an_owner_of_a_socket_is_killed(user):
    with host(user) as facts:
        Jail(layers=(), user=user).run("signal_by_owner", **facts)
        assert os.waitstatus_to_exitcode(os.waitpid(facts["target"], 0)[1]) == -15


@everyone
def test_user_namespace_alone(user):
    names = ["environment_of_target", "memory_of_target", "trace_target"]
    # What root could do as root it can no more; an ordinary user stays who he is.
    names += ["kill_target", "limit_target", "append_to_secret"] if user == 0 else []
    names += ["become_root", "mount_again"]
    names += ["read_root_only", "own_by_root"] if os.geteuid() == 0 else []
    answers, alive = run(user, [Layer.USER], *names)
    assert got(answers) == {}
    assert alive


@everyone
def test_mount_namespace_alone(user):
    names = [*FILES, "connect_unix", "datagram_from_a_pair", "execute"]
    # Inside, a process with capabilities may do as it likes with what is there.
    harmless = {"fresh_proc", "folder_of_processes", "working_folder_by_descriptor"}
    harmless |= {"escape_by_chroot", "open_by_handle"}
    answers, _ = run(user, base(user) | {Layer.MOUNT}, *names)
    assert set(got(answers)) <= harmless


@everyone
def test_network_namespace_alone(user):
    names = ["connect_tcp", "send_udp", "connect_abstract"]
    answers, _ = run(user, base(user) | {Layer.NET}, *names)
    assert got(answers) == {}


@everyone
def test_pid_namespace_alone(user):
    names = """kill_target kill_thread_of_target tkill_target queue_signal_to_target
        signal_by_pidfd signal_by_owner trace_target read_memory_of_target limit_target
        look_at_limits_of_target priority_of_target get_descriptor_of_target""".split()
    answers, alive = run(user, base(user) | {Layer.PID}, *names)
    assert got(answers) == {}
    assert alive


@everyone
def test_ipc_namespace_alone(user):
    answers, _ = run(user, base(user) | {Layer.IPC}, "shared_memory_of_host")
    assert got(answers) == {}


@everyone
def test_uts_namespace_alone(user):
    before = socket.gethostname()
    answers, _ = run(user, base(user) | {Layer.UTS}, "host_name", "set_host_name")
    assert answers["host_name"] == "sandbox"
    assert socket.gethostname() == before


@everyone
def test_landlock_alone(user):
    names = """read_secret list_folder append_to_secret truncate_secret remove_secret
        hard_link symbolic_link make_file read_through_link read_by_dots folder_of_processes
        environment_of_target memory_of_target connect_tcp bind_tcp connect_abstract
        kill_target kill_zygote kill_thread_of_target signal_by_pidfd trace_target
        trace_zygote read_memory_of_target execute mount_again fresh_proc""".split()
    answers, alive = run(user, [Layer.LANDLOCK], *names, "signal_by_owner")
    # The owner can be named, but the signal is not sent.
    assert set(got(answers)) == {"signal_by_owner"}
    assert alive


@everyone
def test_landlock_alone_with_a_granted_folder(user):
    with host(user) as facts:
        jail = Jail(layers=[Layer.LANDLOCK], user=user, read=(facts["granted"],))
        names = ["read_through_link", "read_by_dots", "write_granted", "read_secret"]
        answers = jail.run("read_granted", *names, **facts)
    assert got(answers) == {"read_granted": "granted"}


@everyone
def test_seccomp_alone(user):
    names = [*FILES, *NETWORK, *PROCESSES, *KERNEL, "fork", "start_thread"]
    names.remove("raise_limits")  # of a limit that was not set
    answers, alive = run(user, [Layer.SECCOMP], *names)
    assert set(got(answers)) == {"start_thread"}
    assert answers["start_thread"] == "failed: RuntimeError: can't start new thread"
    assert alive


@root_only
def test_capabilities_alone():
    names = [
        "read_root_only",
        "own_by_root",
        "mount_again",
        "become_root",
        "unshare_mounts",
    ]
    names += ["set_host_name", "kill_target", "trace_target", "escape_by_chroot"]
    answers, _ = run(0, [Layer.CAPABILITIES], *names, "capabilities", "bounding_set", "who")
    assert got(answers) == {
        "capabilities": [0] * 6,
        "bounding_set": 0,
        "who": [NOBODY] * 6 + [[]],
    }


@everyone
def test_capabilities_are_dropped_within_a_user_namespace(user):
    names = ["mount_again", "unshare_mounts", "escape_by_chroot", "set_host_name"]
    answers, _ = run(user, [Layer.USER, Layer.CAPABILITIES], *names)
    assert got(answers) == {}


@root_only
def test_no_new_privileges_alone():
    answers, _ = run(NOBODY, (), "privileged_program")
    assert answers == {"privileged_program": "root"}
    answers, _ = run(NOBODY, [Layer.NO_NEW_PRIVS], "privileged_program")
    assert "failed: AssertionError" in answers["privileged_program"]


@everyone
def test_limits_alone(user):
    jail = Jail(
        layers=[Layer.RLIMITS], user=user, limits={"memory_bytes": 2**27, "cpu_s": 0.5}
    )
    names = [
        "allocate_a_gigabyte",
        "map_a_gigabyte",
        "open_many",
        "spin",
        "ignore_and_spin",
    ]
    assert jail.run(*names) == {
        "allocate_a_gigabyte": "failed: MemoryError: ",
        "map_a_gigabyte": "refused: OSError: [Errno 12] Cannot allocate memory",
        "open_many": "refused: OSError: [Errno 24] Too many open files",
        "spin": "died: -24",
        "ignore_and_spin": "died: -9",
    }


@everyone
def test_limits_count_processes_of_an_ordinary_user(user):
    layers = [Layer.RLIMITS, *([] if user else [Layer.USER])]
    answers = Jail(layers=layers, user=user).run("fork", "start_thread")
    assert (
        answers["fork"]
        == "refused: BlockingIOError: [Errno 11] Resource temporarily unavailable"
    )
    assert answers["start_thread"] == "failed: RuntimeError: can't start new thread"


def test_probing_finds_every_layer_here_or_says_why_not():
    found = probe()
    assert found.available | found.missing.keys() == frozenset(Layer)
    assert not found.available & found.missing.keys()
    assert all(found.missing.values())
    assert probe() is found


def test_importing_loads_neither_ctypes_nor_subprocess():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import anabranch.sandbox.confine;"
        "print([m for m in ('ctypes', 'subprocess', 'dataclasses') if m in sys.modules])"
    )
    source = str(__import__("anabranch").__path__[0]) + "/.."
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program, source],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n", done.stderr

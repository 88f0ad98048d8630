"""Real children with every layer on: what they cannot do, and what they can."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from anabranch.sandbox.confine import ALL, Layer, probe
from tests.sandbox.confine.host import host, is_alive
from tests.sandbox.confine.jail import LIBRARIES, NOBODY, Jail

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
    pytest.mark.skipif(
        bool(sys.platform.startswith("linux") and probe().missing),
        reason="this machine lacks a layer: anabranch doctor says which",
    ),
]
USERS = [
    pytest.param(
        0, id="root", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
    ),
    pytest.param(
        NOBODY if os.geteuid() == 0 else os.geteuid(),
        id="ordinary",
    ),
]
everyone = pytest.mark.parametrize("user", USERS)

FILES = """
read_secret list_folder stat_secret append_to_secret truncate_secret chmod_secret utime_secret
remove_secret hard_link symbolic_link make_file read_through_link read_by_dots read_above_root open_as_path
folder_of_processes fresh_proc environment_of_target memory_of_target
working_folder_by_descriptor escape_by_chroot open_by_handle read_root_only own_by_root
""".split()
NETWORK = """
connect_tcp bind_tcp send_udp connect_unix connect_abstract datagram_from_a_pair
message_from_a_pair make_raw_socket make_netlink
""".split()
PROCESSES = """
kill_target kill_zygote kill_thread_of_target tkill_target queue_signal_to_target
signal_by_pidfd signal_by_owner asynchronous_by_ioctl asynchronous_by_fcntl trace_target
trace_zygote trace_me read_memory_of_target limit_target look_at_limits_of_target
priority_of_target get_descriptor_of_target vfork clone_a_namespace clone_a_sibling clone3
execute execute_by_descriptor unshare_user unshare_mounts set_namespace
set_namespace_of_target new_session become_root privileged_program
""".split()
KERNEL = """
io_uring userfaultfd memfd secret_memory bpf perf add_key key_of_session mount_again unmount
open_tree new_file_system personality dump_me another_filter executable_memory
executable_memory_later executable_memory_by_key shared_memory_of_host set_host_name
raise_limits
""".split()
ALONE = ["fork", "start_thread"]


def got(answers: dict[str, Any]) -> dict[str, Any]:
    """Those answers that are not refusals."""
    return {
        name: answer
        for name, answer in answers.items()
        if not str(answer).startswith("refused: ")
    }


@everyone
def test_nothing_of_the_host_can_be_reached(user):
    with host(user) as facts:
        answers = Jail(layers=ALL, user=user).run(
            *FILES, *NETWORK, *PROCESSES, *KERNEL, *ALONE, **facts
        )
        assert is_alive(facts["target"])
    # A thread that cannot start and a limit that cannot rise have errors of their own.
    assert set(got(answers)) == {"start_thread", "raise_limits"}
    assert answers["start_thread"] == "failed: RuntimeError: can't start new thread"
    assert answers["raise_limits"].startswith("failed: ValueError: not allowed to raise")


@everyone
def test_nor_with_files_granted_and_threads_allowed(user):
    with host(user) as facts:
        jail = Jail(
            layers=ALL,
            user=user,
            read=(facts["granted"],),
            scratch=2**20,
            limits={"processes": 4, "file_bytes": 4096},
        )
        inside = ["write_granted", "chmod_granted", "utime_granted", "link_granted"]
        answers = jail.run(*FILES, *NETWORK, *PROCESSES, *KERNEL, *inside, **facts)
        assert is_alive(facts["target"])
        assert {path.name for path in Path(facts["granted"]).iterdir()} == {"file", "link"}
    # The folders on the way to what is granted can be listed by nobody, but they are there.
    allowed = {"raise_limits", "working_folder_by_descriptor", "list_folder"}
    assert set(got(answers)) <= allowed
    assert (
        "secret" not in str(answers["list_folder"]) or "refused" in answers["list_folder"]
    )


@everyone
def test_a_call_of_the_x32_convention_kills(user):
    assert Jail(layers=ALL, user=user).run("x32_call") == {"x32_call": "died: -31"}


@everyone
def test_a_child_is_nobody_in_a_place_without_a_name(user):
    answers = Jail(layers=ALL, user=user).run("who", "host_name", "environment")
    assert answers["who"] == [NOBODY] * 6 + [[]]
    assert answers["host_name"] == "sandbox"
    assert set(answers["environment"]) <= {
        "OPENBLAS_NUM_THREADS",
        "JE_ARROW_MALLOC_CONF",
        "LC_CTYPE",
    }


@everyone
def test_a_child_has_no_capabilities_though_it_counts_its_processes_apart(user):
    layers = ALL - {Layer.SECCOMP}
    one = Jail(layers=layers, user=user).run("capabilities", "unshare_mounts")
    four = Jail(layers=layers, user=user, limits={"processes": 4}).run(
        "capabilities", "bounding_set"
    )
    assert one["capabilities"] == four["capabilities"] == [0] * 6
    assert four["bounding_set"] == 0


@everyone
def test_limits_hold(user):
    jail = Jail(layers=ALL, user=user, limits={"memory_bytes": 2**27, "cpu_s": 0.5})
    answers = jail.run(
        "allocate_a_little",
        "allocate_a_gigabyte",
        "map_a_gigabyte",
        "open_many",
        "spin",
        "ignore_and_spin",
        "fork_bomb",
    )
    assert answers == {
        "allocate_a_little": 2**25,
        "allocate_a_gigabyte": "failed: MemoryError: ",
        "map_a_gigabyte": "refused: OSError: [Errno 12] Cannot allocate memory",
        "open_many": "refused: OSError: [Errno 24] Too many open files",
        "spin": "died: -24",  # SIGXCPU
        "ignore_and_spin": "died: -9",
        "fork_bomb": 0,
    }


@everyone
def test_so_many_threads_and_processes_as_are_given(user):
    jail = Jail(layers=ALL, user=user, limits={"processes": 4})
    answers = jail.run(
        "two_threads", "twenty_threads", "fork_bomb", "loops_in_threads", "fork"
    )
    assert answers == {
        "two_threads": 2,
        "twenty_threads": "failed: RuntimeError: can't start new thread",
        "fork_bomb": 3,
        # Those of a child that is done count for no other child.
        "loops_in_threads": 10,
        "fork": 0,
    }


@everyone
def test_what_is_granted_can_be_read_and_nothing_beside_it(user):
    with host(user) as facts:
        jail = Jail(layers=ALL, user=user, read=(facts["granted"],))
        answers = jail.run("read_granted", "read_through_link", "read_by_dots", **facts)
    assert answers["read_granted"] == "granted"
    assert "refused" in answers["read_through_link"]
    assert "refused" in answers["read_by_dots"]


@everyone
def test_one_file_can_be_granted_within_a_granted_folder_or_alone(user):
    with host(user) as facts:
        file = facts["granted"] + "/file"
        for paths in [(file,), (file, facts["granted"]), (facts["granted"], file)]:
            jail = Jail(layers=ALL, user=user, read=paths)
            assert jail.run("read_granted", **facts) == {"read_granted": "granted"}


@everyone
def test_each_child_has_a_scratch_folder_of_its_own(user):
    jail = Jail(layers=ALL, user=user, scratch=2**20, limits={"file_bytes": 2**20})
    assert jail.run("scratch_files", "write_a_page", "scratch_files") == {
        "scratch_files": ["text", ["folder"]],
        "write_a_page": 4096,
    }


@everyone
def test_scratch_and_files_hold_what_is_given(user):
    small = Jail(layers=ALL, user=user, scratch=2**20, limits={"file_bytes": 4096})
    large = Jail(layers=ALL, user=user, scratch=2**22, limits={"file_bytes": 2**30})
    assert small.run("write_a_page", "write_a_page_twice", "many_files") == {
        "write_a_page": 4096,
        "write_a_page_twice": "refused: OSError: [Errno 27] File too large",
        "many_files": "refused: OSError: [Errno 28] No space left on device: '/scratch/271'",
    }
    assert "No space left" in large.run("fill_scratch")["fill_scratch"]


@everyone
def test_ordinary_code_works(user):
    jail = Jail(layers=ALL, user=user)
    warm = ["plain_python"]
    assert jail.run("event_loop", "sleep", "plain_python", warm=warm) == {
        "event_loop": 6,
        "sleep": "slept",
        "plain_python": 2,
    }


@everyone
def test_frames_work_loaded_from_where_only_the_user_may_read(user):
    jail = Jail(layers=ALL, user=user, preload=("numpy", "pandas"), path=LIBRARIES)
    assert jail.run("frames", warm=["frames"]) == {"frames": [4.0, 200]}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_root_imports_from_a_folder_that_only_root_may_enter(tmp_path):
    (tmp_path / "only_root_may_read.py").write_text("VALUE = 7")
    (tmp_path / "only_root_may_read.py").chmod(0o600)
    tmp_path.chmod(0o700)
    jail = Jail(layers=ALL, preload=("only_root_may_read",), path=(str(tmp_path),))
    assert jail.run("library_of_root", "who") == {
        "library_of_root": 7,
        "who": [NOBODY] * 6 + [[]],
    }

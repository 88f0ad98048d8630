"""What contained code might try. Each returns what it got, and raises if it got nothing.

Runs in a child (see `jail.py`), where nothing can be imported any more.
"""

# Attacks make the very call that they are named for.
# ruff: noqa: PTH108, PTH123, PTH208, PTH211
from __future__ import annotations

import asyncio
import concurrent.futures.thread
import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from anabranch.sandbox.confine.syscalls import _libc, call, prctl

HOST: dict[str, Any] = {}
_SIGNAL = signal.SIGURG  # ignored unless asked for, so that a target survives it
_uses = (concurrent.futures.thread, stat, tempfile)


def warm_up() -> None:
    """Have everything imported and looked up that is needed once confined."""
    _libc()
    [socket.AF_UNIX, socket.gethostname()]
    asyncio.run(asyncio.sleep(0))
    for name in HOST.get("warm", ()):
        globals()[name]()


# ----------------------------------------------------------------------- files


def read_secret() -> Any:
    return Path(HOST["secret"]).read_text()


def list_folder() -> Any:
    return os.listdir(HOST["folder"])


def stat_secret() -> Any:
    return Path(HOST["secret"]).stat().st_size


def append_to_secret() -> Any:
    with open(HOST["own"], "a") as file:
        return file.write("x")


def truncate_secret() -> Any:
    return os.truncate(HOST["own"], 1)


def chmod_secret() -> Any:
    return Path(HOST["own"]).chmod(0o600)


def utime_secret() -> Any:
    return os.utime(HOST["own"], (1, 1))


def remove_secret() -> Any:
    return os.unlink(HOST["own"])


def hard_link() -> Any:
    return os.link(HOST["own"], HOST["own"] + ".link")


def symbolic_link() -> Any:
    return os.symlink(HOST["secret"], HOST["own"] + ".sym")


def make_file() -> Any:
    with open(HOST["folder"] + "/made", "w") as file:
        return file.write("x")


def read_through_link() -> Any:
    return Path(HOST["link"]).read_text()


def read_by_dots() -> Any:
    return Path(HOST["granted"] + "/../secret").read_text()


def read_above_root() -> Any:
    return Path("/.." + HOST["secret"]).read_text()


def read_granted() -> Any:
    return Path(HOST["granted"] + "/file").read_text()


def write_granted() -> Any:
    return Path(HOST["granted"] + "/file").write_text("x")


def chmod_granted() -> Any:
    return Path(HOST["granted"] + "/file").chmod(0o777)


def utime_granted() -> Any:
    return os.utime(HOST["granted"] + "/file", (1, 1))


def link_granted() -> Any:
    return os.link(HOST["granted"] + "/file", "/scratch/file")


def open_as_path() -> Any:
    return os.open(HOST["secret"], os.O_PATH)


def root_folder() -> Any:
    return sorted(os.listdir("/"))


def folder_of_processes() -> Any:
    return os.listdir("/proc")


def fresh_proc() -> Any:
    return call("mount", b"proc", b"/proc", b"proc", 0, None)


def environment_of_target() -> Any:
    return len(Path(f"/proc/{HOST['target']}/environ").read_bytes())


def memory_of_target() -> Any:
    return os.open(f"/proc/{HOST['target']}/mem", os.O_RDWR)


def working_folder_by_descriptor() -> Any:
    return os.open("..", os.O_RDONLY)


def escape_by_chroot() -> Any:
    return os.chroot("/")


def open_by_handle() -> Any:
    return call("open_by_handle_at", -100, b"\0" * 64, 0)


def read_root_only() -> Any:
    return Path(HOST["root_only"]).read_text()


# ----------------------------------------------------------------------- network


def connect_tcp() -> Any:
    with socket.socket() as tcp:
        tcp.connect(("127.0.0.1", HOST["tcp"]))


def bind_tcp() -> Any:
    with socket.socket() as server:
        server.bind(("127.0.0.1", HOST["free"]))


def send_udp() -> Any:
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        return udp.sendto(b"udp", ("127.0.0.1", HOST["udp"]))


def connect_unix() -> Any:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(HOST["unix"])


def connect_abstract() -> Any:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect("\0" + HOST["abstract"])


def datagram_from_a_pair() -> Any:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"pair", HOST["datagrams"])


def message_from_a_pair() -> Any:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return one.sendmsg([b"pair"], [], 0, HOST["datagrams"])


def make_raw_socket() -> Any:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).fileno()


def make_netlink() -> Any:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).fileno()


# ----------------------------------------------------------------------- processes


def kill_target() -> Any:
    os.kill(HOST["target"], _SIGNAL)


def kill_zygote() -> Any:
    os.kill(os.getppid(), _SIGNAL)


def kill_thread_of_target() -> Any:
    return call("tgkill", HOST["target"], HOST["target"], int(_SIGNAL)) or "sent"


def tkill_target() -> Any:
    return call("tkill", HOST["target"], int(_SIGNAL)) or "sent"


def queue_signal_to_target() -> Any:
    info = struct.pack("=3i", int(_SIGNAL), 0, -1) + b"\0" * 116
    return call("rt_sigqueueinfo", HOST["target"], int(_SIGNAL), info) or "sent"


def signal_by_pidfd() -> Any:
    signal.pidfd_send_signal(os.pidfd_open(HOST["target"]), _SIGNAL)


def signal_by_owner() -> Any:
    """Kills the target, where it works: its owner is whom the kernel signals."""
    import fcntl

    one, two = socket.socketpair()
    fcntl.fcntl(one, fcntl.F_SETOWN, HOST["target"])
    fcntl.fcntl(one, 10, signal.SIGTERM)  # F_SETSIG
    fcntl.fcntl(one, fcntl.F_SETFL, fcntl.fcntl(one, fcntl.F_GETFL) | os.O_ASYNC)
    two.send(b"x")
    return "asked"


def asynchronous_by_ioctl() -> Any:
    import fcntl

    one, _ = socket.socketpair()
    fcntl.ioctl(one, 0x5452, struct.pack("i", 1))  # FIOASYNC
    return "set"


def asynchronous_by_fcntl() -> Any:
    import fcntl

    one, _ = socket.socketpair()
    return fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)


def trace_target() -> Any:
    result = call("ptrace", 0x4206, HOST["target"], 0, 0)  # PTRACE_SEIZE
    call("ptrace", 17, HOST["target"], 0, 0) if result else None
    return "traced"


def trace_zygote() -> Any:
    return call("ptrace", 0x4206, os.getppid(), 0, 0) or "traced"


def trace_me() -> Any:
    return call("ptrace", 0, 0, 0, 0) or "traced"


def read_memory_of_target() -> Any:
    here = ctypes.create_string_buffer(8)
    local = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(here), 8))
    there = ctypes.create_string_buffer(struct.pack("=QQ", HOST["address"], 8))
    return call("process_vm_readv", HOST["target"], local, 1, there, 1, 0)


def limit_target() -> Any:
    wanted = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    return resource.prlimit(HOST["target"], resource.RLIMIT_CORE, (0, 0)) or wanted


def look_at_limits_of_target() -> Any:
    return resource.prlimit(HOST["target"], resource.RLIMIT_CORE)


def priority_of_target() -> Any:
    os.sched_setaffinity(HOST["target"], {0})


def get_descriptor_of_target() -> Any:
    return call("pidfd_getfd", os.pidfd_open(HOST["target"]), 0, 0)


def fork() -> Any:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def vfork() -> Any:
    call("vfork")
    return "forked"


def clone_a_namespace() -> Any:
    pid = call("clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return pid


def clone_a_sibling() -> Any:
    pid = call("clone", 0x8000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return pid


def clone3() -> Any:
    return call("clone3", struct.pack("=11Q", 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)


def start_thread() -> Any:
    return _threads(1)


def execute() -> Any:
    os.execv("/bin/true", ["true"])


def execute_by_descriptor() -> Any:
    call("execveat", -100, b"/bin/true", 0, 0, 0)


def unshare_user() -> Any:
    return call("unshare", 0x10000000) or "unshared"


def unshare_mounts() -> Any:
    return call("unshare", 0x00020000) or "unshared"


def set_namespace() -> Any:
    return call("setns", 0, 0)


def set_namespace_of_target() -> Any:
    return call("setns", os.open(f"/proc/{HOST['target']}/ns/uts", os.O_RDONLY), 0)


def new_session() -> Any:
    return os.setpgid(0, 0)


# ----------------------------------------------------------------------- the kernel


def io_uring() -> Any:
    return call("io_uring_setup", 4, ctypes.create_string_buffer(120))


def userfaultfd() -> Any:
    return call("userfaultfd", 1)


def memfd() -> Any:
    return os.memfd_create("x")


def secret_memory() -> Any:
    return call("memfd_secret", 0)


def bpf() -> Any:
    return call("bpf", 0, struct.pack("=IIIIQ", 2, 4, 4, 1, 0), 24)


def perf() -> Any:
    return call("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0)


def add_key() -> Any:
    return call("add_key", b"user", b"x", b"x", 1, -3)


def key_of_session() -> Any:
    return call("keyctl", 0, -3, 1)


def mount_again() -> Any:
    return call("mount", b"tmpfs", b"/", b"tmpfs", 0, None) or "mounted"


def unmount() -> Any:
    return call("umount2", b"/", 2) or "unmounted"


def open_tree() -> Any:
    return call("open_tree", -100, b"/", 1)


def new_file_system() -> Any:
    return call("fsopen", b"tmpfs", 0)


def personality() -> Any:
    return call("personality", 0x0400000)


def dump_me() -> Any:
    return prctl(4, 1) or "dumpable"


def another_filter() -> Any:
    return call("seccomp", 0, 0, None)


def executable_memory() -> Any:
    return len(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC))


def executable_memory_later() -> Any:
    pages = ctypes.create_string_buffer(8192)
    address = (ctypes.addressof(pages) + 4095) & ~4095
    return call("mprotect", address, 4096, 7) or "executable"


def executable_memory_by_key() -> Any:
    pages = ctypes.create_string_buffer(8192)
    address = (ctypes.addressof(pages) + 4095) & ~4095
    return call("pkey_mprotect", address, 4096, 7, -1) or "executable"


def shared_memory_of_host() -> Any:
    return call("shmget", HOST["key"], 0, 0)


def set_host_name() -> Any:
    socket.sethostname("taken")


def x32_call() -> Any:
    return _libc().syscall(ctypes.c_long(0x40000000 | 39))


def become_root() -> Any:
    os.setuid(0)


def own_by_root() -> Any:
    return os.chown(HOST["folder"], 0, 0)


def privileged_program() -> Any:
    done = subprocess.run(
        [HOST["setuid"], "-u"], capture_output=True, text=True, timeout=20
    )
    assert done.stdout.strip() == "0", done
    return "root"


def capabilities() -> Any:
    data = ctypes.create_string_buffer(24)
    call("capget", struct.pack("=Ii", 0x20080522, 0), data)
    return list(struct.unpack("=6I", data.raw))


def bounding_set() -> Any:
    return sum(prctl(23, number) for number in range(36))


def who() -> Any:
    return [*os.getresuid(), *os.getresgid(), os.getgroups()]


def host_name() -> Any:
    return socket.gethostname()


def environment() -> Any:
    return dict(os.environ)


# ----------------------------------------------------------------------- too much


def allocate_a_gigabyte() -> Any:
    return len(bytearray(2**30))


def map_a_gigabyte() -> Any:
    return len(mmap.mmap(-1, 2**30))


def allocate_a_little() -> Any:
    return len(bytearray(2**25))


def spin() -> Any:
    while True:
        pass


def ignore_and_spin() -> Any:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass


def raise_limits() -> Any:
    return resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))


def open_many() -> Any:
    return [os.pipe() for _ in range(50)]


def write_a_page() -> Any:
    with open("/scratch/file", "wb", buffering=0) as file:
        return file.write(b"x" * 4096)


def write_a_page_twice() -> Any:
    with open("/scratch/file", "wb", buffering=0) as file:
        return file.write(b"x" * 4096) + file.write(b"x" * 4096)


def fill_scratch() -> Any:
    with open("/scratch/file", "wb", buffering=0) as file:
        return [file.write(b"x" * 2**20) for _ in range(8)]


def many_files() -> Any:
    for number in range(10_000):
        os.close(os.open(f"/scratch/{number}", os.O_CREAT | os.O_WRONLY))
    return "made"


def two_threads() -> Any:
    return _threads(2)


def twenty_threads() -> Any:
    return _threads(20)


def fork_bomb() -> Any:
    """How many of twenty forks come about, each of which stays."""
    made = 0
    for _ in range(20):
        try:
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
    return made


def _threads(count: int) -> int:
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    done.set()
    return len(threads)


# ----------------------------------------------------------------------- what works


def event_loop() -> Any:
    async def main() -> Any:
        return sum(await asyncio.gather(*(asyncio.sleep(0.01, n) for n in range(4))))

    return asyncio.run(main())


def sleep() -> Any:
    time.sleep(0.01)
    return "slept"


def loops_in_threads() -> Any:
    async def main() -> Any:
        return await asyncio.to_thread(sum, range(5))

    return asyncio.run(main())


def plain_python() -> Any:
    import decimal
    import random
    import re
    import statistics

    value = {"a": [1, 2.5, None], "b": "ü"}
    assert json.loads(json.dumps(value)) == value
    random.seed(1)
    assert re.sub(r"\d", "-", "a1b2") == "a-b-"
    assert decimal.Decimal("0.1") * 3 == decimal.Decimal("0.3")
    return statistics.mean([1, 2, 3, random.randint(2, 2)])


def frames() -> Any:
    import numpy as np
    import pandas as pd

    left = pd.DataFrame({"k": ["a", "b", "a"], "v": [1.0, 2.0, 3.0]})
    right = pd.DataFrame({"k": ["a", "b"], "w": [10, 20]})
    joined = left.merge(right, on="k")
    sums = joined.groupby("k").sum()
    text = sums.to_string() + str(joined.describe()) + repr(pd.Timestamp("2024-01-01"))
    assert "10" in text
    product = np.random.default_rng(0).random((200, 200)) @ np.ones((200, 200))
    return [float(sums["v"].iloc[0]), product.shape[0]]


def scratch_files() -> Any:
    root = Path("/scratch")
    (root / "folder").mkdir()
    (root / "folder" / "one").write_text("text")
    (root / "folder" / "one").rename(root / "two")
    text = (root / "two").read_text()
    (root / "two").unlink()
    return [text, sorted(os.listdir(root))]


def library_of_root() -> Any:
    import only_root_may_read  # type: ignore[import-not-found]

    return only_root_may_read.VALUE

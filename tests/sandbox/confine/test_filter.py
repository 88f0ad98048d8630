"""The filter program itself, run by an interpreter: every verdict without a kernel."""

from __future__ import annotations

import errno
import os

import pytest

from anabranch.sandbox.confine import bpf, seccomp
from anabranch.sandbox.confine.numbers import AUDIT_ARCH, BOTH, numbers
from tests.sandbox.confine.machine import ALLOW, KILL, verdict

MACHINES = sorted(BOTH)
DENY = errno.EPERM
NEWUSER, NEWNET, THREAD = 0x10000000, 0x40000000, 0x3D0F00
POINTER = 0x7FFF_0000_0000

# What it is asked, and what it answers with (processes=1, files=False),
# (processes=4, files=False) and (processes=1, files=True).
TABLE = [
    ("read", (0, POINTER, 1), ALLOW, ALLOW, ALLOW),
    ("exit_group", (0,), ALLOW, ALLOW, ALLOW),
    ("futex", (POINTER,), ALLOW, ALLOW, ALLOW),
    ("mmap", (0, 4096, 3, 0x22), ALLOW, ALLOW, ALLOW),
    ("mmap", (0, 4096, 7, 0x22), DENY, DENY, DENY),
    ("mmap", (0, 4096, 4, 0x22), DENY, DENY, DENY),
    ("mprotect", (POINTER, 4096, 1), ALLOW, ALLOW, ALLOW),
    ("mprotect", (POINTER, 4096, 5), DENY, DENY, DENY),
    ("mprotect", (POINTER, 4096, 1 << 32 | 5), DENY, DENY, DENY),
    ("pkey_mprotect", (POINTER, 4096, 1), DENY, DENY, DENY),
    ("clone", (THREAD,), DENY, ALLOW, DENY),
    ("clone", (17,), DENY, ALLOW, DENY),
    ("clone", (NEWUSER | 17,), DENY, DENY, DENY),
    ("clone", (NEWNET | 17,), DENY, DENY, DENY),
    ("clone", (0x8000 | 17,), DENY, DENY, DENY),
    ("clone", (0x2000 | 17,), DENY, DENY, DENY),
    ("clone3", (POINTER, 88), errno.ENOSYS, errno.ENOSYS, errno.ENOSYS),
    ("fork", (), DENY, DENY, DENY),
    ("vfork", (), DENY, DENY, DENY),
    ("wait4", (-1,), DENY, ALLOW, DENY),
    ("execve", (POINTER,), DENY, DENY, DENY),
    ("execveat", (0, POINTER), DENY, DENY, DENY),
    ("fcntl", (3, 1), ALLOW, ALLOW, ALLOW),
    ("fcntl", (3, 1, 0o20000), ALLOW, ALLOW, ALLOW),
    ("fcntl", (3, 4, 0o4000), ALLOW, ALLOW, ALLOW),
    ("fcntl", (3, 4, 0o24000), DENY, DENY, DENY),
    ("fcntl", (3, 8, 1), DENY, DENY, DENY),  # F_SETOWN
    ("fcntl", (3, 15, POINTER), DENY, DENY, DENY),  # F_SETOWN_EX
    ("fcntl", (3, 10, 9), DENY, DENY, DENY),  # F_SETSIG
    ("fcntl", (3, 1 << 32 | 8, 1), DENY, DENY, DENY),
    ("fcntl", (3, 1026, 1), DENY, DENY, DENY),  # F_NOTIFY
    ("ioctl", (3, 0x5421), ALLOW, ALLOW, ALLOW),  # FIONBIO
    ("ioctl", (3, 0x5452), DENY, DENY, DENY),  # FIOASYNC
    ("ioctl", (3, 0x5412), DENY, DENY, DENY),  # TIOCSTI
    ("ioctl", (3, 1 << 32 | 0x5412), DENY, DENY, DENY),
    ("socketpair", (1, 1), ALLOW, ALLOW, ALLOW),
    ("socketpair", (1, 0o2004001), ALLOW, ALLOW, ALLOW),
    ("socketpair", (1, 2), DENY, DENY, DENY),
    ("socketpair", (2, 1), DENY, DENY, DENY),
    ("socket", (1, 1), DENY, DENY, DENY),
    ("socket", (2, 1), DENY, DENY, DENY),
    ("connect", (3,), DENY, DENY, DENY),
    ("bind", (3,), DENY, DENY, DENY),
    ("sendto", (3, POINTER, 1, 0, 0, 0), ALLOW, ALLOW, ALLOW),
    ("sendto", (3, POINTER, 1, 0, POINTER, 16), DENY, DENY, DENY),
    ("sendto", (3, POINTER, 1, 0, 1 << 32, 16), DENY, DENY, DENY),
    ("sendto", (3, POINTER, 1, 0, 1, 16), DENY, DENY, DENY),
    ("sendmsg", (3, POINTER), DENY, DENY, DENY),
    ("sendmmsg", (3, POINTER), DENY, DENY, DENY),
    ("recvmsg", (3, POINTER), ALLOW, ALLOW, ALLOW),
    ("prlimit64", (0, 7, 0, POINTER), ALLOW, ALLOW, ALLOW),
    ("prlimit64", (0, 7, POINTER, 0), DENY, DENY, DENY),
    ("prlimit64", (0, 7, 1 << 32, 0), DENY, DENY, DENY),
    ("prlimit64", (1, 7, 0, POINTER), DENY, DENY, DENY),
    ("setrlimit", (7, POINTER), DENY, DENY, DENY),
    ("newfstatat", (3, POINTER, POINTER, 0x1000), ALLOW, ALLOW, ALLOW),
    ("newfstatat", (-100, POINTER, POINTER, 0), DENY, DENY, ALLOW),
    ("openat", (-100, POINTER, 0), DENY, DENY, ALLOW),
    ("openat", (-100, POINTER, 0o10000000), DENY, DENY, DENY),  # O_PATH
    ("openat", (-100, POINTER, 0o20000), DENY, DENY, DENY),  # O_ASYNC
    ("openat2", (-100, POINTER), DENY, DENY, DENY),
    ("getdents64", (3,), DENY, DENY, ALLOW),
    ("sched_getaffinity", (0,), ALLOW, ALLOW, ALLOW),
    ("sched_getaffinity", (1,), DENY, DENY, DENY),
]
NEVER = """
kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd
ptrace process_vm_readv process_vm_writev process_madvise kcmp move_pages
prctl arch_prctl personality seccomp bpf perf_event_open userfaultfd memfd_create memfd_secret
io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl
mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsconfig fsmount
mount_setattr name_to_handle_at open_by_handle_at
chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat
setxattr link linkat symlink symlinkat mknod mknodat sendfile splice tee vmsplice
copy_file_range setuid setgid setresuid setresgid setgroups capset capget
setpgid setsid shmget shmat shmctl sethostname sched_setaffinity sched_setscheduler ioprio_set
mlock mlock2 mincore membarrier inotify_init1 signalfd4 timer_create setitimer clock_settime
landlock_restrict_self
""".split()
PROFILES = [(1, False), (4, False), (1, True), (4, True)]


def code(machine: str, processes: int = 1, files: bool = False) -> bytes:
    rules = seccomp.profile(processes=processes, files=files)
    table = numbers(machine)
    return bpf.encode(
        bpf.assemble(
            arch=AUDIT_ARCH[machine],
            rules={table[name]: rule for name, rule in rules.items() if name in table},
            errors={table["clone3"]: errno.ENOSYS},
            otherwise=errno.EPERM,
        )
    )


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("at", "processes", "files"), [(0, 1, False), (1, 4, False), (2, 1, True)]
)
def test_a_call_gets_the_verdict_of_the_table(machine, at, processes, files):
    program = code(machine, processes, files)
    table = numbers(machine)
    wrong = [
        (name, arguments, answer)
        for name, arguments, *answers in TABLE
        if name in table
        and (
            answer := verdict(
                program, arch=AUDIT_ARCH[machine], number=table[name], arguments=arguments
            )
        )
        != answers[at]
    ]
    assert wrong == []


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("processes", "files"), PROFILES)
def test_what_reaches_outside_is_never_allowed(machine, processes, files):
    program = code(machine, processes, files)
    table = numbers(machine)
    allowed = [
        name
        for name in NEVER
        if name in table
        and verdict(program, arch=AUDIT_ARCH[machine], number=table[name]) == ALLOW
    ]
    assert allowed == []


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("processes", "files"), PROFILES)
def test_a_number_that_no_table_has_is_refused(machine, processes, files):
    program = code(machine, processes, files)
    known = set(numbers(machine).values())
    answers = {
        verdict(program, arch=AUDIT_ARCH[machine], number=number)
        for number in range(1024)
        if number not in known
    }
    assert answers == {DENY}


@pytest.mark.parametrize("machine", MACHINES)
def test_another_calling_convention_ends_the_process(machine):
    program = code(machine)
    for arch in (0x40000003, 0x40000028, 0xC00000F3, 0, *AUDIT_ARCH.values()):
        expected = ALLOW if arch == AUDIT_ARCH[machine] else KILL
        number = numbers(machine)["read"]
        assert verdict(program, arch=arch, number=number) == expected


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("number", [0, 1, 39, 512, 547, 0x3FFFFFFF, -1 ^ 0x40000000])
def test_a_call_of_the_x32_convention_ends_the_process(machine, number):
    program = code(machine)
    x32 = number | 0x40000000
    assert verdict(program, arch=AUDIT_ARCH[machine], number=x32) == KILL


def test_the_program_that_is_loaded_is_the_one_of_this_machine():
    assert seccomp.program(processes=1, files=False) == code(os.uname().machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_is_small_enough_for_the_kernel(machine):
    assert len(code(machine, processes=4, files=True)) // 8 < 4096


def test_the_tables_agree_where_linux_has_one_number_for_all():
    new = {name: number for name, number in BOTH["x86_64"].items() if number >= 424}
    assert new == {name: n for name, n in BOTH["aarch64"].items() if n >= 424}


def test_no_number_is_given_twice():
    for table in BOTH.values():
        assert len(set(table.values())) == len(table)


def test_an_unknown_machine_is_said_so():
    with pytest.raises(OSError, match="no table of system calls for 'riscv64'"):
        numbers("riscv64")

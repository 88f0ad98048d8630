"""Which system calls contained code may make: an allow-list that looks at arguments.

What is not on the list gives EPERM. Left out on purpose: everything that names another
process (``kill``, ``tgkill``, ``ptrace``, ``prlimit64`` to write, ``process_vm_*``,
``pidfd_*``), everything that makes a descriptor which reaches outside (``socket``,
``memfd_create``, ``io_uring_*``, ``userfaultfd``, ``bpf``), ``execve``, namespaces and
mounts, and ``sendmsg``, which may address a datagram and pass descriptors: use ``send`` and
``writev``.

Memory cannot be made executable: modules in C are to be imported before the filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import cache

from anabranch.sandbox.confine import bpf
from anabranch.sandbox.confine.bpf import FREELY, Equal, NoBits, OneOf, Rule, Zero
from anabranch.sandbox.confine.numbers import AUDIT_ARCH, numbers
from anabranch.sandbox.confine.syscalls import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    Prepared,
)

__all__ = ["add_filter", "profile", "program"]

_MODE_FILTER = 2
_PROT_EXEC = 4
_AT_EMPTY_PATH = 0x1000
_AF_UNIX = 1
_STREAMS = (1, 0o4001, 0o2000001, 0o2004001)  # with and without CLOEXEC and NONBLOCK
_O_ASYNC, _O_PATH = 0o20000, 0o10000000
_TCGETS, _FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX = 0x5401, 0x541B, 0x5421, 0x5450, 0x5451
_F_SETFL = 4
_F_HARMLESS = (
    0,
    1,
    2,
    3,
    1030,
    1034,
)  # DUPFD, GETFD, SETFD, GETFL, DUPFD_CLOEXEC, GET_SEALS

# Threads and forks, but no CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET;
# no CLONE_PTRACE, no CLONE_PARENT (it would be a child of the zygote), no CLONE_UNTRACED.
_CLONE_REFUSED = 0x7E020000 | 0x2000 | 0x8000 | 0x800000

_ALWAYS = """
read write readv writev pread64 pwrite64 preadv pwritev close close_range fstat lseek dup
dup2 dup3 munmap mremap madvise brk msync
rt_sigaction rt_sigprocmask rt_sigpending rt_sigreturn sigaltstack restart_syscall
getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups
gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep time times
futex set_robust_list rseq sched_yield getcpu
exit exit_group uname sysinfo getrandom getrusage getrlimit
pipe pipe2 eventfd2 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
poll ppoll select pselect6 recvfrom recvmsg shutdown getsockname getpeername getsockopt
""".split()

_FILES = """
stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents64
getcwd chdir fchdir statfs fstatfs mkdir mkdirat rmdir unlink unlinkat rename renameat
renameat2 truncate ftruncate fallocate fsync fdatasync fadvise64 umask
""".split()


def profile(*, processes: int, files: bool) -> dict[str, Rule]:
    """The system calls that are allowed, with what has to hold of their arguments.

    Args:
        processes: More than 1 allows threads and forks; how many, the rlimit counts.
        files: Whether there is a file system to look at.
    """
    rules: dict[str, Rule] = dict.fromkeys(_ALWAYS, FREELY)
    rules |= {
        "mmap": [[NoBits(2, _PROT_EXEC)]],
        "mprotect": [[NoBits(2, _PROT_EXEC)]],
        "fcntl": [
            [OneOf(1, *_F_HARMLESS)],
            # O_ASYNC has the kernel send signals.
            [Equal(1, _F_SETFL), NoBits(2, _O_ASYNC)],
        ],
        "ioctl": [[OneOf(1, _TCGETS, _FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX)]],
        # Only a stream ignores the address that a message may carry.
        "socketpair": [[Equal(0, _AF_UNIX), OneOf(1, *_STREAMS)]],
        "sendto": [[Zero(4)]],
        "prlimit64": [[Equal(0, 0), Zero(2)]],
        "sched_getaffinity": [[Equal(0, 0)]],
        # How some C libraries spell fstat.
        "newfstatat": [[Equal(3, _AT_EMPTY_PATH)]],
    }
    if processes > 1:
        rules["clone"] = [[NoBits(0, _CLONE_REFUSED)]]
        rules |= dict.fromkeys(("wait4", "waitid", "set_tid_address"), FREELY)
    if files:
        rules |= dict.fromkeys(_FILES, FREELY)
        rules |= {
            "open": [[NoBits(1, _O_PATH | _O_ASYNC)]],
            "openat": [[NoBits(2, _O_PATH | _O_ASYNC)]],
        }
    return rules


@cache
def program(*, processes: int, files: bool) -> bytes:
    """The filter for this machine, ready to load. It is built once for each profile."""
    machine = os.uname().machine
    table = numbers(machine)
    rules = profile(processes=processes, files=files)
    return bpf.encode(
        bpf.assemble(
            arch=AUDIT_ARCH[machine],
            # Not every machine has every call: aarch64 has no open, only openat.
            rules={table[name]: checks for name, checks in rules.items() if name in table},
            # The C library then takes clone, whose flags a filter can read.
            errors={table["clone3"]: errno.ENOSYS},
            otherwise=errno.EPERM,
        )
    )


def add_filter(calls: Prepared, *, processes: int, files: bool) -> None:
    """Add the calls after which a process can make none but those of :func:`profile`.

    Let them be the last: nearly everything else in this package is refused afterwards.

    Args:
        calls: Where they are added.
        processes: As in :class:`~anabranch.sandbox.limits.Limits`.
        files: Whether anything is granted.
    """
    code = program(processes=processes, files=files)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    calls.keep(buffer)
    # The kernel takes a filter only from who can gain no privileges by it.
    calls.add("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, what="setting no_new_privs")
    what = "loading the seccomp filter"
    calls.add("prctl", PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0, what=what)

"""The few system calls that :mod:`os` lacks, through ctypes. Each raises OSError."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from functools import cache
from typing import TypeAlias

from anabranch.sandbox.confine.numbers import number

__all__ = [
    "PR_SET_DUMPABLE",
    "PR_SET_NO_NEW_PRIVS",
    "PR_SET_PDEATHSIG",
    "PR_SET_SECCOMP",
    "Prepared",
    "call",
    "die_with_parent",
    "gain_no_privileges",
    "prctl",
]

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

_SIGKILL = 9

Argument: TypeAlias = "int | bytes | ctypes.Array[ctypes.c_char] | None"
Word: TypeAlias = "ctypes.c_long | bytes | ctypes.Array[ctypes.c_char] | None"


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


@cache
def _number(name: str) -> int:
    return number(name, os.uname().machine)


def call(name: str, *arguments: Argument, what: str = "") -> int:
    """Make one system call, by name.

    Args:
        name: As in :mod:`~anabranch.sandbox.confine.numbers`.
        arguments: Integers, or buffers that are passed by address.
        what: What was tried, for the sentence of the error.
    """
    return _made(_words(name, arguments), what or name)


def _words(name: str, arguments: Iterable[Argument]) -> tuple[Word, ...]:
    """What is passed for a call, its number first."""
    # Without a type ctypes passes an int as 32 bits and leaves the upper half undefined.
    return (
        ctypes.c_long(_number(name)),
        *(
            ctypes.c_long(argument) if isinstance(argument, int) else argument
            for argument in arguments
        ),
    )


def _made(words: tuple[Word, ...], what: str) -> int:
    result: int = _libc().syscall(*words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


class Prepared:
    """System calls to be made later, in children too.

    A forked process copies each page of memory that it touches first, which takes longer
    than the calls themselves: so all that can be made of them is made beforehand.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[tuple[Word, ...], str]] = []
        self._kept: list[ctypes.Array[ctypes.c_char]] = []

    def add(self, name: str, *arguments: Argument, what: str = "") -> None:
        """One more call, as for :func:`call`."""
        self._calls.append((_words(name, arguments), what or name))

    def keep(self, buffer: ctypes.Array[ctypes.c_char]) -> None:
        """Keep what a call points to."""
        self._kept.append(buffer)

    def make(self) -> None:
        """Make the calls, in their order.

        Raises:
            OSError: The first that fails; none after it is made.
        """
        for words, what in self._calls:
            _made(words, what)


def prctl(option: int, *arguments: int | bytes, what: str = "") -> int:
    """``prctl``, its missing arguments 0, as some options demand."""
    four = (*arguments, 0, 0, 0, 0)[:4]
    return call("prctl", option, *four, what=what or f"prctl({option})")


def die_with_parent() -> None:
    """Have the kernel kill this process when the *thread* that began it ends.

    A change of user id undoes it: it is to be asked for again then.
    """
    prctl(PR_SET_PDEATHSIG, _SIGKILL)


def gain_no_privileges() -> None:
    """Let no program that is executed from here on give privileges. For good."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, what="setting no_new_privs")

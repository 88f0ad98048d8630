"""Classic BPF as seccomp takes it: instructions as tuples, checks as data. Pure.

A filter has a rule for each system call it knows. A rule is a list of ways in which the
call is allowed: it is if all checks of one way hold, and gives an error number otherwise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["FREELY", "Equal", "Instruction", "NoBits", "OneOf", "Rule", "Zero", "assemble"]
__all__ += ["encode"]

Instruction = tuple[int, int, int, int]
"""Operation, how many to skip if true, how many if false, constant."""

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_BITS = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_ALLOW = 0x7FFF0000
_ERROR = 0x00050000
_KILL_PROCESS = 0x80000000

# Offsets in struct seccomp_data. Both machines are little-endian: low word first.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

# Calls of the x32 convention come with this bit, under the arch of x86_64.
_X32 = 0x40000000
_FAIL = 255  # stands for "past this way" until its length is known


class OneOf:
    """The low 32 bits of an argument are one of some values.

    For arguments that the kernel itself cuts to an int: a check of the upper half would
    only refuse callers that left rubbish there.
    """

    __slots__ = ("argument", "values")

    def __init__(self, argument: int, *values: int) -> None:
        self.argument = argument
        self.values = values

    def instructions(self) -> list[Instruction]:
        last = len(self.values) - 1
        tests: list[Instruction] = [
            (_JUMP_EQUAL, last - index, 0 if index < last else _FAIL, value)
            for index, value in enumerate(self.values)
        ]
        return [_low(self.argument), *tests]


class Equal(OneOf):
    """The low 32 bits of an argument are one value."""

    __slots__ = ()

    def __init__(self, argument: int, value: int) -> None:
        super().__init__(argument, value)


class NoBits:
    """None of some of the low 32 bits of an argument is set."""

    __slots__ = ("argument", "mask")

    def __init__(self, argument: int, mask: int) -> None:
        self.argument = argument
        self.mask = mask

    def instructions(self) -> list[Instruction]:
        return [_low(self.argument), (_JUMP_BITS, _FAIL, 0, self.mask)]


class Zero:
    """All 64 bits of an argument are 0: a null pointer."""

    __slots__ = ("argument",)

    def __init__(self, argument: int) -> None:
        self.argument = argument

    def instructions(self) -> list[Instruction]:
        high = (_LOAD, 0, 0, _ARGUMENTS + 8 * self.argument + 4)
        none = (_JUMP_EQUAL, 0, _FAIL, 0)
        return [_low(self.argument), none, high, none]


Check = OneOf | NoBits | Zero
Rule = Sequence[Sequence[Check]]

FREELY: Rule = ((),)
"""Allowed with any arguments."""


def assemble(
    *,
    arch: int,
    rules: Mapping[int, Rule],
    errors: Mapping[int, int],
    otherwise: int,
) -> list[Instruction]:
    """The program that allows what *rules* allow.

    Args:
        arch: The only calling convention let through; a call by another, or by x32, kills
            the process.
        rules: System calls by number, with what has to hold of their arguments.
        errors: System calls by number, with the error number they give.
        otherwise: The error number of all the rest, and of a rule that does not hold.
    """
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL_PROCESS),
    ]
    for number, error in errors.items():
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | error)]
    for number, checks in rules.items():
        program += _rule(number, checks, otherwise)
    program.append((_RETURN, 0, 0, _ERROR | otherwise))
    return program


def _rule(number: int, rule: Rule, otherwise: int) -> list[Instruction]:
    body = [instruction for checks in rule for instruction in _way(checks)]
    if rule != FREELY:
        body.append((_RETURN, 0, 0, _ERROR | otherwise))
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


def _way(checks: Sequence[Check]) -> list[Instruction]:
    body = [instruction for check in checks for instruction in check.instructions()]
    left = len(body)
    return [
        (
            operation,
            left - at if true == _FAIL else true,
            left - at if false == _FAIL else false,
            constant,
        )
        for at, (operation, true, false, constant) in enumerate(body)
    ] + [(_RETURN, 0, 0, _ALLOW)]


def encode(program: Iterable[Instruction]) -> bytes:
    """The program as an array of ``struct sock_filter``."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _low(argument: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)

"""The part of BPF that seccomp runs, as an interpreter: a second opinion on our programs."""

from __future__ import annotations

import struct
from collections.abc import Sequence

ALLOW, KILL = "allow", "kill"


def verdict(
    code: bytes, *, arch: int, number: int, arguments: Sequence[int] = ()
) -> str | int:
    """What the kernel does with a call: `ALLOW`, `KILL`, or the error number it gives.

    Source: Linux, Documentation/userspace-api/seccomp_filter.rst and kernel/seccomp.c.
    """
    six = [value & 2**64 - 1 for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<iIQ6Q", number, arch, 0, *six)
    program = list(struct.iter_unpack("<HBBI", code))
    accumulator, at = 0, 0
    while True:
        operation, true, false, constant = program[at]
        at += 1
        if operation == 0x20:
            assert constant % 4 == 0
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif operation == 0x15:
            at += true if accumulator == constant else false
        elif operation == 0x35:
            at += true if accumulator >= constant else false
        elif operation == 0x45:
            at += true if accumulator & constant else false
        else:
            assert operation == 0x06, hex(operation)
            return _meaning(constant)


def _meaning(value: int) -> str | int:
    action, data = value & 0xFFFF0000, value & 0xFFFF
    if action == 0x00050000:
        return data
    return {0x7FFF0000: ALLOW, 0x80000000: KILL}[action]

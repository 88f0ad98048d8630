"""Landlock: what a process may do to files, and with whom it may speak.

It does not cover ``stat``, ``chmod``, ``utime``, ``readlink``, UDP, and before ABI 9
sockets that have a path: those are what the other layers are for.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from anabranch.sandbox.confine.granted import readable, writable
from anabranch.sandbox.confine.layers import Layer
from anabranch.sandbox.confine.syscalls import PR_SET_NO_NEW_PRIVS, Prepared, call

if TYPE_CHECKING:
    from anabranch.sandbox.limits import Grant

__all__ = ["abi", "add_domain", "restrict_paths", "ruleset"]

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14

_READ = _READ_FILE | _READ_DIR
_CHANGE = (
    _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)

# How many rights there are to files, TCP ports and the outside, from which ABI on.
# Source: Linux, include/uapi/linux/landlock.h and Documentation/userspace-api/landlock.rst.
_FILES = ((1, 13), (2, 14), (3, 15), (5, 16), (9, 17))
_PORTS = ((4, 2),)
_SCOPES = ((6, 2),)

_ASK_VERSION = 1
_PATH_BENEATH = 1


def abi() -> int:
    """The version of Landlock in this kernel, from 1, or 0 if it has none or has it off."""
    try:
        return call("landlock_create_ruleset", None, 0, _ASK_VERSION)
    except OSError:
        return 0


def restrict_paths(grants: Iterable[Grant], layers: frozenset[Layer]) -> None:
    """Leave this process and its children nothing of the files but what is granted.

    The rest of what Landlock knows is refused with it: TCP, and signals and abstract
    sockets to processes outside, siblings that called this too included. Mounting is
    refused afterwards. Called again it can only take away.

    Args:
        grants: Only reading of a ``ReadOnly``; reading, making and removing files and
            folders below the ``/scratch`` of a ``Scratch``, but no links and no sockets.
        layers: Does nothing without ``LANDLOCK``.

    Raises:
        OSError: If there is no Landlock, or a granted path cannot be opened.
    """
    if Layer.LANDLOCK not in layers:
        return
    rules = ruleset(grants)
    calls = Prepared()
    try:
        add_domain(calls, rules)
        calls.make()
    finally:
        os.close(rules)


def ruleset(grants: Iterable[Grant]) -> int:
    """A descriptor of the rules for these grants; as many processes as like enter by it.

    Raises:
        OSError: If there is no Landlock, or a granted path cannot be opened.
    """
    version = abi()
    files = _rights(_FILES, version)
    rules = _create(files, _rights(_PORTS, version), _rights(_SCOPES, version))
    try:
        for path in readable(grants):
            _allow(rules, path, _READ & files)
        for path in writable(grants):
            _allow(rules, path, (_READ | _CHANGE) & files)
    except BaseException:
        os.close(rules)
        raise
    return rules


def add_domain(calls: Prepared, rules: int) -> None:
    """Add the calls by which a process enters a domain of its own with these rules."""
    calls.add("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, what="setting no_new_privs")
    calls.add("landlock_restrict_self", rules, 0, what="entering a Landlock domain")


def _rights(table: tuple[tuple[int, int], ...], version: int) -> int:
    bits = max((bits for since, bits in table if since <= version), default=0)
    return (1 << bits) - 1


def _create(files: int, ports: int, scopes: int) -> int:
    # An older kernel takes a longer record if what it does not know is 0.
    attributes = struct.pack("=QQQ", files, ports, scopes)
    return call(
        "landlock_create_ruleset",
        attributes,
        len(attributes),
        0,
        what="making Landlock rules",
    )


def _allow(ruleset: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place))
        call("landlock_add_rule", ruleset, _PATH_BENEATH, rule, 0, what=f"granting {path}")
    finally:
        os.close(place)

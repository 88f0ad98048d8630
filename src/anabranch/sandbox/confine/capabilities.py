"""Who a process is, and root's powers: both given up for good."""

from __future__ import annotations

import errno
import os
import struct

from anabranch.sandbox.confine.layers import Layer
from anabranch.sandbox.confine.syscalls import PR_SET_DUMPABLE, call, die_with_parent, prctl

__all__ = [
    "NOBODY",
    "become_nobody",
    "drop_capabilities",
    "drop_privileges",
    "empty_bounding_set",
]

NOBODY = 65534
"""The user and group that root becomes: the one of whom the kernel says "nobody"."""

_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_VERSION_3 = 0x20080522
_CAP_SYS_ADMIN = 21


def drop_privileges(layers: frozenset[Layer], *, scratch: bool = False) -> None:
    """Give up root, its groups and every capability, the bounding set included.

    No process of the same user can trace this one afterwards, and it ends with its parent.
    Calling it again is allowed.

    Args:
        layers: With ``USER`` this becomes the one user of the namespace. With
            ``CAPABILITIES`` root becomes nobody, and all capabilities go, those within the
            user namespace too.
        scratch: Keep what :func:`~anabranch.sandbox.confine.mounts.fresh_scratch` needs
            in the children of this process. Each of them then calls this without it.

    Raises:
        OSError: If the kernel refuses.
    """
    if Layer.CAPABILITIES in layers:
        empty_bounding_set()
    if Layer.USER in layers or (Layer.CAPABILITIES in layers and os.geteuid() == 0):
        become_nobody()
    if Layer.CAPABILITIES in layers:
        drop_capabilities(keep=1 << _CAP_SYS_ADMIN if scratch else 0)
    prctl(PR_SET_DUMPABLE, 0, what="closing this process to tracers")
    die_with_parent()


def become_nobody() -> None:
    """Be user and group 65534, in no other group, and keep the capabilities for now.

    In a user namespace that :func:`~anabranch.sandbox.confine.enter` made this is the one
    user there is. It is somebody else outside only for who was root there.
    """
    if os.geteuid() == 0:
        os.setgroups([])
    prctl(_PR_SET_KEEPCAPS, 1)
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    die_with_parent()  # which a change of user undoes


def drop_capabilities(*, keep: int = 0) -> None:
    """Give up all capabilities but those whose bits are set in *keep*."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _VERSION_3, 0)
    low, high = keep & 0xFFFFFFFF, keep >> 32
    sets = struct.pack("=6I", low, low, 0, high, high, 0)
    call("capset", header, sets, what="dropping capabilities")


def empty_bounding_set() -> None:
    """Let no program have a capability. To be called while one still has them."""
    for capability in range(64):
        try:
            prctl(_PR_CAPBSET_DROP, capability, what="dropping capabilities for good")
        except OSError as error:
            # Past the last that this kernel knows; or we have no power to lose.
            if error.errno in (errno.EINVAL, errno.EPERM):
                return
            raise

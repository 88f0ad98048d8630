"""A file system with nothing in it but what is granted.

What is granted is cloned first, while its path can still be followed. Then an empty tmpfs
becomes the root, the clones are hung into it, and the host's tree is let go.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch.sandbox.confine.capabilities import become_nobody
from anabranch.sandbox.confine.granted import SCRATCH, readable
from anabranch.sandbox.confine.layers import Layer
from anabranch.sandbox.confine.rlimits import remember_mapped
from anabranch.sandbox.confine.syscalls import call

if TYPE_CHECKING:
    from anabranch.sandbox.limits import Grant

__all__ = ["fresh_scratch", "hide_file_system"]

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_FROM_HERE = 4  # MOVE_MOUNT_F_EMPTY_PATH
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8  # the same for mount and mount_setattr
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18
_MNT_DETACH = 2
_CLONE_NEWNS = 0x00020000

# Anything the host has for sure: the new root is hung there for a moment.
_STAGE = "/proc"


def hide_file_system(
    grants: Iterable[Grant], layers: frozenset[Layer], scratch: bool = False
) -> None:
    """Put an empty read-only file system in place of the host's.

    In it are the granted files and folders, under their own paths (links on the way to them
    resolved by the host, before; links in them lead only to what is granted), read-only,
    without devices and programs; with *scratch* an empty folder ``/scratch`` too. There is
    no ``/proc``, no ``/dev``, no temporary folder.

    Root has to be able to open the granted paths; afterwards it is an ordinary user, to
    whom the files themselves have to be readable.

    Args:
        grants: What of the host stays. A ``Scratch`` among them is *scratch*'s business.
        layers: Does nothing but take the measure of memory without ``MOUNT``; with ``USER``
            this process becomes the one user of its namespace.
        scratch: Whether each child will mount a scratch folder of its own.

    Raises:
        OSError: If a granted path does not exist, or the kernel refuses.
    """
    remember_mapped()
    if Layer.MOUNT not in layers:
        return
    call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None, what="detaching mounts")
    trees = [(path, _clone(path)) for path in readable(grants)]
    if Layer.USER in layers:
        # Who is not mapped can make nothing on a file system of the namespace.
        become_nobody()
    _tmpfs(_STAGE, "size=1m,nr_inodes=4k,mode=755")
    os.chdir(_STAGE)
    for path, tree in trees:
        _hang(tree, path.lstrip("/"))
    if scratch:
        Path(SCRATCH.lstrip("/")).mkdir(exist_ok=True)
    call("pivot_root", b".", b".", what="changing the root")
    # The old root now lies on the new one.
    call("umount2", b".", _MNT_DETACH, what="letting the host's files go")
    os.chdir("/")
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    _restrict(root, recursive=False)
    os.close(root)


def fresh_scratch(bytes: int) -> None:  # noqa: A002  # as Scratch(bytes) has it
    """Give this process an empty writable ``/scratch`` that no other process sees.

    Before :func:`~anabranch.sandbox.confine.landlock.restrict_paths` and
    :func:`~anabranch.sandbox.confine.drop_privileges`, in a child of a process that kept
    what this needs. It is gone with the process.

    Args:
        bytes: How much it holds, in memory. Rounded up to whole pages.

    Raises:
        OSError: If the file system was not hidden with ``scratch=True``, or the kernel
            refuses.
    """
    call("unshare", _CLONE_NEWNS, what="making a scratch folder")
    # A size below a page would be rounded to 0, which stands for no limit at all.
    _tmpfs(SCRATCH, f"size={max(bytes, 4096)},nr_inodes={16 + bytes // 4096},mode=700")


def _clone(path: str) -> int:
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    tree = call("open_tree", _AT_FDCWD, os.fsencode(path), flags, what=f"granting {path}")
    _restrict(tree, recursive=True)
    return tree


def _hang(tree: int, path: str) -> None:
    """Mount a cloned tree at *path*, relative to the new root."""
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        Path(path).mkdir(parents=True, exist_ok=True)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    where = (_AT_FDCWD, os.fsencode(path))
    call("move_mount", tree, b"", *where, _MOVE_FROM_HERE, what=f"granting /{path}")
    os.close(tree)


def _restrict(tree: int, *, recursive: bool) -> None:
    """Make a mount read-only, and those below it too, without devices or programs."""
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    attributes = struct.pack("=4Q", _RDONLY | _NOSUID | _NODEV | _NOEXEC, 0, 0, 0)
    call(
        "mount_setattr",
        tree,
        b"",
        flags,
        attributes,
        len(attributes),
        what="mounting read-only",
    )


def _tmpfs(path: str, options: str) -> None:
    flags = _NOSUID | _NODEV | _NOEXEC
    where = os.fsencode(path)
    call(
        "mount", b"tmpfs", where, b"tmpfs", flags, options.encode(), what=f"mounting {path}"
    )

"""Which kind of file system a path is on."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

# What is reached over a network. 9p is how a virtual machine shows its host's files.
NETWORK: Final = frozenset(
    """
    9p afs afpfs beegfs ceph cifs davfs fuse.ceph fuse.davfs fuse.gcsfuse
    fuse.glusterfs fuse.goofys fuse.juicefs fuse.mount-s3 fuse.moosefs fuse.rclone
    fuse.s3fs fuse.seaweedfs fuse.smbnetfs fuse.sshfs gfs2 glusterfs gpfs lustre ncpfs
    nfs nfs4 ocfs2 orangefs prl_fs smb3 smbfs vboxsf vmhgfs
    """.split()
)


def file_system(mountinfo: str, path: str) -> str:
    """The type of the file system that a path is on; empty if nothing is said of it.

    Args:
        mountinfo: As ``/proc/self/mountinfo`` has it.
        path: Absolute, without links.

    Source: the manual page proc_pid_mountinfo(5).
    """
    found, depth = "", 0
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        try:
            place, kind = _plain(fields[4]), fields[fields.index("-", 6) + 1]
        except (IndexError, ValueError):
            continue  # not a line as we know them
        parts = len(PurePosixPath(place).parts)
        # Of several at one place the last hides the others.
        if parts >= depth and PurePosixPath(path).is_relative_to(place):
            found, depth = kind, parts
    return found


def _plain(text: str) -> str:
    """A path in which blanks were written as their octal numbers, and the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)

"""What is wrong with the file of a store is said in a sentence, and harms nothing."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anabranch.errors import JournalError
from anabranch.workflow.stores import Commit, NewRun, SQLiteStore
from anabranch.workflow.stores.sqlite import file as sqlite_file
from anabranch.workflow.stores.sqlite.filesystems import NETWORK, file_system


def run_on(path: Path, check: Callable[[SQLiteStore], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        store = SQLiteStore(path)
        try:
            await check(store)
        finally:
            await store.close()

    asyncio.run(main())


def new(run_id: str) -> NewRun:
    return NewRun(run_id=run_id, workflow="w", begin=b"begin")


def refused(path: Path) -> str:
    """What a store at this path says."""
    said: list[str] = []

    async def check(store: SQLiteStore) -> None:
        for call in (
            lambda: store.create(new("r")),
            lambda: store.info("r"),
            lambda: store.open("r", owner="us", lease=1.0),
        ):
            with pytest.raises(JournalError) as caught:
                await call()
            assert type(caught.value) is JournalError
            said.append(str(caught.value))

    run_on(path, check)
    assert "\n" not in said[0]
    assert str(path) in said[0]
    return said[0]


def fill(path: Path) -> None:
    async def check(store: SQLiteStore) -> None:
        await store.create(new("r"))
        epoch = (await store.open("r", owner="us", lease=60.0)).info.epoch
        facts = [b"%d" % n * 100 for n in range(200)]
        await store.commit("r", Commit(epoch=epoch, position=0, facts=facts))

    run_on(path, check)


def test_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "runs.db"
    assert f"there is no folder {path.parent}; make it first" in refused(path)


def test_a_store_can_be_used_once_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "runs.db"

    async def check(store: SQLiteStore) -> None:
        with pytest.raises(JournalError):
            await store.create(new("r"))
        path.parent.mkdir()
        assert await store.create(new("r"))

    run_on(path, check)


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder: give the path of a file in it" in refused(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes to name")
def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "runs.db")
    assert "is a device or a pipe" in refused(tmp_path / "runs.db")


def test_something_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_text("Dear diary, " * 1000)
    assert "is not a database of ours, or is damaged" in refused(path)
    assert path.read_text() == "Dear diary, " * 1000


@pytest.mark.parametrize("statement", ["CREATE TABLE a (b)", "PRAGMA application_id = 7"])
def test_the_database_of_something_else(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
    assert "is a database of something else" in refused(path)


def test_a_newer_format(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    fill(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    assert "a newer release of anabranch (format 99, this one has 1)" in refused(path)


def test_a_damaged_database(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    fill(path)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)

    async def check(store: SQLiteStore) -> None:
        with pytest.raises(
            JournalError, match=r"runs\.db is damaged .*: bring back a copy"
        ):
            await store.open("r", owner="us", lease=1.0)
        with pytest.raises(JournalError, match=r"runs\.db is damaged"):
            await store.history("r")

    run_on(path, check)


READ_ONLY = """
import asyncio, os, sys
from anabranch.errors import JournalError
from anabranch.workflow.stores import NewRun, SQLiteStore

store = SQLiteStore(sys.argv[1])
if os.getuid() == 0:
    os.setuid(65534)

async def main():
    try:
        await store.create(NewRun(run_id="r", workflow="w"))
    except JournalError as error:
        print(error)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work otherwise there")
@pytest.mark.parametrize("what", ["a new file", "the folder", "the file"])
def test_what_is_read_only(tmp_path: Path, what: str) -> None:
    # As somebody else, since root may write anywhere.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "place"
        place.mkdir()
        path = place / "runs.db"
        if what != "a new file":
            fill(path)
            path.chmod(0o444 if what == "the file" else 0o666)
        place.chmod(0o777 if what == "the file" else 0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        place.chmod(0o755)
    assert done.stderr == ""
    assert str(path) in done.stdout
    assert re.search("make it and its folder writable|written by this user", done.stdout)


def test_a_file_that_another_program_keeps_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.05)
    path = tmp_path / "runs.db"

    async def check(store: SQLiteStore) -> None:
        await store.create(new("r"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            sending = asyncio.gather(
                *(store.send("r", f"m{n}", b"body") for n in range(5)),
                return_exceptions=True,
            )
            # Who reads is not kept waiting.
            assert await store.messages("r") == []
            for error in await sending:
                assert type(error) is JournalError
                assert "has been locked by another program for 0.05 s: end that" in str(
                    error
                )
            other.execute("COMMIT")
        assert await store.send("r", "m0", b"body")

    run_on(path, check)


def test_a_file_that_another_program_locks_for_a_while_is_waited_for(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"

    async def check(store: SQLiteStore) -> None:
        await store.create(new("r"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            sending = asyncio.create_task(store.send("r", "m", b"body"))
            for _ in range(3):
                assert await store.messages("r") == []
            assert not sending.done()
            other.execute("COMMIT")
            assert await sending

    run_on(path, check)


async def grow(store: SQLiteStore) -> tuple[int, str]:
    """Write until nothing more can be written: how many facts were, and what is said."""
    epoch = (await store.open("r", owner="us", lease=60.0)).info.epoch
    position = 0
    while True:
        fact = position.to_bytes(4, "big") * 5000
        try:
            await store.commit("r", Commit(epoch=epoch, position=position, facts=(fact,)))
        except JournalError as error:
            return position, str(error)
        position += 1
        assert position < 10_000


async def check_grown(store: SQLiteStore, count: int) -> None:
    history = await store.history("r")
    assert history.info.position == count
    assert list(history.facts) == [n.to_bytes(4, "big") * 5000 for n in range(count)]
    opened = await store.open("r", owner="us", lease=60.0)
    more = Commit(
        epoch=opened.info.epoch, position=count, facts=(b"x" * 100_000,), status="completed"
    )
    await store.commit("r", more)
    assert (await store.history("r")).facts[-1] == b"x" * 100_000


def test_a_file_that_cannot_grow(tmp_path: Path) -> None:
    async def check(store: SQLiteStore) -> None:
        await store.create(new("r"))
        limit = "PRAGMA max_page_count = {}"
        await store._writer.ask(lambda db: db.execute(limit.format(200)).fetchone())
        count, said = await grow(store)
        assert count > 10
        assert "cannot grow, since the disk is full: make room and go on" in said
        await store._writer.ask(lambda db: db.execute(limit.format(10_000)).fetchone())
        await check_grown(store, count)

    run_on(tmp_path / "runs.db", check)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    # Even if a test that failed still has a file open there.
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("closes", [False, True], ids=["goes on", "opens again"])
def test_a_full_disk(small_disk: Path, *, closes: bool) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)

    async def check(store: SQLiteStore) -> None:
        await store.create(new("r"))
        count, said = await grow(store)
        assert count > 10
        assert re.search("disk is full: make room|see whether its disk is full", said)
        # What is there can be read, and nothing is half written.
        assert (await store.history("r")).info.position == count
        if closes:
            await store.close()
        ballast.unlink()
        await check_grown(store, count)

    run_on(small_disk / "runs.db", check)


LOST: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: path.unlink(),
    "moved": lambda path: path.rename(path.with_name("elsewhere")),
    "replaced": lambda path: Path(shutil.copy(path, f"{path}-copy")).replace(path),
    "without its log": lambda path: Path(f"{path}-wal").unlink(),
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_a_file_that_is_lost_while_it_is_in_use(
    tmp_path: Path, lost: Callable[[Path], object]
) -> None:
    path = tmp_path / "runs.db"

    async def check(store: SQLiteStore) -> None:
        await store.create(new("r"))
        await store.info("r")
        lost(path)
        for n in range(3):
            with pytest.raises(JournalError, match="moved, removed or replaced while"):
                await store.send("r", f"m{n}", b"body")
            with pytest.raises(JournalError, match="moved, removed or replaced while"):
                await store.info("r")
        await store.close()
        await store.create(new("s"))

    run_on(path, check)


def test_a_network_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "_file_system", lambda folder: "nfs4")
    said = refused(tmp_path / "runs.db")
    assert "is on a network drive (nfs4)" in said
    assert not list(tmp_path.iterdir())


MOUNTS = """\
22 27 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:22 / /srv rw,relatime shared:2 master:3 - nfs4 server:/srv rw,vers=4.2
24 23 0:23 / /srv/ann/fast rw - xfs /dev/vdb rw
25 22 0:24 / /mnt/my\\040drive rw,noatime - cifs //server/share rw
26 22 0:25 / /srvs rw - btrfs /dev/vdc rw
27 22 0:26 / /data rw - ext4 /dev/vdd rw
28 27 0:27 / /data rw - 9p host rw
a line of another kind
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/x", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/ann", "nfs4"),
        ("/srv/ann/fast", "xfs"),
        ("/srv/ann/fast/deep/down", "xfs"),
        ("/srv/ann/faster", "nfs4"),
        ("/srvs/bob", "btrfs"),
        ("/mnt/my drive/a", "cifs"),
        ("/mnt/my", "ext4"),
        ("/data/x", "9p"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(
    path: str, kind: str
) -> None:
    assert file_system(MOUNTS, path) == kind


def test_nothing_is_said_of_a_path_where_nothing_is_mounted() -> None:
    assert file_system("", "/srv") == ""
    assert file_system("22 27 0:21 / /data rw - ext4 /dev/vda rw\n", "/srv") == ""
    assert {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"} <= NETWORK
    assert not {"ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "apfs"} & NETWORK


@pytest.mark.skipif(sys.platform != "linux", reason="it is asked of /proc")
def test_this_machine_knows_its_own_file_systems(tmp_path: Path) -> None:
    assert file_system(Path("/proc/self/mountinfo").read_text(), "/proc/self") == "proc"
    assert sqlite_file._file_system(tmp_path)

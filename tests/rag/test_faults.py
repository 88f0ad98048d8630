"""Real processes, killed and starved in the middle of real work."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.rag import SqliteStore, StaticEmbedder, index

INDEXING = Path(__file__).with_name("indexing.py")
WORDS = Path(__file__).read_text("utf-8").split()


def write_documents(folder: Path, count: int) -> None:
    chance = random.Random(7)
    for number in range(count):
        paragraphs = (" ".join(chance.choices(WORDS, k=60)) for _ in range(12))
        place = folder / f"part {number % 7}" / f"{number}.md"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"# Number {number}\n\n" + "\n\n".join(paragraphs), "utf-8")


def start(documents: Path, into: Path, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(INDEXING), str(documents), str(into), str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "indexing\n"
    return process


def finish(process: subprocess.Popen[str]) -> list[int]:
    with process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [int(number) for number in out.split()]


def stored_digests(folder: Path) -> set[str]:
    """What the store holds, read after a crash as the next process will."""
    if not (folder / "index.sqlite").exists():
        return set()
    db = sqlite3.connect(folder / "index.sqlite")
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'chunk'").fetchone():
            return set()
        db.execute("INSERT INTO passage (passage, rank) VALUES ('integrity-check', 1)")
        return {digest.hex() for (digest,) in db.execute("SELECT digest FROM chunk")}
    finally:
        db.close()


def passages(folder: Path) -> Counter[tuple[str, str, bytes]]:
    db = sqlite3.connect(folder / "index.sqlite")
    try:
        rows = db.execute(
            "SELECT uri, text, vector FROM chunk JOIN source ON source.id = chunk.source"
            " WHERE state = 'complete'"
        )
        return Counter(rows)
    finally:
        db.close()


@pytest.mark.parametrize(
    "seed", [1, *[pytest.param(s, marks=pytest.mark.exhaustive) for s in range(2, 9)]]
)
def test_killed_at_ten_random_moments_it_embeds_nothing_twice_and_loses_nothing(
    seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    documents, into, log = tmp_path / "documents", tmp_path / "index", tmp_path / "log"
    write_documents(documents, 250)
    began = time.monotonic()
    finish(start(documents, tmp_path / "undisturbed", tmp_path / "log 0"))
    whole_run = time.monotonic() - began

    embedded = Counter[str]()
    moments = 0
    while moments < 10:
        stored = stored_digests(into)
        log.unlink(missing_ok=True)
        process = start(documents, into, log)
        try:
            process.wait(chance.uniform(0, whole_run / 4))
        except subprocess.TimeoutExpired:
            process.kill()
            moments += 1
        finally:
            with process:
                process.communicate()
        lines = set(log.read_text().split()) if log.exists() else set[str]()
        assert not lines & stored, "embedded again what was stored"
        embedded.update(lines)
        if process.returncode == 0:  # it got to the end: begin anew, there is more to kill
            shutil.rmtree(into)
            embedded.clear()

    log.unlink(missing_ok=True)
    stored = stored_digests(into)
    finish(start(documents, into, log))
    assert not set(log.read_text().split() if log.exists() else []) & stored
    assert passages(into) == passages(tmp_path / "undisturbed")
    assert finish(start(documents, into, tmp_path / "log 2"))[2] == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of three megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_a_sentence_and_with_more_room_the_run_goes_on(
    small_disk: Path, tmp_path: Path
) -> None:
    documents = tmp_path / "documents"
    write_documents(documents, 400)
    into = small_disk / "index"
    command = [
        sys.executable,
        "-m",
        "anabranch",
        "index",
        str(documents),
        "--into",
        str(into),
    ]
    command += ["--model", "static", "--chunk-tokens", "64"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the disk of" in done.stderr
    assert "is full: free some space and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    stored_digests(into)  # whole, as far as it goes

    resize = ["mount", "-o", "remount,size=100m", str(small_disk)]
    subprocess.run(resize, check=True)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert len({uri for uri, _, _ in passages(into)}) == 400


def test_a_folder_with_everything_wrong_in_it(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    write_documents(documents, 5)
    chance = random.Random(3)
    (documents / "random.txt").write_bytes(chance.randbytes(100_000))
    (documents / "random.html").write_bytes(chance.randbytes(100_000))
    (documents / "random.pdf").write_bytes(chance.randbytes(100_000))
    (documents / "random.py").write_bytes(chance.randbytes(100_000))
    (documents / "gone.md").symlink_to(documents / "nowhere.md")
    (documents / "out.md").symlink_to(tmp_path / "nowhere.md")
    (documents / "loop").symlink_to(documents)
    (documents / "empty.md").touch()
    os.mkfifo(documents / "pipe.md")

    report = asyncio.run(index([documents], into=tmp_path / "index", model="static"))
    broken = {Path(error.uri).name: error.reason for error in report.broken}
    assert set(broken) >= {"random.txt", "random.pdf", "random.py", "gone.md"}
    assert "out.md" not in broken  # where it leads is nobody's business here
    assert all(reason.strip() for reason in broken.values())
    sources = {Path(uri).name for uri, _, _ in passages(tmp_path / "index")}
    assert sources >= {f"{number}.md" for number in range(5)}


def test_a_folder_of_no_documents_gives_an_empty_index(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "picture.png").write_bytes(b"\x89PNG")
    report = asyncio.run(index([documents], into=tmp_path / "index", model="static"))
    assert (report.sources, report.skipped, report.chunks) == (0, 1, 0)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_file_of_200_megabytes_is_indexed_in_bounded_memory(tmp_path: Path) -> None:
    line = " ".join(WORDS[:40])
    with (tmp_path / "large.txt").open("w") as file:
        number = 0
        while file.tell() < 200_000_000:
            file.write(f"Paragraph {number} says: {line}\n\n")
            number += 1
    program = (
        "import asyncio, re, sys\n"
        "from pathlib import Path\n"
        "from anabranch.rag import index\n"
        "report = asyncio.run(index([sys.argv[1]], into=sys.argv[2], model='static'))\n"
        # What getrusage says includes the process that this one was forked from.
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]\n"
        "print(report.new, report.chunks, int(peak) // 1024)\n"
    )
    command = [
        sys.executable,
        "-c",
        program,
        str(tmp_path / "large.txt"),
        str(tmp_path / "i"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    new, chunks, peak_mib = map(int, done.stdout.split())
    assert new == 1
    assert chunks > 100_000
    assert peak_mib < 450


def test_cancelling_an_indexing_run_stops_it_cleanly(tmp_path: Path) -> None:
    write_documents(tmp_path / "documents", 300)

    async def main() -> None:
        task = asyncio.create_task(
            index([tmp_path / "documents"], into=tmp_path / "index", model="static")
        )
        while not (tmp_path / "index" / "index.sqlite").exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1
        # The lock is free and the store is whole.
        async with await SqliteStore.create(tmp_path / "index", StaticEmbedder()) as store:
            await store.count()

    asyncio.run(main())
    stored_digests(tmp_path / "index")

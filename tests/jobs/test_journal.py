"""Results that survive the process."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any, TextIO

import pytest

from anabranch.errors import JournalError, UsageError
from anabranch.jobs import amap, astream
from anabranch.jobs import map as jobs_map

PROGRAM = Path(__file__).with_name("journalled.py")

calls: Counter[Any] = Counter()


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


async def double(item: int) -> int:
    calls[item] += 1
    await asyncio.sleep(0)
    return 2 * item


async def fails_on_seven(item: int) -> int:
    calls[item] += 1
    if item == 7:
        raise ValueError(item)
    return item


def test_a_run_that_is_started_again_does_only_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "done.db"
    assert jobs_map(double, range(50), journal=path) == [2 * i for i in range(50)]
    assert jobs_map(double, range(80), journal=path) == [2 * i for i in range(80)]
    assert calls == Counter(range(80))


def test_failures_are_not_kept_and_what_had_finished_is(tmp_path: Path) -> None:
    path = tmp_path / "done.db"
    for _ in range(2):
        with pytest.raises(ValueError, match="7"):
            jobs_map(fails_on_seven, range(10), journal=path, concurrency=1)
    assert calls == Counter([0, 1, 2, 3, 4, 5, 6, 7, 7])
    outcomes = jobs_map(fails_on_seven, range(10), journal=path, errors="return")
    assert [o.attempts for o in outcomes] == [0] * 7 + [1, 1, 1]


def test_equal_items_are_done_once_also_within_a_run(tmp_path: Path) -> None:
    items = [3, 1, 3, 3, 1]
    assert jobs_map(double, items, journal=tmp_path / "j", concurrency=2) == [6, 2, 6, 6, 2]
    assert calls == Counter([1, 3])


def test_functions_do_not_get_each_others_results(tmp_path: Path) -> None:
    jobs_map(double, [1, 2], journal=tmp_path / "j")
    assert jobs_map(fails_on_seven, [1, 2], journal=tmp_path / "j") == [1, 2]


def test_results_of_any_type_that_pickles_come_back_as_they_were(tmp_path: Path) -> None:
    values = [None, (1, [2]), {"a": {1, 2}}, b"\0", 1.5, Path("x"), ValueError("kept")]

    for _ in range(2):
        back = jobs_map(_value_of, range(len(values)), journal=tmp_path / "j")
        assert [repr(v) for v in back] == [repr(v) for v in values]
        assert [type(v) for v in back] == [type(v) for v in values]


async def _value_of(item: int) -> Any:
    calls[item] += 1
    values = [None, (1, [2]), {"a": {1, 2}}, b"\0", 1.5, Path("x"), ValueError("kept")]
    return values[item]


def test_a_callers_key_decides_what_is_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        for item in ({"id": 1, "at": 5}, {"id": 1, "at": 6}):
            found = await amap(
                lambda i: double(i["at"]),
                [item],
                journal=tmp_path / "j",
                key=lambda i: str(i["id"]),
            )
            assert found == [10]

    asyncio.run(main())
    assert calls == Counter([5])


# ------------------------------------------------------------------ clear errors


async def to_generator(item: int) -> Generator[int]:
    raise AssertionError("must not start")


async def to_file(item: int) -> TextIO:
    raise AssertionError("must not start")


def test_results_that_can_be_known_not_to_be_storable_are_refused_first(
    tmp_path: Path,
) -> None:
    class Inner:
        pass

    async def to_local(item: int) -> list[Inner]:
        raise AssertionError("must not start")

    to_local.__annotations__["return"] = list[Inner]
    for fn in (to_generator, to_file, to_local):
        with pytest.raises(JournalError, match="cannot be stored in a journal"):
            jobs_map(fn, [1], journal=tmp_path / "j")


def test_a_result_that_cannot_be_stored_ends_the_run_whatever_the_policy(
    tmp_path: Path,
) -> None:
    async def lock(item: int) -> Any:
        calls[item] += 1
        return (lambda: 1) if item == 3 else item

    with pytest.raises(
        JournalError, match="a result of type function cannot be stored"
    ) as e:
        jobs_map(lock, range(100), journal=tmp_path / "j", errors="skip", concurrency=1)
    assert "in job 3, given 3" in e.value.__notes__
    assert max(calls) == 3


def test_an_item_without_a_key_ends_the_run_with_the_remedy(tmp_path: Path) -> None:
    async def use(item: object) -> int:
        raise AssertionError("must not start")

    with pytest.raises(UsageError, match="pass key="):
        jobs_map(use, [object()], journal=tmp_path / "j", errors="return")


def test_two_runs_on_one_journal_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with astream(double, range(10), journal=tmp_path / "j") as results:
            await anext(results)
            with pytest.raises(JournalError, match="in use by another run"):
                await amap(double, range(10), journal=tmp_path / "j")
        assert await amap(double, range(10), journal=tmp_path / "j")

    asyncio.run(main())


def test_two_processes_on_one_journal_are_refused(tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        sys.executable,
        PROGRAM,
        tmp_path / "j",
        tmp_path / "log",
        "100000",
    ]
    with subprocess.Popen(arguments) as other:
        while not (tmp_path / "log").exists() or not (tmp_path / "log").stat().st_size:
            time.sleep(0.01)
        with pytest.raises(JournalError, match="in use by another run"):
            jobs_map(double, [1], journal=tmp_path / "j")
        other.kill()


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all " * 100)
    with pytest.raises(JournalError, match="damaged, or was never a journal"):
        jobs_map(double, [1], journal=text)
    assert text.read_text().startswith("not a database")

    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(JournalError, match="but not a journal of jobs"):
        jobs_map(double, [1], journal=other)

    with pytest.raises(JournalError, match="cannot be opened"):
        jobs_map(double, [1], journal=tmp_path / "missing" / "j")
    with pytest.raises(JournalError, match="is a folder: give the path of a file"):
        jobs_map(double, [1], journal=tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (Path(os.devnull), tmp_path / "pipe"):
        with pytest.raises(JournalError, match="is a device or a pipe: give the path of"):
            jobs_map(double, [1], journal=path)
    assert not calls


def test_a_journal_that_was_cut_off_is_reported_or_survived(tmp_path: Path) -> None:
    path = tmp_path / "j"
    jobs_map(double, range(3000), journal=path)
    whole = path.read_bytes()
    rng, said = random.Random(5), list[str]()
    for _ in range(20):
        path.write_bytes(whole[: rng.randrange(1, len(whole))])
        try:
            assert jobs_map(double, range(300), journal=path) == [*range(0, 600, 2)]
        except JournalError as error:
            said.append(str(error))
        for left in tmp_path.glob("j-*"):
            left.unlink()
    assert all("damaged" in sentence for sentence in said)


def test_a_result_that_cannot_be_read_back_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "j"
    jobs_map(double, [1], journal=path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE done SET value = x'8004'")
    connection.close()
    with pytest.raises(JournalError, match="cannot be read back"):
        jobs_map(double, [1], journal=path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small tmpfs")
def test_a_full_disk_ends_the_run_and_what_was_written_is_kept(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting needs privileges")
    try:
        with pytest.raises(JournalError, match="the disk is full"):
            jobs_map(kilobytes, range(500), journal=small / "j", errors="skip")
        done = sum(calls.values())
        assert 10 < done < 500
        subprocess.run(["mount", "-o", "remount,size=9m", small], check=True)
        assert len(jobs_map(kilobytes, range(500), journal=small / "j")) == 500
        again = sum(calls.values()) - 500
        assert again <= 32, "only what was in flight is done again"
    finally:
        subprocess.run(["umount", small], check=True)


async def kilobytes(item: int) -> bytes:
    calls[item] += 1
    return bytes(4096)


def test_a_read_only_journal_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "j"
    jobs_map(double, [1], journal=path)
    mounted = subprocess.run(
        ["mount", "--bind", "-o", "ro", tmp_path, tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting needs privileges")
    subprocess.run(["mount", "-o", "remount,ro,bind", tmp_path], check=True)
    try:
        with pytest.raises(JournalError, match="read-only, full or failing"):
            jobs_map(double, [2], journal=path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# ------------------------------------------------------------------------ killed


def killed_run(folder: Path, items: int, after_s: float) -> bool:
    """Start the program and kill it so much later; whether it had come to its end."""
    arguments: list[str | Path] = [
        sys.executable,
        PROGRAM,
        folder / "j",
        folder / "log",
        str(items),
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            out, _ = process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            out, _ = process.communicate()
    return "complete" in out


def check_kills(folder: Path, kills: int) -> None:
    items, rng = 400, random.Random(kills)
    for _ in range(kills):
        log = folder / "log"
        before = log.read_text() if log.exists() else ""
        killed_run(folder, items, 0.15 + rng.random() * 0.25)
        after = log.read_text().removeprefix(before) if log.exists() else ""
        seen = {line for line in before.split("\n") if line.startswith("seen")}
        redone = [
            line
            for line in after.split("\n")
            if line.startswith("done") and f"seen {int(line[5:]) ** 2}" in seen
        ]
        assert redone == [], "an item whose result was handed on is not done again"
    assert killed_run(folder, items, 60)
    last = (folder / "log").read_text().split("\n")
    assert {int(line[5:]) for line in last if line.startswith("seen")} == {
        i * i for i in range(items)
    }
    done = Counter(line for line in last if line.startswith("done"))
    assert len(done) == items
    assert sum(done.values()) <= items + 8 * kills, "only what was in flight"


def test_a_run_that_is_killed_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    check_kills(tmp_path, 5)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_a_hundred_kills_at_random_points_lose_and_repeat_nothing(tmp_path: Path) -> None:
    for round_ in range(10):
        folder = tmp_path / str(round_)
        folder.mkdir()
        check_kills(folder, 10)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_around_a_commit_loses_nothing(tmp_path: Path, moment: str) -> None:
    # The process ends at the very write, which no signal hits reliably.
    program = (
        "import sys, os\n"
        "from anabranch.jobs import journal, map\n"
        "apply, at = journal.Journal._apply, int(sys.argv[2])\n"
        "def crashing(self, asked, told):\n"
        "    global at\n"
        "    at -= bool(told)\n"
        "    if at == 0 and told and sys.argv[3] == 'before': os._exit(9)\n"
        "    answers = apply(self, asked, told)\n"
        "    if at == 0 and told: os._exit(9)\n"
        "    return answers\n"
        "journal.Journal._apply = crashing\n"
        "async def double(item):\n"
        "    print(item, flush=True)\n"
        "    return 2 * item\n"
        "assert map(double, range(12), journal=sys.argv[1], concurrency=2) "
        "== list(range(0, 24, 2))\n"
    )
    for at in range(1, 6):
        path = str(tmp_path / f"{moment}{at}")
        arguments = [sys.executable, "-c", program, path]
        first = subprocess.run(
            [*arguments, str(at), moment], capture_output=True, text=True
        )
        assert first.returncode == 9
        second = subprocess.run([*arguments, "0", moment], capture_output=True, text=True)
        assert second.returncode == 0, second.stderr
        done = Counter((first.stdout + second.stdout).split())
        assert set(done) == {str(i) for i in range(12)}
        assert sum(done.values()) - 12 == (2 if moment == "before" else 0)


async def lines(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def test_streams_resume_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with astream(
            double, lines(20), journal=tmp_path / "j", concurrency=1
        ) as some:
            for _ in range(5):
                await anext(some)
        results = astream(double, lines(20), journal=tmp_path / "j", ordered=True)
        assert [value async for value in results] == [2 * i for i in range(20)]

    asyncio.run(main())
    assert max(calls.values()) <= 2
    assert sum(calls.values()) <= 20 + 1


def test_a_run_in_a_thread_ends_though_the_main_thread_has_ended(tmp_path: Path) -> None:
    program = f"""
import asyncio, threading
from anabranch import jobs

async def wait(item):
    await asyncio.sleep(0.02)
    return item

def work():
    print(jobs.map(wait, range(9), concurrency=1, journal={str(tmp_path / "j")!r}))

threading.Thread(target=work).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{list(range(9))}\n", "")


@pytest.mark.exhaustive
def test_a_result_that_is_too_large_is_named_with_its_size(tmp_path: Path) -> None:
    async def large(item: int) -> bytes:
        return b"x" * 1_000_000_000

    with pytest.raises(JournalError, match=r"1,000,000,0.. bytes cannot be stored"):
        jobs_map(large, [1], journal=tmp_path / "j")
    jobs_map(double, [1], journal=tmp_path / "j")


SECOND = """
import sys
from anabranch import jobs
from anabranch.errors import JournalError

def text(item):
    return str(item)

try:
    jobs.map(text, [100], journal=sys.argv[1], executor="thread")
except JournalError as error:
    print(error)
"""


def second_run(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SECOND, path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_copy_that_is_made_while_a_run_is_at_work_lets_no_other_run_in(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j"
    said: list[str] = []

    async def job(item: int) -> int:
        if item == 1:
            shutil.copy(path, tmp_path / "copy")
            with pytest.raises(JournalError, match="in use by another run"):
                await amap(double, [1], journal=path)
            said.append(await asyncio.to_thread(second_run, path))
        return item

    assert jobs_map(job, range(3), journal=path, concurrency=1) == [0, 1, 2]
    assert "in use by another run" in said[0]
    assert second_run(path) == ""


def test_a_child_that_is_forked_while_a_run_is_at_work_keeps_no_lock(
    tmp_path: Path,
) -> None:
    program = f"""
import os, time
from anabranch import jobs

def job(item):
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    return item

jobs.map(job, [1], journal={str(tmp_path / "j")!r}, executor="thread")
print("done", flush=True)
os._exit(0)  # the child lives on
"""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        process.wait()
        try:
            assert second_run(tmp_path / "j") == ""
        finally:
            os.killpg(process.pid, signal.SIGKILL)


class Refusal(Exception):
    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


async def refusal(item: int) -> Exception:
    return Refusal("no", item)


def test_a_result_that_could_not_be_read_back_is_refused_when_it_is_made(
    tmp_path: Path,
) -> None:
    with pytest.raises(JournalError, match="Refusal can be stored but not read back"):
        jobs_map(refusal, [503], journal=tmp_path / "j")


def _replace(path: Path) -> None:
    path.unlink()
    path.touch()


@pytest.mark.parametrize(
    "take",
    [Path.unlink, lambda path: path.rename(path.with_name("kept")), _replace],
    ids=["removed", "renamed", "replaced"],
)
def test_a_journal_that_is_taken_away_ends_its_run_with_the_next_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)

    async def job(item: int) -> int:
        calls[item] += 1
        if item == 2:
            os.chdir("/")  # the journal stays where it was when it was opened
        if item == 4:
            take(tmp_path / "j")
        return item

    with pytest.raises(JournalError, match=r"^j was moved, removed or replaced"):
        jobs_map(job, range(10), journal="j", concurrency=1, errors="return")
    assert calls == Counter(range(5))

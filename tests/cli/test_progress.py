"""The bar, on a terminal and without one."""

from __future__ import annotations

import io

import pytest

from anabranch.jobs import Progress, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Watch:
    """A clock that stands where it is put."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 100.0
        monkeypatch.setattr(progress, "monotonic", lambda: self.time)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def test_a_log_gets_lines_ever_more_rarely_and_one_at_the_end(watch: Watch) -> None:
    file = io.StringIO()
    bar = Progress("indexing", unit="source", file=file)
    bar.begun(1_000)
    for done in range(1, 1_001):
        watch.time += 0.1
        bar.counted("passages", 20 * done)
        bar.finished(done, ValueError() if done == 3 else None)
    bar.ended()
    lines = file.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == "indexing: 50 of 1,000 sources, 1,020 passages, 200/s, 1 failed, 5 s"
    assert lines[-1].startswith("indexing: 1,000 of 1,000 sources, 20,000 passages, 200/s")


def test_a_terminal_is_drawn_on_ten_times_a_second_at_most(watch: Watch) -> None:
    file = Terminal()
    bar = Progress("indexing", unit="source", file=file)
    bar.begun(10_000)
    for done in range(1, 10_001):
        watch.time += 0.001
        bar.counted("passages", 20 * done)
        bar.finished(done, None)
    bar.ended()
    frames = file.getvalue().split("\r")
    assert 90 <= len(frames) <= 110
    assert "10000/10000" in file.getvalue()
    assert "200,000 passages, 20,000/s" in file.getvalue()


def test_passages_move_the_bar_while_one_large_source_is_read(watch: Watch) -> None:
    file = Terminal()
    bar = Progress("indexing", file=file)
    bar.begun(1)
    for count in (64, 128):
        watch.time += 1
        bar.counted("passages", count)
    assert "0/1" in file.getvalue()
    assert "128 passages, 64/s" in file.getvalue()
    bar.ended()


def test_an_unknown_total_is_no_obstacle(watch: Watch) -> None:
    file = Terminal()
    bar = Progress(unit="page", file=file)
    bar.begun(None)
    watch.time += 1
    bar.finished(0, None)
    bar.ended()
    assert "1 pages" in file.getvalue()

"""What a person, a log or a function sees of the work, and that the work sees nothing."""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from anabranch import amap, asyncio_run
from anabranch.errors import UsageError
from anabranch.jobs import CallbackProgress, Progress, RichProgress, Status
from anabranch.jobs.status import Tally
from anabranch.observe import Observer, Observers
from anabranch.testing import run_virtual


class Watch:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Torn(Terminal):
    """A terminal that cannot go back to the start of its line."""

    def write(self, text: str) -> int:
        if "\r" in text or "\x1b" in text:
            raise OSError("no such control")
        return super().write(text)


def tqdm_bar(file: io.StringIO, watch: Watch, **options: Any) -> Observer:
    return Progress(file=file, clock=watch, **options)


def rich_bar(file: io.StringIO, watch: Watch, **options: Any) -> Observer:
    console = Console(file=file, force_terminal=file.isatty(), width=100, _environ={})
    return RichProgress(console=console, clock=watch, **options)


Bar = Callable[..., Observer]


@pytest.fixture(params=[tqdm_bar, rich_bar], ids=["tqdm", "rich"])
def bar(request: pytest.FixtureRequest) -> Bar:
    made: Bar = request.param
    return made


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


# -------------------------------------------------------------------------- a function


def test_what_has_finished_is_shown_while_a_slow_job_goes_on() -> None:
    told: list[Status] = []

    async def main() -> None:
        time = asyncio.get_running_loop().time
        meter = CallbackProgress(told.append, clock=time)
        await amap(asyncio.sleep, [0.01] * 5 + [4.0], observer=meter)
        seen = [(status.done, round(status.elapsed_s)) for status in told]
        assert (5, 1) in seen
        assert (5, 3) in seen
        await asyncio.sleep(60)
        assert len(told) == len(seen)  # nothing ticks on

    run_virtual(main())


def test_a_title_is_one_short_line(watch: Watch) -> None:
    for title in ("two\nlines", "word " * 30):
        file = Terminal()
        meter = Progress(title, file=file, clock=watch)
        meter.begun(3)
        meter.ended()
        assert "\n" not in file.getvalue().rstrip()
        assert "0/3" in file.getvalue()


def test_a_function_is_told_ten_times_a_second_at_most(watch: Watch) -> None:
    told: list[Status] = []
    meter = CallbackProgress(told.append, clock=watch)
    meter.begun(10_000)
    for index in range(10_000):
        watch.time += 0.001
        meter.finished(index, None)
    assert 90 <= len(told) <= 101
    meter.ended()
    assert told[-1].done == 10_000


def test_the_last_status_is_the_final_one_however_soon_it_comes(watch: Watch) -> None:
    told: list[Status] = []
    meter = CallbackProgress(told.append, clock=watch)
    meter.begun(3)
    for index in range(3):
        meter.started(index)
        meter.finished(index, ValueError() if index == 1 else None)
    watch.time += 2
    meter.ended()
    assert told[-1] == Status(
        done=3, total=3, failed=1, elapsed_s=2.0, rate=1.5, remaining_s=0.0
    )


def test_a_status_tells_what_is_in_flight_and_what_was_tried_again(watch: Watch) -> None:
    told: list[Status] = []
    meter = CallbackProgress(told.append, clock=watch)
    meter.begun(None)
    for index in range(5):
        meter.started(index)
    meter.finished(0, None)
    meter.counted("passages", 12)
    watch.time += 1
    meter.retried(1, 1, ConnectionError(), 0.5)
    status = told[-1]
    assert (status.done, status.in_flight, status.retried) == (1, 4, 1)
    assert status.counts == {"passages": 12}
    assert status.total is status.remaining_s is None


def test_a_cancelled_job_is_neither_done_nor_failed(watch: Watch) -> None:
    told: list[Status] = []
    meter = CallbackProgress(told.append, clock=watch)
    meter.begun(2)
    for index in range(2):
        meter.started(index)
        meter.finished(index, asyncio.CancelledError())
    meter.ended()
    assert (told[-1].done, told[-1].failed, told[-1].in_flight) == (0, 0, 0)


def test_a_job_that_was_cut_off_is_not_in_flight_after_the_end(watch: Watch) -> None:
    told: list[Status] = []
    meter = CallbackProgress(told.append, clock=watch)
    meter.begun(2)
    meter.started(0)
    meter.ended()
    assert told[-1].in_flight == 0
    assert told[-1].remaining_s is None


def test_each_run_of_one_meter_is_counted_anew(watch: Watch) -> None:
    told: list[Status] = []
    meter = CallbackProgress(told.append, clock=watch)
    for count in (3, 2):
        meter.begun(count)
        for index in range(count):
            meter.finished(index, None)
        meter.ended()
        assert (told[-1].done, told[-1].total) == (count, count)


def test_a_function_that_raises_is_called_once_and_the_work_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[Status] = []

    def broken(status: Status) -> None:
        calls.append(status)
        raise RuntimeError("no connection")

    assert asyncio.run(amap(double, range(5), progress=broken)) == [0, 2, 4, 6, 8]
    assert len(calls) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no connection" in caplog.text


# ---------------------------------------------------------------------- rate, time left


@given(st.integers(1, 1000), st.lists(st.integers(1, 1000), min_size=1))
def test_at_a_steady_pace_the_rate_is_the_pace_whenever_one_looks(
    pace: int, pauses: list[int]
) -> None:
    tally = Tally(0.0, total=pace * (sum(pauses) + 10))
    now = 0
    for pause in pauses:
        now += pause
        tally.done = pace * now
        status = tally.look(float(now))
        assert status.rate == pytest.approx(pace)
    assert status.remaining_s == pytest.approx(10)


def test_the_rate_follows_work_that_becomes_slower() -> None:
    tally = Tally(0.0, total=10_000)
    for second in range(1, 61):
        tally.done += 100
        tally.look(float(second))
    for second in range(61, 181):
        tally.done += 1
        status = tally.look(float(second))
    assert 1 < status.rate < 4
    assert tally.end(180.0).rate == pytest.approx(6120 / 180)


def test_nothing_is_foretold_before_the_first_job_is_done() -> None:
    tally = Tally(0.0, total=10)
    assert tally.look(5.0).rate == 0
    assert tally.look(6.0).remaining_s is None


def test_more_jobs_than_expected_end_the_foretelling() -> None:
    tally = Tally(0.0, total=10)
    tally.done = 11
    assert tally.look(5.0).remaining_s is None


# --------------------------------------------------------------------------------- bars


def test_a_bar_shows_count_rate_time_left_failures_and_retries(
    bar: Bar, watch: Watch
) -> None:
    file = Terminal()
    meter = bar(file, watch, title="pages")
    meter.begun(100)
    for index in range(40):
        watch.time += 0.5
        meter.started(index)
        if index == 5:
            meter.retried(index, 1, ConnectionError(), 0.1)
        meter.finished(index, ValueError() if index in (1, 2) else None)
    shown = file.getvalue()
    assert "pages" in shown
    assert "40/100 [00:20<00:30, 2.0/s, 2 failed, 1 retried]" in shown
    assert "40%" in shown
    meter.ended()


def test_a_bar_is_there_before_the_first_job_is_done(bar: Bar, watch: Watch) -> None:
    file = Terminal()
    meter = bar(file, watch)
    meter.begun(10)
    assert "0/10 [00:00<?, ?/s]" in file.getvalue()
    meter.ended()


def test_a_bar_is_redrawn_ten_times_a_second_at_most(bar: Bar, watch: Watch) -> None:
    file = Terminal()
    meter = bar(file, watch)
    meter.begun(1_000)
    for index in range(1_000):
        watch.time += 0.001
        meter.finished(index, None)
    meter.ended()
    assert 9 <= file.getvalue().count("/1000 [") <= 13
    assert "1000/1000 [00:01<00:00, 1,000/s]" in file.getvalue()


def test_a_bar_without_a_total_counts(bar: Bar, watch: Watch) -> None:
    file = Terminal()
    meter = bar(file, watch, unit="page")
    meter.begun(None)
    watch.time += 4
    meter.finished(0, None)
    meter.ended()
    assert "1 pages [00:04, 0.25/s]" in file.getvalue()


def test_a_bar_whose_total_was_too_small_counts_on(bar: Bar, watch: Watch) -> None:
    file = Terminal()
    meter = bar(file, watch)
    meter.begun(1)
    for index in range(3):
        meter.finished(index, None)
    watch.time += 7300
    meter.ended()
    assert "3 jobs [2:01:40, 0.00041/s]" in file.getvalue()


def test_a_title_is_shown_as_it_is_written(bar: Bar, watch: Watch) -> None:
    file = Terminal()
    meter = bar(file, watch, title="[red]{n} 100%")
    meter.begun(1)
    meter.counted("{x}[b]", 3)
    meter.ended()
    assert "[red]{n} 100%" in file.getvalue()
    assert "3 {x}[b]" in file.getvalue()


def test_a_message_is_kept_beside_the_bar(bar: Bar, watch: Watch) -> None:
    file = Terminal()
    meter = bar(file, watch)
    meter.begun(2)
    meter.said("a page [1] is {empty}")
    watch.time += 1
    meter.finished(0, None)
    meter.ended()
    assert "a page [1] is {empty}\n" in file.getvalue()
    assert "1/2" in file.getvalue()


def test_where_there_is_no_terminal_lines_tell_rate_and_time_left(
    bar: Bar, watch: Watch
) -> None:
    file = io.StringIO()
    meter = bar(file, watch, title="pages")
    meter.begun(30)
    for index in range(10):
        watch.time += 1
        meter.retried(index, 1, ConnectionError(), 0.1)
        meter.finished(index, None)
    meter.ended()
    assert file.getvalue().splitlines() == [
        "pages: 4 of 30 jobs, 0.8/s, 5 retried, 5 s, 00:32 left",
        "pages: 9 of 30 jobs, 0.91/s, 10 retried, 10 s, 00:23 left",
        "pages: 10 of 30 jobs, 1.0/s, 10 retried, 10 s",
    ]


def test_a_bar_that_cannot_be_drawn_becomes_lines_with_one_warning(
    bar: Bar, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    file = Torn()
    results = asyncio.run(amap(double, range(3), observer=bar(file, watch)))
    assert results == [0, 2, 4]
    assert "jobs: 3 of 3 jobs" in file.getvalue()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no such control" in caplog.text
    assert "plain lines instead" in caplog.text


def test_a_bar_that_broke_holds_up_no_bar_of_another_thread(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Progress(file=Torn(), clock=watch)
    broken.begun(1)
    monkeypatch.setattr(sys, "stderr", Terminal())
    asyncio_run(amap(double, range(3), progress=True))
    broken.ended()


def test_a_bar_that_breaks_on_the_way_becomes_lines_at_once(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaking(Terminal):
        is_broken = False

        def write(self, text: str) -> int:
            if self.is_broken and "\r" in text:
                raise OSError("the terminal is gone")
            return super().write(text)

    file = Breaking()
    meter = Progress(file=file, clock=watch)
    meter.begun(10)
    meter.finished(0, None)
    file.is_broken = True
    watch.time += 1
    meter.finished(1, None)
    assert file.getvalue().endswith("jobs: 2 of 10 jobs, 2.0/s, 1 s, 00:04 left\n")
    watch.time += 1
    meter.finished(2, None)
    assert file.getvalue().endswith("00:04 left\n"), "a line now and then, not ten a second"
    meter.ended()
    assert file.getvalue().endswith("jobs: 3 of 10 jobs, 1.5/s, 2 s\n")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_closed_file_costs_one_warning_at_most_and_no_job(
    kind: type[io.StringIO], bar: Bar, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    file = kind()
    meter = bar(file, watch)
    file.close()
    assert asyncio.run(amap(double, range(3), observer=meter)) == [0, 2, 4]
    assert len(caplog.records) <= 1  # tqdm keeps quiet about a terminal that is gone


def test_a_program_without_standard_error_works_without_a_bar(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert asyncio.run(amap(double, range(3), progress=True)) == [0, 2, 4]
    assert capsys.readouterr().out == ""
    assert not caplog.records


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_bar_is_drawn_from_the_background_loop(
    kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kind()
    monkeypatch.setattr(sys, "stderr", file)
    before = set(threading.enumerate())
    assert asyncio_run(amap(double, range(3), progress="numbers")) == [0, 2, 4]
    assert "numbers: " in file.getvalue()
    added = [thread.name for thread in set(threading.enumerate()) - before]
    assert set(added) <= {"anabranch-loop"}, "a bar needs no thread"


def test_what_goes_to_a_pipe_is_not_moved_above_richs_bar(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    meter = rich_bar(terminal, watch)
    meter.begun(1)
    print("a result")
    meter.ended()
    assert pipe.getvalue() == "a result\n"


def test_without_rich_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match=r"pip install 'anabranch\[rich\]'"):
        RichProgress()


# --------------------------------------------------------------------- what may be given


@pytest.mark.parametrize("title", [True, "numbers"])
def test_a_title_or_true_shows_a_bar(
    title: bool | str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(amap(double, range(3), progress=title))
    expected = "jobs" if title is True else title
    assert capsys.readouterr().err.startswith(f"{expected}: 3 of 3 jobs")


@pytest.mark.parametrize("nothing", [False, ""])
def test_without_progress_nothing_is_shown(
    nothing: bool | str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(amap(double, range(3), progress=nothing))
    assert capsys.readouterr() == ("", "")


def test_a_function_is_told_the_final_state_of_a_run() -> None:
    told: list[Status] = []
    asyncio.run(amap(double, range(3), progress=told.append))
    assert (told[-1].done, told[-1].total, told[-1].failed) == (3, 3, 0)


class Noted(Observer):
    def __init__(self) -> None:
        self.total: int | None = None
        self.finished_labels: list[object] = []

    def begun(self, total: int | None) -> None:
        self.total = total

    def finished(self, label: object, error: BaseException | None) -> None:
        self.finished_labels.append(label)


def test_an_observer_is_used_as_it_is_and_beside_the_other_one() -> None:
    shown, watching = Noted(), Noted()
    asyncio.run(amap(double, range(3), progress=shown, observer=watching))
    assert shown.finished_labels == watching.finished_labels == [0, 1, 2]


def test_whoever_watches_is_told_the_total_that_the_source_does_not_know() -> None:
    shown, watching, told = Noted(), Noted(), list[Status]()
    numbers = (number for number in range(3))
    asyncio.run(amap(double, numbers, total=3, progress=shown, observer=watching))
    assert shown.total == watching.total == 3
    numbers = (number for number in range(3))
    asyncio.run(amap(double, numbers, total=3, progress=told.append))
    assert told[-1].total == 3


@pytest.mark.parametrize("nonsense", [None, 1, 2.5, object(), Noted, Progress])
def test_what_cannot_show_anything_is_refused_at_the_call(nonsense: Any) -> None:
    numbers = iter(range(3))
    with pytest.raises(UsageError, match="progress must be True, False, a title"):
        asyncio.run(amap(double, numbers, progress=nonsense))
    assert list(numbers) == [0, 1, 2], "nothing was taken"


# ----------------------------------------------------------------------------- Observers

METHODS = [
    name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if name[0] != "_"
]


@pytest.mark.parametrize("name", METHODS)
def test_several_observers_are_told_everything_and_fail_alone(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[object, ...]] = []

    def broken(*facts: object) -> None:
        heard.append(("broken",))
        raise RuntimeError("defect")

    bad, good = Observer(), Observer()
    setattr(bad, name, broken)
    setattr(good, name, lambda *facts: heard.append(facts))
    facts = [
        f"{parameter}'s"
        for parameter in list(inspect.signature(getattr(Observer, name)).parameters)[1:]
    ]
    both = Observers(bad, good)
    with caplog.at_level(logging.WARNING):
        getattr(both, name)(*facts)
        getattr(both, name)(*facts)
    assert heard == [("broken",), tuple(facts), tuple(facts)]
    assert len(caplog.records) == 1

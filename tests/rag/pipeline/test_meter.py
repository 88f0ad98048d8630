"""What stages do, counted from what they are told."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from anabranch.jobs import Progress
from anabranch.observe import StageStats, bottleneck
from anabranch.rag.pipeline.meter import Meter


def test_time_counts_as_busy_once_and_as_work_for_each_at_work() -> None:
    meter = Meter([("read", 4)], 10.0)
    meter.waits("read", 3)
    meter.began("read", 11.0, taken=1)
    meter.began("read", 12.0, taken=1)
    meter.ended("read", 14.0, done=1)
    meter.ended("read", 15.0, done=1)
    [read] = meter.look(20.0)
    assert (read.done, read.waiting, read.at_once, read.most_at_once) == (2, 1, 0, 2)
    assert (read.busy_s, read.work_s, read.elapsed_s) == (4.0, 6.0, 10.0)
    assert read.rate == 0.2
    assert read.load == 6 / 40


def test_who_is_still_at_work_counts_up_to_the_look() -> None:
    meter = Meter([("embed", 1)], 0.0)
    meter.began("embed", 1.0)
    assert meter.look(3.0)[0].work_s == 2.0
    assert meter.look(5.0)[0].work_s == 4.0
    assert meter.look(5.0)[0].at_once == 1


def test_the_bottleneck_is_the_stage_with_the_greatest_load() -> None:
    meter = Meter([("read", 8), ("embed", 1), ("store", 1)], 0.0)
    for _ in range(4):
        meter.began("read", 0.0)
    meter.worked("embed", 9.0, done=5)
    meter.worked("store", 2.0, done=5)
    found = bottleneck(meter.look(10.0))
    assert found is not None
    assert (found.name, found.load) == ("embed", 0.9)


def test_progress_says_which_stage_holds_up_the_others() -> None:
    file = io.StringIO()
    progress = Progress("indexing", unit="source", file=file, clock=lambda: 0.0)
    progress.begun(1)
    progress.flowed([StageStats(name="embed", done=1, work_s=9.0, elapsed_s=10.0)])
    progress.finished("a", None)
    progress.ended()
    assert "embed 90% busy" in file.getvalue()


def test_where_nothing_was_done_nothing_holds_up() -> None:
    assert bottleneck([]) is None
    assert bottleneck(Meter([("read", 1)], 0.0).look(5.0)) is None
    assert StageStats(name="read").rate == StageStats(name="read").load == 0.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=30))
def test_busy_is_never_more_than_work_or_than_the_time(
    moves: list[tuple[bool, float]],
) -> None:
    meter, now, at_once = Meter([("x", 3)], 0.0), 0.0, 0
    for begins, passed_s in moves:
        now += passed_s
        if begins and at_once < 3:
            meter.began("x", now)
            at_once += 1
        elif at_once:
            meter.ended("x", now, done=1)
            at_once -= 1
    [stats] = meter.look(now)
    assert stats.at_once == at_once
    assert stats.busy_s <= min(stats.work_s, now) + 1e-6
    assert 0 <= stats.load <= 1

"""The timeline of `anabranch runs show`: what a line says, and where its bar is."""

from __future__ import annotations

import io
from typing import Any

import pytest

from anabranch.cli._terminal import Weight
from anabranch.cli._timeline import Row, render, rows, span
from anabranch.workflow.history import Entry


class Journal:
    """Entries as a run writes them, each at its time."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.add("Began", 0.0, event("Go"), None, None)

    def add(self, kind: str, at: float, *fields: Any, of: tuple[Any, ...] = ()) -> Journal:
        execution, step, began_at = of or (None, None, None)
        position = len(self.entries)
        fact = [kind, at, *fields]
        self.entries.append(Entry(position, kind, at, execution, step, began_at, fact))
        return self

    def said(self) -> list[str]:
        return [
            f"{row.step}: {row.said}" if row.step else row.said
            for row in rows(self.entries)
        ]

    def drawn(self, *, now: float, is_over: bool, width: int = 64) -> list[str]:
        return render(
            rows(self.entries),
            zero=0.0,
            now=now,
            is_over=is_over,
            width=width,
            weight=Weight(io.StringIO()),
        )


def event(name: str) -> dict[str, Any]:
    return {"__anabranch__": "model", "t": f"flow.{name}", "v": {}}


def wait(key: str, name: str, timeout: float | None = None) -> tuple[Any, ...]:
    kind = {"__anabranch__": "class", "t": f"flow.{name}"}
    return (key, kind, {}, timeout, None)


ERROR = {"__anabranch__": "error", "t": "builtins.ValueError", "v": "no go"}
ASK = (1, "ask", 0.0)


def test_an_execution_that_waited_is_one_line() -> None:
    journal = Journal().add("Waited", 2.0, 1, *wait("a", "Answer"), of=ASK)
    assert journal.said()[1:] == ["ask: waits for Answer"]
    journal.add("Returned", 9.0, 1, 1, [event("Stop")], False, of=ASK)
    assert journal.said()[1:] == ["ask: waited for Answer → Stop"]
    row = rows(journal.entries)[-1]
    assert (row.began_at, row.waited_at, row.at) == (0.0, 2.0, 9.0)


def test_one_that_waits_for_several_is_a_line_each_until_it_ends() -> None:
    journal = Journal()
    journal.add("Waited", 1.0, 1, *wait("a", "Yes", 60.0), of=ASK)
    journal.add("Waited", 1.0, 1, *wait("b", "No"), of=ASK)
    assert journal.said()[1:] == ["ask: waits for Yes, 1m00s at most", "ask: waits for No"]
    journal.add("Returned", 2.0, 1, 1, [], False, of=ASK)
    assert journal.said()[1:] == ["ask: waited for Yes, No → nothing"]


def test_an_attempt_that_failed_keeps_its_line_and_the_next_begins_behind_the_pause() -> (
    None
):
    journal = Journal()
    journal.add("Waited", 1.0, 1, *wait("a", "Answer"), of=ASK)
    journal.add("Failed", 2.0, 1, 1, ERROR, 5.0, of=ASK)
    journal.add("Returned", 9.0, 1, 2, [event("Stop")], False, of=ASK)
    assert journal.said()[1:] == [
        "ask: ✗ again in 5.00 s: ValueError: no go",
        "ask: → Stop",
    ]
    first, second = rows(journal.entries)[1:]
    assert (first.attempt, first.began_at, first.waited_at) == (1, 0.0, 1.0)
    assert (second.attempt, second.began_at, second.waited_at) == (2, 7.0, None)


def test_executions_of_one_step_are_told_apart() -> None:
    journal = Journal()
    for number in (1, 2):
        journal.add("Waited", 1.0, number, *wait("a", "Answer"), of=(number, "ask", 0.0))
    journal.add("Returned", 2.0, 1, 1, [event("A"), event("A"), event("B")], True, of=ASK)
    assert journal.said()[1:] == [
        "ask: waits for Answer",
        "ask: waited for Answer → 2 × A, B",
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("Resumed", (0.0, False), "taken up 5.00 s later"),
        ("Received", (event("Answer"), None), "was sent Answer"),
        ("Cancelled", (), "cancelled"),
        ("Retried", (), "to be tried again"),
        ("Fired", ({"__anabranch__": "tuple", "v": ["run"]},), "out of time"),
        ("Adopted", ('{"shape": {"version": "2"}}',), "goes on as version '2'"),
        ("Adopted", ('{"shape": {"version": ""}}',), "goes on as new code"),
    ],
)
def test_what_concerns_the_run_is_a_note(
    kind: str, fields: tuple[Any, ...], said: str
) -> None:
    assert Journal().add(kind, 5.0, *fields).said()[1:] == [said]


def test_what_a_step_did_on_its_way_is_no_line_of_its_own() -> None:
    journal = Journal()
    for kind in ("Sent", "Written", "Edited", "Remembered"):
        journal.add(kind, 1.0, of=ASK)
    journal.add("Fired", 1.0, {"__anabranch__": "tuple", "v": ["wait", 1, "a"]})
    assert len(journal.said()) == 1


def test_bars_lie_where_their_time_was() -> None:
    journal = Journal()
    journal.add("Returned", 5.0, 1, 1, [event("A")], False, of=(1, "one", 0.0))
    journal.add("Waited", 6.0, 2, *wait("a", "B"), of=(2, "two", 5.0))
    journal.add("Returned", 10.0, 2, 1, [event("C")], False, of=(2, "two", 5.0))
    assert journal.drawn(now=10.0, is_over=True) == [
        "at     after      took  0 ms      10.0 s  step  what it did",
        " 0      0 ms            ┆                       begun with Go",
        " 1      0 ms    5.00 s  ━━━━━━━━          one   → A",
        " 3    5.00 s    5.00 s          ━━┄┄┄┄┄┄  two   waited for B → C",
    ]


def test_who_still_waits_has_a_bar_to_the_edge_and_no_end() -> None:
    journal = Journal().add("Waited", 6.0, 1, *wait("a", "B"), of=ASK)
    assert journal.drawn(now=90.0, is_over=False)[-1] == (
        " 1      0 ms    1m30s…  ━━━━━━━━━━━━━━━━━┄┄  ask   waits for B"
    )
    last = journal.drawn(now=90.0, is_over=True)[-1]
    assert last.endswith("ask   waited for B")
    assert " 1m30s " in last


@pytest.mark.parametrize("width", range(3, 200, 7))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    journal = Journal()
    for number, at in enumerate((0.0, 0.001, 3.0, 4000.0, 4e6), start=1):
        of = (number, "a_step_with_a_long_name"[: number * 5], at / 2)
        journal.add("Failed", at, number, 1, ERROR | {"v": "because " * 40}, None, of=of)
    journal.add("Waited", 4e6, 9, *wait("a", "Answer"), of=(9, "ask", 4e6))
    for is_over in (False, True):
        lines = journal.drawn(now=9e6, is_over=is_over, width=width)
        assert max(map(len, lines)) <= max(width, 30)


def test_a_run_of_no_time_is_drawn_too() -> None:
    journal = Journal().add("Returned", 0.0, 1, 1, [], False, of=ASK)
    assert journal.drawn(now=0.0, is_over=True)[-1].split() == [
        "1", "0", "ms", "0", "ms", "╸", "ask", "→", "nothing"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1.0, "0 ms"), (0.0004, "0 ms"), (0.12, "120 ms"), (0.9994, "999 ms"),
        (0.9996, "1.00 s"), (9.994, "9.99 s"), (9.996, "10.0 s"), (59.94, "59.9 s"),
        (59.96, "1m00s"), (125, "2m05s"), (3599.6, "1h00m"), (12_000, "3h20m"),
        (86_399.9, "1d00h"), (100_000, "1d03h"), (1e9, "11574d"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_rows_are_records() -> None:
    assert rows([]) == []
    assert isinstance(rows(Journal().entries)[0], Row)

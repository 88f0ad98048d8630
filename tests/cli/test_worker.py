"""`anabranch worker`: it drives what is due, says so, and stops when it is told to."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from anabranch.cli import main
from tests.cli.command import Started, anabranch

Starting = Callable[..., Started]
FLOW = "tests.cli.flow"


def do(*command: str, folder: Path) -> None:
    done = anabranch("runs", *command, "--durable", "r.db", cwd=folder)
    assert done.returncode == 0, done.stderr


def line(text: str) -> str:
    """A line of the log without the time."""
    return " ".join(text.split()[1:])


class TestAWorker:
    def test_says_of_each_run_what_becomes_of_it(
        self, folder: Path, starting: Starting
    ) -> None:
        worker = starting("worker", "flow:patient", "flow:Greeting", "--durable", "r.db")
        worker.wait_until_it_says("ready")
        do("start", "flow:Greeting", "--id", "one", folder=folder)
        worker.wait_until_it_says("ended")
        do("start", "flow:patient", "--id", "two", folder=folder)
        worker.wait_until_it_says("put back")
        do("send", "two", "flow:Approval", "by=Ada", folder=folder)
        worker.wait_until_it_says("two flow.Asking completed")
        status, out, err = worker.end(signal.SIGTERM)
        assert (status, out) == (0, "")
        lines = [line(text) for text in (worker.said + err).splitlines()]
        assert lines[:2] == ["ready flow.Asking flow.Greeting", "taken one flow.Greeting"]
        assert lines[2].startswith("ended one flow.Greeting completed after")
        assert lines[3] == "taken two flow.Asking"
        assert lines[4].startswith("put back two flow.Asking after")
        assert lines[4].endswith("(waits for Approval)")
        assert lines[-1] == "stopped"

    def test_lets_go_of_what_is_under_way_when_it_is_told_to_stop(
        self, folder: Path, starting: Starting
    ) -> None:
        do("start", "flow:Holding", "--id", "r", folder=folder)
        first = starting("worker", "flow:Holding", "--durable", "r.db", "--json")
        first.wait_until_it_says("taken")
        status, _, err = first.end(signal.SIGINT)
        assert status == 0
        (folder / "go").touch()
        second = starting("worker", "flow:Holding", "--durable", "r.db", "--json")
        second.wait_until_it_says("ended")  # at once, and not when a lease has ended
        log = [json.loads(text) for text in (first.said + err + second.said).splitlines()]
        assert [entry["what"] for entry in log] == [
            "ready", "taken", "let go", "stopped", "ready", "taken", "ended"
        ]  # fmt: skip
        assert log[0]["workflows"] == ["flow.Holding"]
        last = log[-1]
        assert last["run_id"] == "r"
        assert last["status"] == "completed"
        assert last["took_s"] >= 0

    def test_writes_its_warnings_as_json_too(
        self, folder: Path, starting: Starting
    ) -> None:
        (folder / "changed.py").write_text(
            "from flow import *\n"
            "old = Asking(workflow_name='changed')\n"
            "new = Greeting(workflow_name='changed')\n"
        )
        do("start", "changed:old", "--id", "r", folder=folder)
        worker = starting("worker", "changed:new", "--durable", "r.db", "--json")
        worker.wait_until_it_says("warning")
        log = [json.loads(text) for text in worker.said.splitlines()]
        assert log[-1]["what"] == "warning"
        assert "another graph" in log[-1]["note"]


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--durable", "a.db", "--slots", "0"], 2, "not a whole number of at least 1"),
        (["--durable", "a.db", "--queue", "q"], 2, "--queue is an engine's"),
        (["--durable", "a.db", "--namespace", "n"], 2, "--namespace is Temporal's"),
        (
            ["--durable", "a.db", "--temporal", "a:1", "--dbos", "postgresql://b/c"],
            2,
            "brought by one engine: give --temporal or --dbos",
        ),
        (["--durable", "a.db", "--dbos", "sqlite:///b"], 2, "on PostgreSQL only"),
        (["--durable", "no/such/folder/a.db"], 1, "no/such/folder"),
        ([f"{FLOW}:Greeting", "--durable", "a.db"], 2, "same name"),
        ([], 2, "where are the runs?"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    options: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["worker", f"{FLOW}:Greeting", *options]) == status
    assert said in capsys.readouterr().err

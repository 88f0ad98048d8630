"""`anabranch runs`: the runs of a store, seen and steered."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from anabranch.cli import main
from anabranch.workflow import Runs, Worker
from tests.cli import flow
from tests.cli.command import PROGRAM, Started, anabranch, environment

FLOW = "tests.cli.flow"


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("ANABRANCH_DURABLE", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return str(tmp_path / "runs.db")


Capture = pytest.CaptureFixture[str]


def do(*command: str, db: str, status: int = 0) -> None:
    assert main(["runs", *command, "--durable", db]) == status


def printed(capsys: Capture, *command: str, db: str, status: int = 0) -> str:
    capsys.readouterr()
    do(*command, db=db, status=status)
    return capsys.readouterr().out


def waiting(db: str, run_id: str = "r") -> None:
    """A run that has asked and waits for its answer."""
    do("start", f"{FLOW}:patient", "--id", run_id, "name=Ada", db=db)
    do("resume", run_id, f"{FLOW}:patient", db=db)


def done(db: str, run_id: str = "d") -> None:
    """A run that is over."""
    assert main(["run", f"{FLOW}:Greeting", "--durable", db, "--id", run_id]) == 0


def failed(db: str, folder: Path, run_id: str = "f") -> None:
    """A run that failed for want of a file ``go`` in a folder."""
    command = ["run", f"{FLOW}:Failing", "--durable", db, "--id", run_id]
    assert main([*command, f"folder={folder}"]) == 1


class TestList:
    def test_has_the_latest_first_with_what_they_wait_for(
        self, db: str, capsys: Capture
    ) -> None:
        done(db)
        waiting(db)
        lines = printed(capsys, "list", db=db).splitlines()
        assert lines[0].split() == [
            "id", "workflow", "status", "age", "updated", "entries", "note"
        ]  # fmt: skip
        first, second = lines[1:]
        assert re.match(r"r +tests\.cli\.flow\.Asking +waiting +", first)
        assert first.endswith("  waits for Approval")
        assert re.match(r"d +tests\.cli\.flow\.Greeting +completed +", second)

    def test_has_the_note_below_where_there_is_no_room_beside(
        self, db: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waiting(db, "a-name-that-is-as-long-as-names-made-by-us")
        for columns in (40, 60, 80):
            monkeypatch.setenv("COLUMNS", str(columns))
            lines = printed(capsys, "list", db=db).splitlines()
            assert lines[2] == "  waits for Approval"
            # A name is there whole, since it is what the other commands are given.
            assert lines[1].startswith("a-name-that-is-as-long-as-names-made-by-us ")
            assert len(lines[1]) <= max(columns, 80)

    def test_can_be_narrowed(self, db: str, tmp_path: Path, capsys: Capture) -> None:
        done(db)
        waiting(db)
        failed(db, tmp_path)

        def ids(*options: str) -> list[str]:
            rows = json.loads(printed(capsys, "list", "--json", *options, db=db))
            return [row["run_id"] for row in rows]

        assert ids() == ["f", "r", "d"]
        assert ids("--status", "failed", "--status", "completed") == ["f", "d"]
        assert ids("--workflow", f"{FLOW}.Asking") == ["r"]
        assert ids("--limit", "1") == ["f"]
        do("list", "--limit", "1", db=db)
        assert "there are more than 1: --limit shows them" in capsys.readouterr().err

    def test_as_json_has_times_and_numbers(self, db: str, capsys: Capture) -> None:
        waiting(db)
        (row,) = json.loads(printed(capsys, "list", "--json", db=db))
        assert row["status"] == "waiting"
        assert row["note"] == "waits for Approval"
        assert row["created_at"] <= row["updated_at"]
        assert row["due_at"] is None
        assert row["position"] > 5
        assert row["published"] == 1

    def test_of_none_says_so(self, db: str, capsys: Capture) -> None:
        done(db)
        do("list", "--status", "failed", db=db)
        shown = capsys.readouterr()
        assert "no runs that stand so" in shown.err
        assert (
            json.loads(printed(capsys, "list", "--status", "failed", "--json", db=db)) == []
        )


class TestShow:
    def test_tells_how_a_run_stands_and_what_has_happened(
        self, db: str, capsys: Capture
    ) -> None:
        waiting(db)
        capsys.readouterr()
        do("show", "r", db=db)
        shown = capsys.readouterr()
        head, _, timeline = shown.out.partition("\n\n")
        facts = dict(line.split(maxsplit=1) for line in head.splitlines())
        assert facts["run"] == "r"
        assert facts["workflow"] == f"{FLOW}.Asking"
        assert facts["status"] == "waiting: waits for Approval"
        assert facts["driven"] == "by nobody now; due when it is sent something"
        assert facts["took"].endswith(" so far")
        lines = timeline.splitlines()
        assert lines[0].split()[:3] == ["at", "after", "took"]
        assert lines[1].endswith("begun with Order")
        assert lines[2].endswith("  plan  → 3 × Part")
        assert all(line.endswith("  work  → Done") for line in lines[3:6])
        assert "┄" in lines[-1]
        assert lines[-1].endswith("  ask   waits for Approval")
        assert "runs send r tests.cli.flow:Approval" in shown.err

    def test_tells_the_end(self, db: str, tmp_path: Path, capsys: Capture) -> None:
        done(db)
        assert 'result       "hello you"' in printed(capsys, "show", "d", db=db)
        failed(db, tmp_path)
        shown = printed(capsys, "show", "f", db=db)
        assert "failed in step 'second': ValueError: no go" in shown
        assert "✗ ValueError: no go" in shown

    def test_tells_of_who_was_away(self, db: str, capsys: Capture) -> None:
        waiting(db)
        do("send", "r", f"{FLOW}:Approval", "by=Bob", db=db)
        do("resume", "r", f"{FLOW}:patient", db=db)
        shown = printed(capsys, "show", "r", db=db)
        assert re.search(r"taken up \S+ ?\w* later\n.*was sent Approval\n", shown)
        assert "waited for Approval → StopEvent" in shown
        assert "opened twice" in shown

    @pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
    def test_fills_no_more_columns_than_there_are(
        self, width: int, db: str, capsys: Capture
    ) -> None:
        waiting(db)
        shown = printed(capsys, "show", "r", "--width", str(width), db=db)
        timeline = shown.partition("\n\n")[2].splitlines()
        assert max(map(len, timeline)) <= width
        assert ("━" in shown or "╸" in shown or "╺" in shown) is (width >= 60)

    def test_leaves_out_what_was_long_ago(self, db: str, capsys: Capture) -> None:
        waiting(db)
        whole = printed(capsys, "show", "r", "--last", "all", db=db)
        assert "left out" not in whole
        last = printed(capsys, "show", "r", "--last", "2", db=db)
        assert "… 4 earlier lines left out: --last all shows all 6" in last
        assert len(last.partition("\n\n")[2].splitlines()) == 4

    def test_as_json_is_one_object(self, db: str, capsys: Capture) -> None:
        waiting(db)
        shown = json.loads(printed(capsys, "show", "r", "--json", db=db))
        assert shown["status"] == "waiting"
        assert shown["result"] is None
        last = shown["timeline"][-1]
        assert last["kind"] == "waiting"
        assert last["step"] == "ask"
        assert last["waits"] == [f"{FLOW}.Approval"]
        done(db)
        shown = json.loads(printed(capsys, "show", "d", "--json", db=db))
        assert shown["result"] == {"result": "hello you"}

    def test_of_a_run_that_has_not_begun_is_short(self, db: str, capsys: Capture) -> None:
        do("start", f"{FLOW}:patient", "--id", "r", "--in", "2h", db=db)
        shown = printed(capsys, "show", "r", db=db)
        assert "begun        not yet; due in 2h00m" in shown or "due in 1h59m" in shown
        assert shown.endswith("nothing has been recorded yet\n")

    def test_has_colours_on_a_terminal_only(self, db: str) -> None:
        waiting(db)
        command = ["runs", "show", "r", "--durable", db]
        assert "\x1b[33m" in on_a_terminal(Path(db).parent, *command)
        for variable in ("NO_COLOR=1", "TERM=dumb"):
            shown = on_a_terminal(Path(db).parent, *command, variable=variable)
            assert "\x1b" not in shown

    def test_does_with_the_signs_that_there_are(self, db: str, tmp_path: Path) -> None:
        waiting(db)
        shown = anabranch(
            "runs", "show", "r", "--durable", db,
            cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"},
        )  # fmt: skip
        assert "> 3 x Part" in shown.stdout
        assert "\\u" not in shown.stdout


def on_a_terminal(
    folder: Path, *command: str, variable: str = "TERM=xterm", typed: str = ""
) -> str:
    """What a terminal shows of a command."""
    outer, inner = pty.openpty()
    name, _, value = variable.partition("=")
    process = subprocess.Popen(
        [PROGRAM, *command],
        cwd=folder,
        env=environment(folder, {"TERM": "xterm", name: value}),
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    os.write(outer, typed.encode())
    data = b""
    try:
        while piece := os.read(outer, 65536):
            data += piece
    except OSError as error:
        if error.errno != errno.EIO:  # which is how Linux tells the end
            raise
    finally:
        os.close(outer)
    process.wait(30)
    return data.decode()


class TestEvents:
    def test_are_printed_with_number_type_and_fields(
        self, db: str, capsys: Capture
    ) -> None:
        waiting(db)
        assert (
            printed(capsys, "events", "r", db=db) == '    1  Question  text="is 3 right?"\n'
        )
        done(db)
        lines = printed(capsys, "events", "d", "--json", db=db).splitlines()
        assert [json.loads(line) for line in lines] == [
            {"number": 1, "type": f"{FLOW}.Said", "fields": {"words": "hello you"}},
            {
                "number": 2,
                "type": "anabranch.workflow.events.StopEvent",
                "fields": {"result": "hello you"},
            },
        ]
        assert len(printed(capsys, "events", "d", "--after", "1", db=db).splitlines()) == 1

    def test_are_followed_to_the_end(self, db: str, tmp_path: Path) -> None:
        waiting(db)
        process = subprocess.Popen(
            [PROGRAM, "runs", "events", "r", "--follow", "--json", "--durable", db],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process:
            assert json.loads(process.stdout.readline())["type"] == f"{FLOW}.Question"
            do("send", "r", f"{FLOW}:Approval", "by=Bob", db=db)
            do("resume", "r", f"{FLOW}:patient", db=db)
            (last,) = process.stdout.read().splitlines()
        assert json.loads(last)["fields"] == {"result": [3, "Bob", True, "Ada"]}

    def test_need_no_code_of_the_workflow(self, db: str, tmp_path: Path) -> None:
        waiting(db)
        for command in ("list", "show", "events"):
            shown = anabranch(
                "runs", command, *([] if command == "list" else ["r"]), "--durable", db,
                cwd=tmp_path,
            )  # fmt: skip
            assert shown.returncode == 0, shown.stderr


class TestSend:
    def test_answers_a_run_once_for_one_message(self, db: str, capsys: Capture) -> None:
        waiting(db)
        answer = ["send", "r", f"{FLOW}:Approval", "--message-id", "m", "by=Bob"]
        assert printed(capsys, *answer, "ok=false", db=db) == "sent Approval to run r\n"
        do(*answer, "ok=true", "--json", db=db)
        assert json.loads(capsys.readouterr().out) == {
            "run_id": "r",
            "event": "Approval",
            "counts": False,
        }
        shown = printed(capsys, "resume", "r", f"{FLOW}:patient", "--json", db=db)
        assert json.loads(shown)["result"] == [3, "Bob", False, "Ada"]

    def test_tells_how_to_drive_the_run_if_nobody_does(
        self, db: str, capsys: Capture
    ) -> None:
        waiting(db)
        do("send", "r", f"{FLOW}:Approval", "by=Bob", db=db)
        said = capsys.readouterr().err
        assert f"anabranch runs resume r {FLOW}:Asking --durable {db}" in said

    def test_says_what_an_event_lacks(self, db: str, capsys: Capture) -> None:
        waiting(db)
        do("send", "r", f"{FLOW}:Approval", db=db, status=2)
        said = capsys.readouterr().err
        assert "Approval cannot be made of this: by: field required" in said
        assert "it has by: str, ok: bool (optional)" in said

    def test_takes_events_only(self, db: str, capsys: Capture) -> None:
        waiting(db)
        do("send", "r", f"{FLOW}:patient", db=db, status=2)
        assert "name a class of events" in capsys.readouterr().err

    def test_to_a_run_that_is_over_is_refused(self, db: str, capsys: Capture) -> None:
        done(db)
        do("send", "d", f"{FLOW}:Approval", "by=Bob", db=db, status=1)
        assert "'d' has ended" in capsys.readouterr().err


class TestResume:
    def test_rests_where_the_run_does(self, db: str, capsys: Capture) -> None:
        do("start", f"{FLOW}:patient", "--id", "r", db=db)
        shown = printed(capsys, "resume", "r", f"{FLOW}:patient", "--json", db=db)
        assert json.loads(shown) == {
            "run_id": "r",
            "workflow": f"{FLOW}.Asking",
            "status": "waiting",
            "waits_for": [f"{FLOW}.Approval"],
            "due_at": None,
        }

    def test_shows_what_the_run_publishes_meanwhile(self, db: str, capsys: Capture) -> None:
        do("start", f"{FLOW}:patient", "--id", "r", db=db)
        do("resume", "r", f"{FLOW}:patient", db=db)
        assert 'Question  text="is 3 right?"' in capsys.readouterr().err
        do("resume", "r", f"{FLOW}:patient", db=db)
        said = capsys.readouterr().err
        assert "Question  " not in said  # it was shown before
        assert f"runs send r {FLOW}:Approval by=..." in said

    def test_prints_the_result_of_a_run_that_is_over(
        self, db: str, capsys: Capture
    ) -> None:
        done(db)
        assert printed(capsys, "resume", "d", f"{FLOW}:Greeting", db=db) == "hello you\n"

    def test_wants_the_workflow_of_the_run(self, db: str, capsys: Capture) -> None:
        done(db)
        do("resume", "d", f"{FLOW}:patient", db=db, status=2)
        assert "is of workflow tests.cli.flow.Greeting" in capsys.readouterr().err


class TestRetry:
    def test_lets_a_failed_run_go_on_where_it_was(
        self, db: str, tmp_path: Path, capsys: Capture
    ) -> None:
        failed(db, tmp_path)
        (tmp_path / "go").touch()
        shown = printed(capsys, "retry", "f", "--json", db=db)
        assert json.loads(shown) == {"run_id": "f", "status": "running"}
        assert printed(capsys, "resume", "f", f"{FLOW}:Failing", db=db) == "gone\n"
        timeline = printed(capsys, "show", "f", db=db)
        assert timeline.count("  first") == 1
        assert "to be tried again" in timeline

    def test_drives_it_here_if_it_is_given_the_workflow(
        self, db: str, tmp_path: Path, capsys: Capture
    ) -> None:
        failed(db, tmp_path)
        do("retry", "f", f"{FLOW}:Failing", db=db, status=1)
        (tmp_path / "go").touch()
        assert printed(capsys, "retry", "f", f"{FLOW}:Failing", db=db) == "gone\n"

    def test_is_not_for_runs_that_went_well(self, db: str, capsys: Capture) -> None:
        done(db)
        do("retry", "d", db=db, status=2)
        assert "run 'd' is completed" in capsys.readouterr().err


class TestFork:
    def fork(self, db: str, capsys: Capture, step: str, *more: str) -> list[object]:
        """What a fork gives that begins with a step of a run, and then is answered."""
        waiting(db)
        timeline = json.loads(printed(capsys, "show", "r", "--json", db=db))["timeline"]
        at = next(row["position"] for row in timeline if row["step"] == step)
        name = printed(
            capsys, "fork", "r", f"{FLOW}:patient", "--at", str(at), *more, db=db
        ).strip()
        do("send", name, f"{FLOW}:Approval", "by=Bob", db=db)
        result = json.loads(
            printed(capsys, "resume", name, f"{FLOW}:patient", "--json", db=db)
        )["result"]
        assert isinstance(result, list)
        return result

    def test_begins_again_with_a_step(self, db: str, capsys: Capture) -> None:
        assert self.fork(db, capsys, "work", "--id", "fork") == [3, "Bob", True, "Ada"]
        shown = printed(capsys, "show", "fork", db=db)
        assert "forked from  r" in shown
        assert shown.count("  plan") == 0

    def test_may_have_another_state(self, db: str, capsys: Capture) -> None:
        given = self.fork(db, capsys, "work", "--state", "name=Eve")
        assert given == [3, "Bob", True, "Eve"]

    def test_may_have_other_fields_in_the_event_of_its_step(
        self, db: str, capsys: Capture
    ) -> None:
        assert self.fork(db, capsys, "work", "number=10")[0] == 13

    def test_may_begin_anew_with_another_field(self, db: str, capsys: Capture) -> None:
        waiting(db)
        fork = ["fork", "r", f"{FLOW}:patient", "--at", "0", "--id", "fork", "name=Eve"]
        do(*fork, db=db)
        do("send", "fork", f"{FLOW}:Approval", "by=Bob", db=db)
        shown = printed(capsys, "resume", "fork", f"{FLOW}:patient", "--json", db=db)
        assert json.loads(shown)["result"][-1] == "Eve"

    def test_changes_no_fields_where_no_step_had_one_event(
        self, db: str, capsys: Capture
    ) -> None:
        waiting(db)
        timeline = json.loads(printed(capsys, "show", "r", "--json", db=db))["timeline"]
        at = str(timeline[-1]["position"])
        do("fork", "r", f"{FLOW}:patient", "--at", at, "x=1", db=db, status=2)
        assert "no step of run 'r' was called with one event" in capsys.readouterr().err


class TestCancel:
    def test_ends_a_run_that_nobody_drives(self, db: str, capsys: Capture) -> None:
        waiting(db)
        assert printed(capsys, "cancel", "r", db=db) == "run r is cancelled\n"
        shown = printed(capsys, "cancel", "r", db=db)
        assert shown == "run r was over already: cancelled\n"
        assert "status       cancelled" in printed(capsys, "show", "r", db=db)

    def test_tells_who_drives_a_run_to_end_it(
        self, folder: Path, starting: Callable[..., Started], db: str, capsys: Capture
    ) -> None:
        run = starting("run", "flow:Holding", "--durable", db, "--id", "r")
        run.wait_until_it_says("holding")
        run.process.send_signal(signal.SIGSTOP)  # it hears of it later than we look
        shown = printed(capsys, "cancel", "r", db=db)
        assert re.fullmatch(r"run r is to be cancelled: \S+:\d+ was told; .+\n", shown)
        status, _, err = run.end(signal.SIGCONT)
        assert status == 1
        assert "anabranch: run r was cancelled\n" in err


class TestPurge:
    def test_forgets_a_run_for_good(self, db: str, capsys: Capture) -> None:
        done(db)
        do("purge", "d", db=db, status=2)
        assert "There is nobody to ask: give --yes" in capsys.readouterr().err
        assert printed(capsys, "purge", "d", "--yes", db=db) == "purged 1 run\n"
        do("show", "d", db=db, status=1)

    def test_forgets_those_that_were_over_long_ago(
        self, db: str, tmp_path: Path, capsys: Capture
    ) -> None:
        done(db)
        waiting(db)
        failed(db, tmp_path)
        everything = ["purge", "--older-than", "0s", "--yes", "--json"]
        shown = printed(capsys, "purge", "--older-than", "1h", "--yes", "--json", db=db)
        assert json.loads(shown) == {"purged": 0}
        shown = printed(capsys, *everything, "--status", "failed", db=db)
        assert json.loads(shown) == {"purged": 1}
        assert json.loads(printed(capsys, *everything, db=db)) == {"purged": 1}
        (left,) = json.loads(printed(capsys, "list", "--json", db=db))
        assert left["run_id"] == "r"

    @pytest.mark.parametrize(("typed", "is_left"), [("y\n", False), ("\n", True)])
    def test_asks_at_a_terminal(self, typed: str, is_left: bool, db: str) -> None:
        done(db)
        shown = on_a_terminal(
            Path(db).parent, "runs", "purge", "d", "--durable", db, typed=typed
        )
        assert "purge run d, which is completed, for good? [y/N]" in shown
        assert ("nothing was purged" in shown) is is_left
        do("events", "d", db=db, status=0 if is_left else 1)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ([], "which runs?"),
            (["x", "--older-than", "1d"], "which runs?"),
            (["x", "--status", "failed"], "--status goes with --older-than"),
            (["--older-than", "soon"], "'soon' is no duration"),
        ],
    )
    def test_wants_to_know_which(
        self, options: list[str], said: str, db: str, capsys: Capture
    ) -> None:
        do("purge", *options, db=db, status=2)
        assert said in capsys.readouterr().err


def test_an_export_can_be_replayed(db: str, capsys: Capture) -> None:
    waiting(db)
    exported = json.loads(printed(capsys, "export", "r", db=db))
    assert exported["run_id"] == "r"
    assert exported["entries"]


@pytest.mark.parametrize(
    "command",
    [
        ["list"], ["show", "r"], ["events", "r"], ["export", "r"], ["cancel", "r"],
        ["retry", "r"], ["purge", "r", "--yes"], ["send", "r", f"{FLOW}:Approval", "by=x"],
        ["resume", "r", f"{FLOW}:patient"], ["fork", "r", f"{FLOW}:patient", "--at", "0"],
    ],
)  # fmt: skip
def test_where_there_is_no_store_none_is_made(
    command: list[str], db: str, capsys: Capture
) -> None:
    do(*command, db=db, status=1)
    assert f"there is no store of runs at {db}" in capsys.readouterr().err
    assert not Path(db).exists()


@pytest.mark.parametrize("command", ["show", "events", "cancel", "retry", "export"])
def test_a_run_that_is_not_there_is_told(command: str, db: str, capsys: Capture) -> None:
    done(db)
    do(command, "nobody", db=db, status=1)
    assert "there is no run 'nobody'" in capsys.readouterr().err


def test_what_is_started_begins_for_workers(db: str, capsys: Capture) -> None:
    shown = printed(capsys, "start", f"{FLOW}:Greeting", "name=Ada", "--json", db=db)
    run_id = json.loads(shown)["run_id"]

    async def worked() -> object:
        greeting = flow.Greeting(durable=db)
        worker = Worker(greeting)
        working = asyncio.create_task(worker.work())
        try:
            return await Runs(worker.store, greeting).result(run_id)
        finally:
            working.cancel()
            await asyncio.wait([working])
            await worker.store.close()

    assert asyncio.run(worked()) == "hello Ada"
    do("start", f"{FLOW}:Greeting", "--id", run_id, db=db)
    assert f"run {run_id} is there already: completed" in capsys.readouterr().err

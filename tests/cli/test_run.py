"""`anabranch run`: what people see, and that a run outlives the command."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from anabranch.cli import main
from tests.cli.command import Started, anabranch, suggested

FLOW = "tests.cli.flow"
Starting = Callable[..., Started]


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("ANABRANCH_DURABLE", raising=False)
    return str(tmp_path / "runs.db")


class TestTheResult:
    @pytest.mark.parametrize(
        ("target", "fields", "printed"),
        [
            ("Greeting", ["name=Ada"], "hello Ada\n"),
            ("Greeting", ["result=null"], ""),
            (
                "Greeting",
                ['result={"a": [1, "é"]}'],
                '{\n  "a": [\n    1,\n    "é"\n  ]\n}\n',
            ),
            ("Billing", [], '{\n  "total": 3\n}\n'),
        ],
    )
    def test_is_printed_a_text_as_it_is_and_the_rest_as_json(
        self,
        target: str,
        fields: list[str],
        printed: str,
        db: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert main(["run", f"{FLOW}:{target}", "--durable", db, *fields]) == 0
        assert capsys.readouterr().out == printed

    def test_can_be_one_json_object(
        self, db: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["run", f"{FLOW}:Greeting", "--durable", db, "--id", "r", "--json"])
        assert json.loads(capsys.readouterr().out) == {
            "run_id": "r",
            "workflow": f"{FLOW}.Greeting",
            "status": "completed",
            "result": "hello you",
        }

    def test_is_given_again_to_who_asks_again(
        self, db: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["run", f"{FLOW}:Greeting", "--durable", db, "--id", "r"]
        assert main([*command, "name=Ada"]) == 0
        assert main([*command, "name=Bob"]) == 0
        shown = capsys.readouterr()
        assert shown.out == "hello Ada\nhello Ada\n"
        assert "run r of tests.cli.flow.Greeting begins" in shown.err
        assert "is over: completed (1 field left out: it has begun)" in shown.err

    def test_of_a_failed_run_is_why_and_how_to_go_on(
        self, db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["run", f"{FLOW}:Failing", "--durable", db, "--id", "r", "--json"]
        assert main([*command, f"folder={tmp_path}"]) == 1
        shown = capsys.readouterr()
        assert json.loads(shown.out) == {
            "run_id": "r",
            "workflow": f"{FLOW}.Failing",
            "status": "failed",
            "error": "ValueError: no go",
        }
        assert "anabranch: run r failed in step 'second': ValueError: no go\n" in shown.err
        assert f"anabranch runs retry r {FLOW}:Failing --durable {db}\n" in shown.err
        assert "Traceback" not in shown.err

    def test_of_one_that_takes_too_long_is_that(
        self, db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["run", f"{FLOW}:Holding", "--durable", db, "--timeout", "0.05"]
        assert main([*command, f"folder={tmp_path}"]) == 1
        assert "timed out" in capsys.readouterr().err


class TestWhatGoesOn:
    def test_is_shown_on_standard_error_a_line_an_event(
        self, db: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["run", f"{FLOW}:Greeting", "--durable", db, "--id", "r", "name=Ada"])
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "anabranch: run r of tests.cli.flow.Greeting begins"
        assert [line[10:] for line in lines[1:]] == ['Said  words="hello Ada"']

    def test_is_shown_with_the_steps_if_that_is_wanted(
        self, db: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["run", f"{FLOW}:Greeting", "--durable", db, "--watch"])
        said = capsys.readouterr().err
        assert "greet#1  begins" in said
        assert "greet#1  ended after" in said

    def test_harms_no_terminal(self, db: str, capsys: pytest.CaptureFixture[str]) -> None:
        main(["run", f"{FLOW}:Greeting", "--durable", db, 'name="\\u001b[2J\\nx"'])
        assert "\x1b" not in capsys.readouterr().err


class TestTheWorkflow:
    @pytest.mark.parametrize("target", ["flow:Greeting", "flow.py:Greeting"])
    def test_is_found_in_the_current_folder(self, target: str, folder: Path) -> None:
        done = anabranch("run", target, "--durable", "r.db", "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["workflow"] == "flow.Greeting"

    def test_has_one_name_wherever_it_is_run_from(self, folder: Path) -> None:
        package = folder / "pack"
        package.mkdir()
        (package / "__init__.py").touch()
        shutil.copy(folder / "flow.py", package)
        (folder / "elsewhere").mkdir()
        for target, place in (
            ("pack.flow:Greeting", folder),
            ("../pack/flow.py:Greeting", folder / "elsewhere"),
        ):
            done = anabranch("run", target, "--durable", "r.db", "--json", cwd=place)
            assert json.loads(done.stdout)["workflow"] == "pack.flow.Greeting"

    def test_may_come_from_a_function_or_have_its_own_store(self, folder: Path) -> None:
        (folder / "app.py").write_text(
            "from flow import Greeting\n"
            "def made(): return Greeting(version='2')\n"
            "kept = Greeting(durable='mine.db')\n"
        )
        done = anabranch("run", "app:made", "--durable", "r.db", cwd=folder)
        assert done.stdout == "hello you\n", done.stderr
        done = anabranch("run", "app:kept", "--id", "r", cwd=folder)
        assert done.stdout == "hello you\n", done.stderr
        assert (folder / "mine.db").exists()
        done = anabranch("run", "app:kept", "--durable", "r.db", cwd=folder)
        assert done.returncode == 2
        assert "has a store of its own" in done.stderr

    def test_that_cannot_be_imported_is_told_with_where(self, folder: Path) -> None:
        (folder / "broken.py").write_text("\n1 / 0\n")
        done = anabranch("run", "broken:X", "--durable", "r.db", cwd=folder)
        assert done.returncode == 1
        assert done.stderr == (
            "anabranch: broken cannot be imported: ZeroDivisionError: division by zero "
            f"({folder / 'broken.py'}, line 2)\n"
        )

    def test_that_needs_a_package_says_how_to_get_it(self, folder: Path) -> None:
        (folder / "needy.py").write_text("import nowhere_to_be_found\n")
        done = anabranch("run", "needy:X", "--durable", "r.db", cwd=folder)
        assert done.returncode == 1
        assert "pip install nowhere_to_be_found" in done.stderr


class TestFields:
    def test_are_taken_wherever_they_are(
        self, db: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["run", f"{FLOW}:Greeting", "name=Ada", "--durable", db, "result=[1]"])
        assert json.loads(capsys.readouterr().out) == [1]

    def test_are_json_if_they_can_be_and_the_field_takes_it(
        self, db: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for typed, meant in (
            ("result=7", 7),
            ("result=true", True),
            ("result=Infinity", "Infinity"),
            ('result="7"', "7"),
            ("name=7", "hello 7"),
            ("result=a=b", "a=b"),
            ("result=", ""),
        ):
            main(["run", f"{FLOW}:Greeting", "--durable", db, "--json", typed])
            assert json.loads(capsys.readouterr().out)["result"] == meant


def test_the_store_may_be_named_by_a_variable(
    db: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANABRANCH_DURABLE", db)
    assert main(["run", f"{FLOW}:Failing"]) == 1
    assert Path(db).exists()
    assert "--durable" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Greeting"], "'Greeting' is not MODULE:NAME, such as flow:Invoice"),
        (["nowhere:X"], "there is no module 'nowhere'"),
        (["nowhere.py:X"], "there is no file nowhere.py"),
        ([f"{FLOW}:Gretting"], "has no 'Gretting': it has Approval, Asking, Billing"),
        ([f"{FLOW}:Order"], "name a workflow class"),
        ([f"{FLOW}:Path"], "name a workflow class"),
        ([f"{FLOW}:Greeting", "name"], "name"),
        ([f"{FLOW}:Greeting", "=x"], "'=x' is not KEY=VALUE"),
        ([f"{FLOW}:Greeting", "name=x", "name=y"], "'name' is given twice"),
        ([f"{FLOW}:Greeting", "count=x"], "Order cannot be made of this: count: input"),
        ([f"{FLOW}:Greeting", "--timeout", "0"], "not a number of seconds above 0"),
    ],
)
def test_what_cannot_be_meant_is_told(
    arguments: list[str], said: str, db: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target, *more = arguments
    assert main(["run", target, "--durable", db, *more]) == 2
    assert said in capsys.readouterr().err


def test_without_a_store_it_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"{FLOW}:Greeting"]) == 2
    assert "where are the runs? Give --durable runs.db" in capsys.readouterr().err


def test_a_run_of_another_workflow_is_not_taken_for_it(
    db: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", f"{FLOW}:Greeting", "--durable", db, "--id", "r"])
    assert main(["run", f"{FLOW}:Billing", "--durable", db, "--id", "r"]) == 2
    assert "is of workflow tests.cli.flow.Greeting, and not of" in capsys.readouterr().err


class TestARunThatIsInterrupted:
    @pytest.mark.parametrize(
        ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
    )
    def test_is_let_go_and_goes_on_with_the_command_that_is_told(
        self, number: int, status: int, folder: Path, starting: Starting
    ) -> None:
        run = starting("run", "flow:Holding", "--durable", "r.db", "--id", "a b")
        run.wait_until_it_says("holding")
        ended, out, err = run.end(number)
        assert (ended, out) == (status, "")
        assert "run a b is let go" in err
        (folder / "go").touch()
        done = anabranch(*suggested(err), cwd=folder)
        assert done.stdout == "held\n", done.stderr
        assert (folder / "bodies").read_text() == "first\n"

    def test_or_killed_goes_on_when_it_is_run_again(
        self, folder: Path, starting: Starting
    ) -> None:
        command = ["run", "flow:Holding", "--durable", "r.db", "--id", "r"]
        run = starting(*command)
        run.wait_until_it_says("holding")
        run.end(signal.SIGKILL)
        (folder / "go").touch()
        done = anabranch(*command, cwd=folder)
        assert done.stdout == "held\n"
        assert "run r of flow.Holding goes on" in done.stderr
        assert (folder / "bodies").read_text() == "first\n"


class TestARunThatWaitsForAPerson:
    @pytest.mark.parametrize("name", ["patient", "Replying"])
    def test_tells_the_command_that_answers_it(
        self, name: str, folder: Path, starting: Starting
    ) -> None:
        run = starting("run", f"flow.py:{name}", "--durable", "r.db", "--id", "r")
        run.wait_until_it_says("runs send")
        assert "run r waits for Approval" in run.said
        command = suggested(run.said)
        assert command == [
            "runs", "send", "r", "flow.py:Approval", "by=...", "--durable", "r.db"
        ]  # fmt: skip
        command[command.index("by=...")] = "by=Ada"
        done = anabranch(*command, cwd=folder)
        assert done.stdout == "sent Approval to run r\n", done.stderr
        assert done.stderr == ""  # there is who drives it
        status, out, _ = run.end()
        assert status == 0
        assert "Ada" in out

    def test_tells_it_again_when_it_is_taken_up(
        self, folder: Path, starting: Starting
    ) -> None:
        command = ["run", "flow:patient", "--durable", "r.db", "--id", "r"]
        for number in (signal.SIGKILL, signal.SIGINT):
            run = starting(*command)
            run.wait_until_it_says("runs send r flow:Approval by=... --durable r.db")
            run.end(number)


def test_passwords_are_not_shown() -> None:
    from anabranch.cli._places import shown_place

    for template, hidden in (
        ("postgresql://me:{}@host/db", "se:c@ret"),
        ("postgresql://host/db?password={}&a=1", "secret"),
        ("postgresql://me@host/db", ""),
        ("./a:b@c.db", ""),
    ):
        assert shown_place(template.format(hidden)) == template.format("***")

"""`anabranch exec`: code in a confined process, and what people see of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from anabranch.cli import main


def test_what_code_prints_and_gives_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "snippet.py"
    code.write_text(
        "import sys\nprint('begins')\nprint('aside', file=sys.stderr)\n[n, (n, 'é')]\n"
    )
    assert main(["exec", str(code), "n=3"]) == 0
    shown = capsys.readouterr()
    begins, value = shown.out.split("\n", 1)
    assert (begins, json.loads(value)) == ("begins", [3, [3, "é"]])
    assert "aside" in shown.err


def test_one_json_object_tells_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x = 1\n{}['nothing']\n"))
    assert main(["exec", "-", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["value"] is None
    assert (told["error"]["type_name"], told["error"]["line"]) == ("KeyError", 2)
    assert told["memory_bytes"] >= 0


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("while True: pass", ["--time", "0.2"], "give it more with --time"),
        ("x = bytearray(2**28)", ["--memory", "32M"], "give it more with --memory"),
        ("1 +", [], "SyntaxError"),
        ("import nothing_of_this_name", [], "No module named"),
    ],
)
def test_a_failure_is_a_sentence_and_status_1(
    source: str,
    options: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(source))
    assert main(["exec", "-", *options]) == 1
    assert said in capsys.readouterr().err


def test_files_are_seen_only_if_they_are_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b")
    table.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == tmp_path.owner() and folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o755)
    source = f"open({str(table)!r}).read()"
    monkeypatch.setattr("sys.stdin", io.StringIO(source))
    assert main(["exec", "-"]) == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(source))
    assert main(["exec", "-", "--grant", str(table)]) == 0
    assert capsys.readouterr().out == "a,b\n"


def test_scratch_is_a_place_to_write_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "open('/scratch/note', 'w').write('here')\nopen('/scratch/note').read()"
    monkeypatch.setattr("sys.stdin", io.StringIO(source))
    assert main(["exec", "-", "--scratch", "1M"]) == 0
    assert capsys.readouterr().out == "here\n"


@pytest.mark.parametrize("size", ["0", "much", "-3M"])
def test_a_size_that_is_none_is_wrong_use(
    size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["exec", "-", f"--memory={size}"]) == 2
    assert "is not a size such as 256M" in capsys.readouterr().err

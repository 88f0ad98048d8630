"""`anabranch demo`: real documents, real answers, and nothing done twice."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from anabranch.cli import main
from anabranch.cli.demo import QUESTIONS
from tests.cli.command import anabranch

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BEST = {
    QUESTIONS[0]: "asyncio",
    QUESTIONS[1]: "glob",
    QUESTIONS[2]: "RotatingFileHandler",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(home: Path) -> str:
    done = anabranch("demo", "--model", "static", cwd=home)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_at_least_two_thousand_passages_of_the_library_are_indexed(first: str) -> None:
    passages = re.search(r"^passages +([\d,]+): [\d,]+ embedded", first, re.MULTILINE)
    assert passages is not None
    assert int(passages[1].replace(",", "")) >= 2_000


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_has_its_answer_among_the_passages(first: str, question: str) -> None:
    answers = first.partition(f"? {question}\n")[2].partition("retrieved by")[0]
    titles = re.findall(r"^ \d (.+)$", answers, re.MULTILINE)
    assert len(titles) == 3
    assert any(BEST[question] in title for title in titles)


def test_the_second_run_embeds_nothing(first: str, home: Path) -> None:
    done = anabranch("demo", "--model", "static", "How do I parse JSON?", cwd=home)
    assert "Nothing was embedded again: no source has changed." in done.stdout
    assert "? How do I parse JSON?" in done.stdout
    assert QUESTIONS[0] not in done.stdout
    assert f"in .cache/anabranch/demo-static-some-py{VERSION}\n" in done.stdout


def test_all_is_more_than_ten_thousand_passages(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "caches"))
    assert main(["demo", "--all", "--model", "static", "json"]) == 0
    passages = re.search(r"sources, ([\d,]+) passages", capsys.readouterr().out)
    assert passages is not None
    assert int(passages[1].replace(",", "")) > 10_000
    assert (home / f"caches/anabranch/demo-static-all-py{VERSION}").is_dir()


def test_fresh_forgets_the_index_and_touches_nothing_else(
    tmp_path: Path, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = docs.parent / "ix"
    main(["index", str(docs), "--into", str(into), "--model", "static"])
    (into / "mine.txt").write_text("keep")
    capsys.readouterr()
    command = ["demo", "--into", str(into), "--model", "static", "--fresh", "bisect"]
    assert main(command) == 0
    assert "albatross" not in capsys.readouterr().out
    assert main(["ask", "albatross wings", "--from", str(into), "-k", "1"]) == 0
    assert "birds.txt" not in capsys.readouterr().out
    assert (into / "mine.txt").read_text() == "keep"

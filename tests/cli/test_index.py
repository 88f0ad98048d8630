"""`anabranch index`: what people see, and what is kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from anabranch.cli import main
from tests.cli.chat_server import served
from tests.cli.command import PROGRAM, anabranch, environment

STATIC = ("--model", "static")


def test_the_summary_says_what_was_done_and_what_to_do_next(
    docs: Path, tmp_path: Path
) -> None:
    (docs / "picture.png").write_bytes(b"\x89PNG")
    done = anabranch("index", "docs", "--into", "ix", *STATIC, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["sources"] == "4: 4 new (1 file of other kinds skipped)"
    assert lines["documents"] == "5"
    assert lines["passages"] == "5: 5 embedded"
    assert "passages/s" in lines["time"]
    assert "read" in done.stdout
    assert "held up by " in done.stdout
    assert lines["memory"].endswith(" MiB at most")
    assert lines["index"].startswith("4 sources, 5 passages, ")
    assert done.stdout.endswith('Next: anabranch ask "QUESTION" --from ix\n')
    assert "indexing: 4 of 4 sources, 5 passages" in done.stderr
    assert "\r" not in done.stderr

    again = anabranch("index", "docs", "--into", "ix", cwd=tmp_path)
    assert again.returncode == 0
    assert "sources    4: 4 unchanged" in again.stdout
    assert "Nothing was embedded again: no source has changed." in again.stdout


def test_what_has_changed_is_done_again_and_what_is_gone_is_removed(
    docs: Path, tmp_path: Path
) -> None:
    anabranch("index", "docs", "--into", "ix", *STATIC, cwd=tmp_path)
    (docs / "guide.md").write_text("Entirely new.")
    (docs / "birds.txt").unlink()
    (docs / "copy.txt").write_text("Hone a blade.")
    done = anabranch("index", "docs", "--into", "ix", "--prune", cwd=tmp_path)
    assert "4: 1 new, 1 changed, 2 unchanged, 1 removed" in " ".join(done.stdout.split())
    assert "index      4 sources" in done.stdout


def test_an_index_among_its_documents_is_told_of_and_never_indexed(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = str(docs)
    assert main(["index", into, "--into", into, *STATIC]) == 0
    told = capsys.readouterr()
    assert f"the index is among the documents in {docs}" in told.err
    assert "4: 4 new" in told.out
    # As a shell writes docs/* now.
    names = [str(path) for path in docs.iterdir()]
    assert str(docs / "lock") in names
    assert main(["index", *names, "--into", into]) == 0
    told = capsys.readouterr()
    assert "among the documents" not in told.err
    assert "4: 4 unchanged" in told.out


def test_a_broken_source_is_told_at_the_end_and_the_others_are_indexed(
    docs: Path, tmp_path: Path
) -> None:
    (docs / "broken.pdf").write_bytes(b"%PDF-nonsense")
    done = anabranch(
        "index", "docs", "gone.md", "--into", "ix", *STATIC, "--report", "r.jsonl",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "sources    6: 4 new, 2 broken" in done.stdout
    told = done.stderr.partition("2 sources could not be read:\n")[2].splitlines()
    assert [line.strip().partition(":")[0] for line in sorted(told)] == [
        "docs/broken.pdf",
        "gone.md",
    ]
    written = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert {row["source"] for row in written} == {
        str(docs / "broken.pdf"),
        str(tmp_path / "gone.md"),
    }
    assert all(row["reason"] for row in written)


@pytest.mark.parametrize("debug", [False, True])
def test_many_broken_sources_are_not_all_told_unless_wanted(
    tmp_path: Path, debug: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(tmp_path / f"{number}.md") for number in range(25)]
    options = ["--into", str(tmp_path / "ix"), *STATIC, *(["--debug"] if debug else [])]
    assert main(["index", *names, *options]) == 1
    said = capsys.readouterr().err
    assert said.count("no such file") == (25 if debug else 20)
    assert ("and 5 more: --debug shows all" in said) is not debug


class TestAList:
    def test_of_lines_may_have_comments_and_blank_lines(
        self, docs: Path, tmp_path: Path
    ) -> None:
        listed = "# two of them\n\n  docs/guide.md  \ndocs/birds.txt"
        done = anabranch("index", "-", "--into", "ix", *STATIC, cwd=tmp_path, stdin=listed)
        assert "sources    2: 2 new" in done.stdout, done.stderr

    def test_separated_by_nul_takes_names_as_they_are(
        self, docs: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "# two\nlines .md").write_text("A strange name.")
        done = anabranch(
            "index", "-", "--null", "--into", "ix", *STATIC,
            cwd=tmp_path, stdin="# two\nlines .md\0docs/guide.md\0",
        )  # fmt: skip
        assert "sources    2: 2 new" in done.stdout, done.stderr

    def test_that_is_empty_is_told(self, tmp_path: Path) -> None:
        done = anabranch("index", "-", "--into", "ix", cwd=tmp_path, stdin="# none\n")
        assert done.returncode == 1
        assert "the list on standard input is empty" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["empty"], 1, "no documents in {0}: it reads txt, text, md"),
        (["docs", "--model", "nope"], 2, "choose from minilm, static"),
        (["docs", "--chunk-tokens", "0"], 2, "not a whole number of at least 1"),
        (["docs", "--chunk-tokens", "\N{SUPERSCRIPT TWO}"], 2, "not a whole number"),
        (["docs", "--overlap-tokens", "-1"], 2, "--overlap-tokens"),
        (["docs", "--overlap-tokens", "200"], 2, "half of max_tokens"),
        (["ftp://host/x"], 2, "ftp:// is not a kind of source"),
        (["python:nope"], 2, "no module 'nope'"),
        (["docs", "--null"], 2, "--null is for a list on standard input"),
        (["-", "-"], 2, "can be given once"),
        (["docs", "--watch", "--report", "r"], 2, "--report is for a run that ends"),
        (["python:json", "--watch"], 2, "none of these sources is a path"),
        (["no/such/folder", "--watch"], 1, "no such file or folder"),
        (["docs", "--report", "no/such/folder"], 1, "no/such/folder: no such file"),
        ([], 2, "the following arguments are required"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: list[str],
    status: int,
    said: str,
    docs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in arguments else STATIC
    assert main(["index", *arguments, "--into", "ix", *model]) == status
    shown = capsys.readouterr()
    assert said.format(*arguments) in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_another_model_than_the_indexs_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["index", str(made / "docs"), "--into", str(made / "ix")]
    assert main([*command, "--model", "minilm"]) == 1
    assert "use the same model, or index into another folder" in capsys.readouterr().err


def test_quiet_says_only_what_went_wrong(docs: Path, tmp_path: Path) -> None:
    command = ("index", "docs", "--into", "ix", *STATIC, "--quiet")
    done = anabranch(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (docs / "broken.pdf").write_bytes(b"%PDF-nonsense")
    done = anabranch(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("1 source could not be read:\n  docs/broken.pdf: ")


@contextmanager
def slow_page() -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """A page that answers when it may; its URL, when it was asked, and the permission."""
    asked, may_answer = threading.Event(), threading.Event()

    async def page(request: web.Request) -> web.Response:
        asked.set()
        if not may_answer.is_set():
            await asyncio.Event().wait()
        return web.Response(text="A page about glaciers.")

    with served({"/slow": page}) as url:
        yield f"{url}/slow", asked, may_answer


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["^C", "TERM"]
)
def test_an_interrupted_run_says_what_is_kept_and_goes_on_when_repeated(
    number: signal.Signals, status: int, docs: Path, tmp_path: Path
) -> None:
    with slow_page() as (url, asked, may_answer):
        command = ["index", url, "docs", "--into", "ix", *STATIC]
        with subprocess.Popen(
            [PROGRAM, *command],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert asked.wait(30)
                process.send_signal(number)
                out, said = process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode == status, said
        assert "are stored; run the same command again to go on\n" in said
        assert "Traceback" not in said
        assert out == ""

        may_answer.set()
        done = anabranch(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "index      5 sources" in done.stdout


def test_a_watched_folder_is_followed_until_interrupted(docs: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "index", "docs", "--into", "ix", "--watch", *STATIC],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert (
                " sources 4: 4 new; passages 5: 5 embedded; " in process.stdout.readline()
            )
            (docs / "later.md").write_text("It came later.")
            assert (
                " sources 1: 1 new; passages 1: 1 embedded; " in process.stdout.readline()
            )
            (docs / "later.md").unlink()
            assert " sources 0: 1 removed; " in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said == (
        "watching: Ctrl-C ends it\n"
        "interrupted: 4 sources are stored; run the same command again to go on\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_written_is_told(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    try:
        assert main(["index", str(docs), "--into", str(tmp_path / "ix"), *STATIC]) == 1
    finally:
        tmp_path.chmod(0o700)
    assert "choose another" in capsys.readouterr().err

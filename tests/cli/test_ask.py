"""`anabranch ask`: passages for people and programs, and answers from a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.cli import main
from tests.cli.chat_server import MODEL, ChatServer, Reply, chat_server, choice, event
from tests.cli.command import anabranch

INSTALL = "How do I install it?"


def test_passages_are_shown_with_rank_source_score_and_who_found_them(made: Path) -> None:
    done = anabranch("ask", INSTALL, "--from", "ix", "-k", "2", cwd=made)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == " 1 Guide"
    assert lines[1] == "   docs/guide.md, characters 0-42"
    assert lines[2] == "   score 1.0000: vector #1, full text #1"
    assert lines[3:5] == ["     # Guide", "     To install it, run the installer."]
    assert lines[-1].startswith("retrieved by vector ")
    assert "full text" in lines[-1]
    assert "\x1b" not in done.stdout


def test_a_line_is_named_where_one_is_known(made: Path) -> None:
    done = anabranch("ask", "hone a blade", "--from", "ix", "-k", "1", cwd=made)
    assert "docs/code/tool.py, line 4" in done.stdout


def test_json_is_one_object_and_nothing_else(made: Path) -> None:
    done = anabranch("ask", INSTALL, "--from", "ix", "-k", "2", "--json", cwd=made)
    found = json.loads(done.stdout)
    assert found.keys() == {"question", "hits", "retrievers"}
    best = found["hits"][0]
    assert best["text"] == "# Guide\n\nTo install it, run the installer."
    assert best["source"] == str(made / "docs/guide.md")
    assert best["found_by"] == {"vector": 1, "full text": 1}
    assert best["rank"] == 1
    assert found["retrievers"]["vector"]["error"] is None
    assert found["retrievers"]["full text"]["seconds"] > 0
    assert len(found["hits"]) == 2


@pytest.mark.parametrize(
    ("conditions", "titles"),
    [
        (["kind=function"], {"tool.whet"}),
        (["kind=function", "kind=module"], {"tool.whet", "tool"}),
        (["kind=function", "line=4"], {"tool.whet"}),
        (["kind=function", "line=5"], set()),
        (["line >= 4"], {"tool.whet"}),
        (["kind = 'function'"], {"tool.whet"}),
        ([' kind="function"', "line = 4"], {"tool.whet"}),
        (["line='4'"], set()),
        (["kind in ('function', 'module') and not line == 4"], {"tool"}),
        (["1 <= line < 9", "kind=module", "title != 'x=y'"], {"tool"}),
    ],
)
def test_only_passages_with_the_metadata_that_is_asked_for(
    made: Path, conditions: list[str], titles: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    where = [part for condition in conditions for part in ("--where", condition)]
    status = main(["ask", "pencils", "--from", str(made / "ix"), "--json", *where])
    found = json.loads(capsys.readouterr().out)
    assert {hit["title"] for hit in found["hits"]} == titles
    assert status == (0 if titles else 1)


def test_a_document_cannot_command_the_terminal(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "volcanoes", "--from", str(made / "ix"), "-k", "1"]) == 0
    shown = capsys.readouterr().out
    assert "words about volcanoes" in shown
    assert not {"\x1b", "\x07"} & set(shown)


def test_long_passages_are_cut_unless_wanted_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n\n".join(f"Paragraph {number} of the poem." for number in range(12))
    (tmp_path / "poem.txt").write_text(text)
    into = str(tmp_path / "ix")
    main(["index", str(tmp_path / "poem.txt"), "--into", into, "--model", "static"])
    capsys.readouterr()
    main(["ask", "poem", "--from", into])
    shown = capsys.readouterr().out
    assert shown.count("Paragraph") == 6
    assert "Paragraph 5 of the poem. \N{HORIZONTAL ELLIPSIS}\n" in shown
    main(["ask", "poem", "--from", into, "--full"])
    assert capsys.readouterr().out.count("Paragraph") == 12


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["x", "--from", "nowhere"], 1, "nowhere holds no index: make one with"),
        (["  ", "--from", "ix"], 2, "the question is empty"),
        (["x", "--from", "ix", "-k", "0"], 2, "not a whole number of at least 1"),
        (["x", "--from", "ix", "--where", "kind"], 2, "'kind' is a field by itself"),
        (["x", "--from", "ix", "--where", "kind==c"], 2, "a comparison of two fields"),
        (["x", "--from", "ix", "--where", 'a"b=c'], 2, "cannot be read"),
        (["x", "--from", "ix", "--where", "=c"], 2, "cannot be read"),
        (["x", "--from", "ix", "--where", "exit() == 1"], 2, "'exit()' is a call"),
        (["x", "--from", "ix", "--timeout", "nan"], 2, "not a number of seconds above 0"),
        (["x", "--from", "ix", "--where", "kind=none"], 1, "no passage has what --where"),
        (["x", "--from", "ix", "--llm", "http://h"], 2, "--model NAME go together"),
        (["x", "--from", "ix", "--llm", "h", "--model", "m"], 2, "not the address"),
        (["x", "--from", "ix", "--where", "line = 4 and kind = 'x'"], 1, "is written =="),
        (["x"], 2, "--from"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    made: Path,
    arguments: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(made)
    assert main(["ask", *arguments]) == status
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


class TestAnAnswer:
    @pytest.fixture
    def server(self) -> Iterator[ChatServer]:
        with chat_server() as server:
            yield server

    def ask(self, server: ChatServer, *more: str, model: str = MODEL) -> tuple[str, ...]:
        return (
            "ask",
            INSTALL,
            "--from",
            "ix",
            "--llm",
            server.url,
            "--model",
            model,
            *more,
        )

    def test_is_written_from_the_passages_with_its_sources(
        self, made: Path, server: ChatServer
    ) -> None:
        done = anabranch(*self.ask(server), cwd=made)
        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            "To install it, run the installer [1].\n\n"
            "[1] Guide  docs/guide.md, characters 0-42\n"
        )
        asked = server.requests[0]["messages"][-1]["content"]
        assert "To install it, run the installer." in asked
        assert asked.endswith(f"Question: {INSTALL}")

    def test_is_one_object_for_programs(
        self, made: Path, server: ChatServer, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(made)
        assert main(self.ask(server, "--json")) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["answer"] == {
            "model": MODEL,
            "text": "To install it, run the installer [1].",
            "cited": [1],
        }
        assert found["hits"][0]["title"] == "Guide"

    @pytest.mark.parametrize("name", ["ANABRANCH_LLM_KEY", "OPENAI_API_KEY"])
    def test_the_key_comes_from_the_environment(
        self, made: Path, server: ChatServer, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.key = "sesame"
        monkeypatch.chdir(made)
        monkeypatch.delenv("ANABRANCH_LLM_KEY", raising=False)
        monkeypatch.setenv(name, "sesame\n")
        assert main(self.ask(server)) == 0

    def test_a_refusal_is_one_sentence_that_says_what_to_do(
        self, made: Path, server: ChatServer
    ) -> None:
        server.key = "sesame"
        done = anabranch(*self.ask(server), cwd=made, env={"OPENAI_API_KEY": "barley"})
        assert (done.returncode, done.stdout) == (1, "")
        assert "401 Unauthorized: Incorrect API key provided" in done.stderr
        assert "the key comes from ANABRANCH_LLM_KEY or OPENAI_API_KEY" in done.stderr
        assert "barley" not in done.stderr

    def test_that_breaks_off_shows_what_came(self, made: Path, server: ChatServer) -> None:
        server.reply = lambda: Reply([event(choice({"content": "To inst"}))])
        done = anabranch(*self.ask(server), cwd=made)
        assert done.returncode == 1
        assert done.stdout == "To inst\n"
        assert "broke off before its end" in done.stderr

    def test_without_citations_lists_what_the_model_was_given(
        self, made: Path, server: ChatServer, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(made)
        server.answer = ["I think\x1b[2J so."]
        assert main(self.ask(server, "-k", "2")) == 0
        shown = capsys.readouterr().out
        assert "The answer cites nothing. What the model was given:\n[1] Guide" in shown
        assert "\n[2] " in shown
        assert "\x1b" not in shown

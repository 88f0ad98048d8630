"""Source code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.rag.readers import documents
from anabranch.rag.readers.media import CODE, LANGUAGES, PYTHON
from anabranch.rag.types import Content, Document


def read(source: str | bytes, name: str) -> list[Document]:
    data = source.encode() if isinstance(source, str) else source
    media_type = PYTHON if name.endswith(".py") else CODE
    return list(
        documents(Content(uri=f"/x/{name}", media_type=media_type, digest="", data=data))
    )


def names(source: str, name: str) -> list[str]:
    return [".".join(titles) for each in read(source, name) for titles in each.sections]


PYTHON_SOURCE = """\
import os

# What a thing is.
@decorated
class Thing:
    def method(self):
        def inner(): ...

    async def waits(self): ...

def after(): ...

def after(): ...
"""


def test_python_is_its_source_a_document_for_each_outermost_definition():
    head, thing, after, again = read(PYTHON_SOURCE, "mod.py")
    assert [each.id for each in (head, thing, after, again)] == [
        "/x/mod.py", "/x/mod.py#Thing", "/x/mod.py#after", "/x/mod.py#after@13",
    ]  # fmt: skip
    for each in (head, thing, after, again):
        assert each.text == PYTHON_SOURCE[each.start :][: len(each.text)]
    assert "".join(each.text for each in (head, thing, after, again)) == PYTHON_SOURCE
    assert head.metadata == {
        "title": "mod", "kind": "module", "line": 1, "language": "python",
    }  # fmt: skip
    assert thing.metadata == {
        "title": "mod.Thing", "kind": "class", "line": 5, "language": "python",
    }  # fmt: skip
    assert (after.metadata["kind"], after.metadata["line"]) == ("function", 11)
    assert [thing.text[at:].partition("\n")[0] for at in thing.breaks] == [
        "# What a thing is.",
        "    def method(self):",
        "        def inner(): ...",
        "    async def waits(self): ...",
    ]
    assert list(thing.sections) == [
        ("Thing",),
        ("Thing", "method"),
        ("Thing", "method", "inner"),
        ("Thing", "waits"),
    ]


def test_a_package_is_named_after_its_folder():
    assert read("x = 1\n", "pkg/__init__.py")[0].metadata["title"] == "pkg"


def test_what_no_longer_parses_is_read_all_the_same():
    assert names("def old(x):\n    print x\nclass (:\ndef half(", "a.py") == ["old", "half"]


def test_the_encoding_that_python_declares_is_honoured():
    source = "#!/usr/bin/python\n# -*- coding: koi8-r -*-\nx = 'да'\n"
    assert read(source.encode("koi8-r"), "a.py")[0].text == source
    assert read(b"# coding: nonsense\nx = 1\n", "a.py")[0].text.endswith("x = 1\n")


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        (
            "a.c",
            (
                "#include <x.h>\nstatic const char *find(const char *name, int n)\n{\n"
                "    if (a && (b)) {\n    return call(a,\n       b);\n}\nstruct point {\n};\n"
                "int main(void) {\n  x = foo(1);\n}\nvoid declared(int);\n"
            ),
            ["find", "point", "main"],
        ),
        (
            "a.java",
            (
                "@Deprecated\npublic final class Box<T> {\n    @Override\n"
                "    public <T> List<T> all(int a,\n        int b) {\n      while (x) {\n"
                "    return new Thing(\n }\n    interface Inner {}\n}"
            ),
            ["Box", "Box.all", "Box.Inner"],
        ),
        (
            "a.go",
            "func Plain(a int) int {\n}\nfunc (b *Box) Open() error {\n}\ntype Box struct {",
            ["Plain", "Open", "Box"],
        ),
        (
            "a.rs",
            (
                "#[derive(Debug)]\npub(crate) struct P<T>;\nimpl<T> P<T> {\n"
                "    pub async fn go(&self) {}\n}\nfn free() {}"
            ),
            ["P", "P", "P.go", "free"],
        ),
        (
            "a.ts",
            (
                "export default class A {\n  async load(url: string): Promise<void> {\n"
                "    if (x) {\n  }\n}\nexport const add = (a, b) => a + b;\n"
                "function* gen() {}\ninterface B {}\nconst n = 3;\n"
            ),
            ["A", "A.load", "add", "gen", "B"],
        ),
        ("a.rb", "module M\n  class C\n    def self.go!\n", ["M", "M.C", "M.C.self.go"]),
        ("a.sh", "one() {\n}\nfunction two {\n}\n", ["one", "two"]),
        (
            "a.sql",
            "CREATE TABLE IF NOT EXISTS a.b (x int);\ncreate or replace view v as select",
            ["a.b", "v"],
        ),
        ("a.R", "f <- function(x) x\ny <- 3", ["f"]),
        (
            "a.kt",
            "fun <T> one() = 1\nprivate fun two() {}\nobject O {",
            ["one", "two", "O"],
        ),
        ("a.lua", "local function a.b()\nfunction c:d()", ["a.b", "c:d"]),
        (
            "a.php",
            "<?php\nabstract class A {\n  public static function b() {",
            ["A", "A.b"],
        ),
    ],
)
def test_definitions_are_found_in(name: str, source: str, expected: list[str]):
    assert names(source, name) == expected


def test_what_a_program_wrote_in_one_line_is_no_document():
    assert read("var a=1;" * 1000, "min.js") == []
    assert read("var a = 1;\n" * 1000, "a.js") != []


@pytest.mark.parametrize("suffix", [".py", *" ".join(LANGUAGES.values()).split()])
@given(
    source=st.text(
        st.sampled_from("def class fn func ({[]})*&:;,=<>@#/-\n\n\n\t ab")
        | st.characters(
            codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufeff\ufffd"
        ),
        max_size=300,
    )
)
def test_any_text_is_kept_whole(suffix: str, source: str):
    found = read(source + "\n", f"a{suffix}")
    assert "".join(document.text for document in found).strip() == source.strip()
    assert len({document.id for document in found}) == len(found)
    for document in found:
        assert document.text == (source + "\n")[document.start :][: len(document.text)]
        assert list(document.breaks) == sorted(set(document.breaks))
        assert len(document.breaks) == len(document.sections)
        assert all(0 <= offset < len(document.text) for offset in document.breaks)


@pytest.mark.parametrize("suffix", [".c", ".ts", ".rs", ".sql", ".py"])
def test_no_line_takes_long_however_it_is_made(suffix: str):
    for hostile in (
        "a " * 100_000,
        "a" * 200_000,
        "fn" + "(" * 100_000,
        "a" + " " * 200_000,
    ):
        read(f"{hostile}\n" + "\n" * 2_000, f"a{suffix}")

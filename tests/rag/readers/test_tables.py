"""Tables in text."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import SourceError, UsageError
from anabranch.rag import Fields
from anabranch.rag.readers import FileReader, documents
from anabranch.rag.types import Content, Document

TABLE = """\
title,year,body,code
Rivers,2020,"Water, that flows
and joins.",007
Lakes,1999,Water that stands.,

Seas,,Salt.,1
"""


def read(
    data: str | bytes, fields: Fields | None = None, media_type: str = "text/csv"
) -> list[Document]:
    raw = data.encode() if isinstance(data, str) else data
    content = Content(
        uri="u",
        media_type=media_type,
        digest="",
        data=raw,
        metadata={"k": 1},
        fields=fields,
    )
    return list(documents(content))


def test_a_row_is_a_document_that_names_its_cells():
    first, second, third = read(TABLE)
    assert (first.id, second.id, third.id) == ("u#row=1", "u#row=2", "u#row=3")
    assert first.text == (
        "title: Rivers\nyear: 2020\nbody: Water, that flows\nand joins.\ncode: 007"
    )
    assert second.text == "title: Lakes\nyear: 1999\nbody: Water that stands."
    assert first.metadata == {"k": 1, "title": "Rivers", "row": 1}


def test_columns_are_chosen_for_text_and_metadata():
    fields = Fields(text=["body"], metadata=["year", "code"], title="code")
    first, _, third = read(TABLE, fields)
    assert first.text == "Water, that flows\nand joins."
    assert first.metadata == {"k": 1, "year": 2020, "code": "007", "title": "007", "row": 1}
    assert third.metadata == {"k": 1, "year": None, "code": 1, "title": "1", "row": 3}
    assert read(TABLE, Fields(metadata=["year"]))[2].text == (
        "title: Seas\nbody: Salt.\ncode: 1"
    )


def test_rows_stand_together_where_their_metadata_is_the_same():
    table = "shelf,book\n" + "".join(f"{n // 3},Book {n}\n" for n in range(7))
    found = read(table, Fields(text=["book"], metadata=["shelf"], together=2))
    assert [(d.text, d.metadata["shelf"], d.metadata["row"]) for d in found] == [
        ("Book 0\n\nBook 1", 0, 1),
        ("Book 2", 0, 3),
        ("Book 3\n\nBook 4", 1, 4),
        ("Book 5", 1, 6),
        ("Book 6", 2, 7),
    ]


@pytest.mark.parametrize("delimiter", list(",;\t|"))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_delimiter_and_the_encoding_are_found(delimiter: str, encoding: str):
    rows = [["nàme", "prïce"], ["a; b, c | d", "1,5"], ["e", "2,5"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    found = read(text.getvalue().encode(encoding))
    assert found[0].text == "nàme: a; b, c | d\nprïce: 1,5"
    assert found[0].metadata["row"] == 1


def test_what_says_its_delimiter_is_believed():
    assert read("sep=#\na#b\n1,2#3")[0].text == "a: 1,2\nb: 3"
    assert read("a b\tc, d\n1\t2", media_type="text/tab-separated-values")[0].text == (
        "a b: 1\nc, d: 2"
    )


def test_columns_without_a_name_of_their_own_get_one():
    assert read("a,,a\n1,2,3,4")[0].text == "a: 1\ncolumn 2: 2\na 2: 3\ncolumn 4: 4"
    assert [d.text for d in read("1,2.5\n3,4")] == [
        "column 1: 1\ncolumn 2: 2.5",
        "column 1: 3\ncolumn 2: 4",
    ]
    assert read("country,1990,2000\nX,1,2")[0].text == "country: X\n1990: 1\n2000: 2"


@pytest.mark.parametrize("names", [["a"] * 10_000, list(map(str, range(1900, 2100)))])
def test_columns_are_named_by_the_first_row_however_many_and_alike(names: list[str]):
    (document,) = read(",".join(names) + "\n" + ",".join("x" for _ in names))
    lines = document.text.splitlines()
    assert len(set(lines)) == len(names)
    assert lines[0] == f"{names[0]}: x"


def test_names_that_are_there_already_are_not_given_again():
    assert read("a,a 2,a,column 5,x\n1,2,3,4,5,6")[0].text == (
        "a: 1\na 2: 2\na 3: 3\ncolumn 5: 4\nx: 5\ncolumn 6: 6"
    )
    assert read("a,column 3\n1,2,3")[0].text == "a: 1\ncolumn 3: 2\ncolumn 3 2: 3"


def test_a_first_row_of_long_texts_names_nothing():
    found = read(f"a,{'word ' * 201}\nb,c")
    assert [d.text for d in found][1] == "column 1: b\ncolumn 2: c"


def test_a_long_number_that_is_none_after_all_is_a_name():
    assert read(f"{'1' * 900}x\nb")[0].text == f"{'1' * 900}x: b"


def test_a_table_of_a_header_alone_has_no_documents():
    assert read("a,b\n") == read("\n\n,,\n") == []


@pytest.mark.parametrize(
    ("data", "fields", "reason"),
    [
        ("a,b\n1,2", Fields(text=["c"]), "has no column 'c': its columns are 'a', 'b'"),
        ('a,b\n"' + "x" * 200_000, None, "of more than 131,072 characters, in line 2"),
        ("a,b\n" + '"\n",' * 1_500_000, None, r"a row of more than 4,194,304 characters"),
        ("," * 20_000, None, r"has 20,001 columns in line 1, above the limit of 10,000"),
        (b"a,b\n\0,1", None, "is not text: it holds a NUL"),
    ],
    ids=range(5),
)
def test_what_is_wrong_with_a_table_is_said(
    data: str | bytes, fields: Fields | None, reason: str
):
    with pytest.raises(SourceError, match=reason):
        read(data, fields)


def test_choices_that_cannot_be_meant_are_refused():
    with pytest.raises(UsageError, match=r"give a list, \['body'\]"):
        Fields(text="body")
    with pytest.raises(UsageError, match="at least 1"):
        Fields(together=0)


CELLS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1
).filter(lambda cell: "\ufffd" not in cell and cell.strip() == cell != "")


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8))
def test_every_cell_is_kept(rows: list[list[str]]):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["x", "y", "z"], *rows])
    found = read(text.getvalue(), Fields(text=["x", "y", "z"]))
    expected = [[f"{n}: {c}" for n, c in zip("xyz", row, strict=True)] for row in rows]
    assert [d.text for d in found] == ["\n".join(lines) for lines in expected]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_huge_file_is_read_piece_by_piece_and_a_change_meanwhile_is_met(
    tmp_path: Path, name: str
):
    path = tmp_path / name
    with path.open("w") as file:
        for number in range(30_000):
            if name == "a.csv":
                file.write("n,text\n" if number == 0 else "")
                file.write(f'{number},"some words\nin two lines é {"x" * 260}"\n')
            else:
                file.write(f'{{"n": {number}, "text": "some words {"x" * 280}"}}\n')
    fields = Fields(text=["text"], metadata=["n"])
    content = asyncio.run(FileReader(fields=fields).read(str(path)))
    assert content.data == path
    count = 0
    for document in documents(content):
        assert document.metadata["n"] == count
        count += 1
    assert count == 30_000
    with path.open("a") as file:
        file.write('30000,"more"\n' if name == "a.csv" else '{"n": 1, "text": "more"}\n')
    with pytest.raises(SourceError, match="changed while it was being read"):
        list(documents(content))


def test_another_choice_of_fields_is_another_version_of_the_source(tmp_path: Path):
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "a.txt").write_text(TABLE)

    def digest(name: str, fields: Fields | None) -> str:
        reader = FileReader(fields=fields)
        return asyncio.run(reader.read(str(tmp_path / name))).digest

    choices = [None, Fields(), Fields(text=["body"]), Fields(together=2)]
    assert len({digest("a.csv", fields) for fields in choices}) == 4
    assert digest("a.csv", Fields(text=("body",))) == digest("a.csv", choices[2])
    assert len({digest("a.txt", fields) for fields in choices}) == 1

"""JSON and JSON lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import SourceError
from anabranch.rag import Fields
from anabranch.rag.readers import documents
from anabranch.rag.types import Content, Document

LINES, JSON = "application/jsonl", "application/json"
RECORDS = [
    {"id": 7, "title": "Rivers", "text": "They flow.", "tags": ["a", "b"], "new": True},
    {"id": 8, "text": " ", "by": {"name": "Ann", "born": None}, "tags": []},
]


def read(data: object, media_type: str, fields: Fields | None = None) -> list[Document]:
    if isinstance(data, str | bytes):
        raw = data.encode() if isinstance(data, str) else data
    elif media_type == LINES and isinstance(data, list):
        raw = "\n\n".join(map(json.dumps, data)).encode()
    else:
        raw = json.dumps(data).encode()
    content = Content(uri="u", media_type=media_type, digest="", data=raw, fields=fields)
    return list(documents(content))


def deep(levels: int, characters: int) -> str:
    """Objects in objects, each of which holds a number besides."""
    name = "n" * characters
    return f'{{"a": 1, "{name}": ' * levels + "1" + "}" * levels


def test_a_line_is_a_document_that_names_its_fields():
    first, second = read(RECORDS, LINES)
    assert (first.id, second.id) == ("u#line=1", "u#line=3")
    assert first.text == "id: 7\ntitle: Rivers\ntext: They flow.\ntags: a, b\nnew: true"
    assert first.metadata == {"title": "Rivers", "line": 1}
    assert second.text == "id: 8\nby.name: Ann"


def test_fields_are_chosen_for_text_and_metadata():
    fields = Fields(text=["text"], metadata=["id", "tags", "by.name", "new"])
    (first,) = read(RECORDS, LINES, fields)
    assert first.text == "They flow."
    assert first.metadata == {
        "id": 7, "tags": ["a", "b"], "new": True, "title": "Rivers", "line": 1,
    }  # fmt: skip


def test_json_is_a_list_of_records_or_one_record():
    assert [d.id for d in read(RECORDS, JSON)] == ["u#record=1", "u#record=2"]
    (one,) = read(RECORDS[0], JSON)
    assert (one.id, one.metadata) == ("u", {"title": "Rivers"})
    inside = {"page": 1, "found": {"items": RECORDS}}
    assert read(inside, JSON, Fields(records="found.items"))[0].metadata["record"] == 1
    assert [d.text for d in read(["a", 1, None, ["b", {"c": "d"}]], JSON)] == [
        "a", "1", "b, d",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "media_type", "fields", "reason"),
    [
        ('{"a": 1}\n{"a"', LINES, None, r"line 2 is not JSON \(.*mend it or take it out"),
        ("{", JSON, None, "the file is not JSON"),
        ("[" * 200_000, JSON, None, "the file is nested too deep"),
        ("1" * 10_000, LINES, None, "line 1 holds a number of more than 4,300 digits"),
        ("[" + "{}," * 2_000_001 + "1]", JSON, None, "holds more than 4,000,000 values"),
        (deep(200, 1_000), LINES, None, "record 1 has names that are too long"),
        (RECORDS, JSON, Fields(text=["body"]), r"no record has the field 'body'.*'id'"),
        (RECORDS, JSON, Fields(records="x"), "'x' is not a list in it"),
        (b"\0", JSON, None, "is not text"),
    ],
    ids=range(9),
)
def test_what_is_wrong_with_json_is_said(
    data: object, media_type: str, fields: Fields | None, reason: str
):
    with pytest.raises(SourceError, match=reason):
        read(data, media_type, fields)


def test_escapes_that_stand_for_no_character_become_question_marks():
    (document,) = read(r'{"title": "a\ud800", "tags": ["\udfff"]}', LINES, Fields(
        metadata=["tags"]
    ))  # fmt: skip
    assert (document.text, document.metadata["tags"]) == ("title: a?", ["?"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=4))
def test_any_json_is_read_and_lines_say_what_a_list_says(records: list[dict[str, object]]):
    as_list = read(records, JSON)
    if any("\ufffd" in d.text for d in as_list):
        return
    as_lines = read("\n".join(map(json.dumps, records)), LINES)
    assert [d.text for d in as_list] == [d.text for d in as_lines]
    for document in as_list:
        document.text.encode()

"""What a filter may say, what it means, and that nothing else gets through."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.rag import (
    All,
    Chunk,
    Compare,
    Contains,
    Either,
    Filter,
    FullTextRetriever,
    FusionRetriever,
    Not,
    OneOf,
    SqliteStore,
    VectorRetriever,
    as_filter,
    matches,
)
from anabranch.rag.filters import MOST_LEVELS, MOST_PARTS, Metadata, Where
from anabranch.rag.plan import Version, text_digest
from anabranch.rag.stores import Add
from anabranch.rag.stores.conditions import condition
from tests.rag.filter_trees import (
    about,
    joined,
    metadatas,
    name_of,
    names,
    scalars,
    text_of,
)
from tests.rag.parts import HashEmbedder, vector_of

RIVER: Metadata = {
    "year": 2021,
    "lang": "en",
    "draft": False,
    "depth": 2.5,
    "tags": ["rivers", 7, None],
    "author": None,
    "a b": 1,
}


class TestTheGrammar:
    @pytest.mark.parametrize(
        ("text", "tree"),
        [
            ("year == 2020", Compare("year", "==", 2020)),
            ("2020 < year", Compare("year", ">", 2020)),
            ("2020 != year", Compare("year", "!=", 2020)),
            ("depth >= -0.5", Compare("depth", ">=", -0.5)),
            ("x == -9223372036854775808", Compare("x", "==", -(2**63))),
            ("x == None", Compare("x", "==", None)),
            (
                "2020 <= year < 2024",
                All((Compare("year", ">=", 2020), Compare("year", "<", 2024))),
            ),
            ("lang in ('en', 'de')", OneOf("lang", ("en", "de"))),
            ("lang not in ['en']", Not(OneOf("lang", ("en",)))),
            ("lang in ()", OneOf("lang", ())),
            ("'x' in tags", Contains("tags", "x")),
            ("None not in tags", Not(Contains("tags", None))),
            ('metadata["a b"] == 1', Compare("a b", "==", 1)),
            ("metadata == 1", Compare("metadata", "==", 1)),
            ("größe == 'ß'", Compare("größe", "==", "ß")),
            (
                "  a == 1 and (b == 2 or not c == 3)\n",
                All(
                    (
                        Compare("a", "==", 1),
                        Either((Compare("b", "==", 2), Not(Compare("c", "==", 3)))),
                    )
                ),
            ),
        ],
    )
    def test_says_a_tree(self, text: str, tree: Filter) -> None:
        assert as_filter(text) == tree
        assert as_filter(tree) is tree

    def test_a_mapping_says_that_each_field_has_its_value_or_one_of_them(self) -> None:
        where: Where = {"lang": ["en", None], "year": 2021, "tags": ()}
        expected = (OneOf("lang", ("en", None)), Compare("year", "==", 2021))
        assert as_filter(where) == All((*expected, OneOf("tags", ())))
        assert as_filter({}) == All(())

    @given(
        joined(
            st.one_of(
                st.builds(Compare, names, st.sampled_from(["==", "<", ">="]), scalars),
                st.builds(OneOf, names, st.lists(scalars, max_size=3).map(tuple)),
                st.builds(Contains, names, scalars),
            ),
            least=2,
        )
    )
    def test_a_tree_written_as_text_is_read_as_the_same_tree(self, tree: Filter) -> None:
        text = text_of(tree)
        if len(text) <= 4000:
            assert repr(as_filter(text)) == repr(tree)


class TestTheMeaning:
    @pytest.mark.parametrize(
        "text",
        [
            "year >= 2021",
            "2020 < year < 2022",
            "year == 2021.0",
            "draft == 0",
            "draft != True",
            "draft < 1",
            "lang in ('de', 'en')",
            "'rivers' in tags",
            "None in tags",
            "author == None",
            "missing == None",
            "missing in [None]",
            "missing != 'x'",
            "tags != 'rivers'",
            "not missing < 5",
            "lang < 'eo'",
            "metadata['a b'] == True",
        ],
    )
    def test_is_that_of_python(self, text: str) -> None:
        assert matches(as_filter(text), RIVER)

    @pytest.mark.parametrize(
        "text",
        [
            "year == '2021'",
            "year < '3'",
            "lang < 3",
            "lang >= 3",
            "lang < None",
            "author <= None",
            "missing < 5",
            "missing >= 5",
            "tags == 'rivers'",
            "tags in ['rivers']",
            "tags < 'x'",
            "'n' in lang",
            "2021 in year",
            "'x' in missing",
            "lang in ()",
        ],
    )
    def test_kinds_are_not_mixed(self, text: str) -> None:
        assert not matches(as_filter(text), RIVER)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "empty: write one such as year >= 2020"),
            (" \n ", "empty"),
            ("draft", "'draft' is a field by itself.*as in draft == True"),
            ("not draft", "a field by itself"),
            ("a == 1 and 'b'", "is a value by itself"),
            ("1 == 1", "two values"),
            ("1 in (1, 2)", "where a field belongs"),
            ("lang == en", "two fields.*text in quotes"),
            ("lang in (en, 'de')", "'en' is a field, where a value belongs"),
            ("a in b", "'a' is a field, where a value belongs"),
            ("len(tags) > 1", r"'len\(tags\)' is a call"),
            ("__import__('os').system('x')", "is a call"),
            ("a == exit()", "is a call"),
            ("a.b == 1", r"'a.b' is an attribute.*metadata\[\"the name\"\]"),
            ("().__class__ == 1", "is an attribute"),
            ("tags[0] == 1", "is a subscript"),
            ("metadata[0] == 1", "is a subscript"),
            ("metadata['a']['b'] == 1", "is a subscript"),
            ("metadata[a] == 1", "is a subscript"),
            ("year + 1 > 3", "'year . 1' is a calculation.*write its result"),
            ("-year > 3", "is a calculation"),
            ("year > 2 ** 9 ** 9", "is a calculation"),
            ("year > 'a' * 9", "is a calculation"),
            ("a == ~1", "is a calculation"),
            ("a == -True", "is a calculation"),
            ("a is None", "identity.*write == or !="),
            ("a in {1}", "a set.*put the values into brackets"),
            ("a in {1: 2}", "a dictionary"),
            ("a in 'text'", "put the values into brackets"),
            ("a == [1]", "a list.*FIELD in .VALUES."),
            ("[1] in a", "a list"),
            ("a in [[1]]", "a list"),
            ("a in [*b]", "another kind"),
            ("a == f'{b}'", "an f-string"),
            ("(a := 1) == 1", "an assignment"),
            ("a == 1 if b else c", "a choice"),
            ("lambda: 1", "a function"),
            ("[a for a in b]", "another kind"),
            ("a == 1j", "another kind"),
            ("a == b''", "another kind"),
            ("a == ...", "another kind"),
            ("a == 1e999", "inf.*finite number of at most 64 bits"),
            ("a == 9223372036854775808", "a number of 64 bits"),
            (f"a == {'9' * 3000}", "a number of 9966 bits"),
            ("a in ['\\0']", "without NUL"),
            ("a == '\\ud800'", "without NUL characters"),
            ("metadata['\\udfff'] == 1", "cannot be '.udfff'"),
            ("a = 1", "cannot be read"),
            ("class == 1", r"cannot be read.*metadata\[\"the name\"\]"),
            ("a == 1; b == 2", "cannot be read"),
            ("import os", "cannot be read"),
            ("a == 1\nb == 2", "cannot be read"),
            ("a == 'x", "cannot be read"),
            ("a == \0", "cannot be read"),
            ("\ud800 == 1", "cannot be read"),
            ("1' OR '1'='1", "cannot be read"),
            ("a == 1 --", "cannot be read"),
            ("(" * 3000, "cannot be read"),
            ("a == 1 or " * 500 + "a == 1", r"at most 4,000 are read.*FIELD: LIST"),
            ("not " * 900 + "a == 1", "deeper than 20 levels"),
            ("not " * 20 + "a == 1", "deeper than 20 levels"),
            ("-" * 3900 + "1", "deeper than|calculation"),
            ("a[" * 1900, "cannot be read|deeper than"),
            ("lambda:" * 500 + "1", "is a function|deeper than"),
        ],
    )
    def test_is_named_with_what_may_be_written_instead(self, text: str, said: str) -> None:
        with pytest.raises(UsageError, match=f"(?s){said}"):
            as_filter(text)

    def test_nothing_is_evaluated(self) -> None:
        before = set(sys.modules)
        for text in ("a == __import__('this')", "__import__('this') == 1"):
            with pytest.raises(UsageError):
                as_filter(text)
        assert set(sys.modules) == before

    @given(st.text(max_size=40) | st.text("ab0 ()[]{}'\"=<>!.,:;@\\\n-+*", max_size=40))
    @pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
    def test_any_text_is_a_tree_or_a_sentence(self, text: str) -> None:
        with suppress(UsageError):
            matches(as_filter(text), RIVER)

    @pytest.mark.parametrize(
        ("where", "said"),
        [
            ({"a": object()}, "a object, which metadata cannot hold"),
            ({"a": b"x"}, "a bytes"),
            ({"a": {"b": 1}}, "a dict"),
            ({"a": [["b"]]}, "a list"),
            ({"a": float("nan")}, "nan"),
            ({"a": 2**63}, "64 bits"),
            ({"a": 10**9999}, "a number of"),
            ({"a\0": 1}, "a field of a filter cannot be"),
            ({1: 1}, "a field of a filter cannot be 1"),
            (7, "a filter is an expression.*not 7"),
            (None, "a filter is an expression.*not a NoneType"),
            (Compare("a", "= 1 OR 1 <", 1), "compares nothing: use one of == != <"),  # type: ignore[arg-type]
            (Compare("a", [], 1), "compares nothing"),  # type: ignore[arg-type]
            (Not("a == 1"), "is no part of a filter"),  # type: ignore[arg-type]
            (All(tuple(Compare("a", "==", n) for n in range(2000))), "2,000 parts"),
        ],
    )
    def test_no_store_is_asked_for_what_it_could_not_compare(
        self, where: Any, said: str
    ) -> None:
        with pytest.raises(UsageError, match=said):
            as_filter(where)

    def test_a_tree_that_is_too_deep_is_refused_too(self) -> None:
        tree: Filter = Compare("a", "==", 1)
        for _ in range(100_000):
            tree = Not(tree)
        with pytest.raises(UsageError, match="deeper than 20 levels"):
            as_filter(tree)
        while isinstance(tree, Not):  # or freeing it would recurse as deep
            tree = tree.part


def form(tree: Filter) -> object:
    """A tree without its names and values, but for the kinds of the values."""
    match tree:
        case Compare(_, op, value):
            return op, "text" if isinstance(value, str) else value is None
        case OneOf(_, values):
            return "one of", None in values
        case Contains(_, value):
            return "contains", value is None
        case All(parts) | Either(parts):
            return type(tree), *map(form, parts)
        case Not(part):
            return "not", form(part)


@dataclass
class Shelf:
    """One small store for many examples: each replaces what it holds."""

    runner: asyncio.Runner
    store: SqliteStore

    def fill(self, rows: Sequence[Mapping[str, object]]) -> None:
        texts = [f"river {number}" for number in range(len(rows))]
        chunks = [
            Chunk("a", text, 0, len(text), row)  # type: ignore[arg-type]
            for text, row in zip(texts, rows, strict=True)
        ]
        vectors = np.array([vector_of(text) for text in texts], np.float32)
        digests = [text_digest(text) for text in texts]
        add = Add(Version("a", "1", "1"), chunks, digests, vectors.reshape(-1, 8), True)
        self.runner.run(self.store.write([add]))

    def found(self, where: Where) -> list[set[int]]:
        by_text = self.runner.run(self.store.search_text("river", k=9999, where=where))
        by_vector = self.runner.run(self.store.search(vector_of("x"), k=9999, where=where))
        return [{int(hit.text.split()[1]) for hit in hits} for hits in (by_text, by_vector)]


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        store = runner.run(SqliteStore.create(Path(folder), HashEmbedder()))
        yield Shelf(runner, store)
        runner.run(store.aclose())


class TestInSqlite:
    @given(st.data())
    @settings(
        max_examples=150,
        deadline=None,
        # Each example writes to a disk: shrinking one would take longer than a test may.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    def test_what_is_found_is_what_matches(self, shelf: Shelf, data: st.DataObject) -> None:
        rows = data.draw(st.lists(metadatas, min_size=1, max_size=8))
        shelf.fill(rows)
        mixed = {name: value for row in rows for name, value in row.items()}
        for tree in data.draw(st.lists(about(mixed), min_size=8, max_size=12)):
            expected = {n for n, row in enumerate(rows) if matches(tree, row)}
            assert shelf.found(tree) == [expected, expected]

    def test_a_filter_as_large_as_may_be_is_answered(self, shelf: Shelf) -> None:
        shelf.fill([{"n": 1}, {"n": 1998}, {"n": 99_999}])
        wide = Either(tuple(Compare("n", "==", n) for n in range(1999)))
        assert shelf.found(wide) == [{0, 1}] * 2
        assert shelf.found({"n": list(range(50_000))}) == [{0, 1}] * 2
        lots = ", ".join(["99999"] * 500)
        assert shelf.found(f"n in [{lots}]") == [{2}] * 2

    @pytest.mark.parametrize("width", [2, 3, 9, 110])
    def test_a_filter_as_deep_as_may_be_is_answered(self, shelf: Shelf, width: int) -> None:
        rows: list[Metadata] = [{"n": [1]}, {"n": 2}]
        shelf.fill(rows)
        leaf: Filter = Not(OneOf("n", (2, None)))
        # As bushy as the number of parts allows, then a stem of the most levels.
        tree, level, leaves = leaf, 1, 1
        while leaves * width < MOST_PARTS // 2:
            tree = (All, Either)[level % 2]((tree,) * width)
            level, leaves = level + 1, leaves * width
        while level < MOST_LEVELS:
            tree = (All, Either)[level % 2]((leaf, Contains("n", 1), tree))
            level += 1
        expected = {n for n, row in enumerate(rows) if matches(tree, row)}
        assert shelf.found(tree) == [expected] * 2

    @pytest.mark.parametrize(
        "hostile",
        [
            "' OR 1=1 --",
            '" OR 1=1 --',
            "'); DROP TABLE chunk; --",
            "x' UNION SELECT 1 --",
            "$.lang",
            '$."lang"',
            '") OR json_extract(metadata, "$.lang',
            "lang') IS NOT NULL OR ('1",
            "%",
            "*",
            "?1",
            "\\",
            "\N{MODIFIER LETTER APOSTROPHE} OR 1=1",
        ],
    )
    def test_no_text_of_a_filter_is_ever_sql(self, shelf: Shelf, hostile: str) -> None:
        rows: list[Mapping[str, object]] = [{"lang": "en"}, {hostile: hostile}]
        shelf.fill([*rows, {"lang": hostile}, {"lang": [hostile]}])
        name, value = f"metadata[{hostile!r}]", repr(hostile)
        for where, expected in (
            ({hostile: hostile}, {1}),
            ({"lang": hostile}, {2}),
            (f"{name} == {value}", {1}),
            (f"{name} != {value}", {0, 2, 3}),
            (f"{name} >= {value}", {1}),
            (f"lang in [{value}]", {2}),
            (f"{value} in lang", {3}),
            (f"{value} in {name}", set[int]()),
        ):
            assert shelf.found(where) == [expected, expected]

    @given(about({"lang": "en"}), about({"lang": "en"}))
    def test_the_sql_depends_on_the_form_of_a_filter_alone(
        self, one: Filter, other: Filter
    ) -> None:
        sql, values = condition(one)
        assert sql.count("?") == len(values)
        assert not set(sql) - set(ascii_letters + digits + " ()_.,*=<>?'[]")
        if form(one) == form(other):
            assert sql == condition(other)[0]

    def test_names_are_told_apart_as_they_are_spelt(self, shelf: Shelf) -> None:
        composed, apart = (
            "\N{LATIN SMALL LETTER E WITH ACUTE}",
            "e\N{COMBINING ACUTE ACCENT}",
        )
        shelf.fill([{composed: 1}, {apart: 1}, {"E": 1}, {"a": {"b": 1}}, {"a.b": 1}])
        # Python composes a name, as it does in a program.
        assert shelf.found(f"{apart} == 1") == [{0}] * 2
        assert shelf.found(f"metadata['{apart}'] == 1") == [{1}] * 2
        assert shelf.found("e == 1") == [set()] * 2
        assert shelf.found({"a.b": 1}) == [{4}] * 2
        assert name_of("a.b") == "metadata['a.b']"


def test_a_retriever_says_what_is_wrong_with_a_filter_before_it_asks(shelf: Shelf) -> None:
    shelf.fill([{"year": 2020}, {"year": 2021}])
    fusion = FusionRetriever(
        [VectorRetriever(shelf.store, HashEmbedder()), FullTextRetriever(shelf.store)]
    )
    found = shelf.runner.run(fusion.retrieve("river", where="year > 2020"))
    assert [hit.text for hit in found] == ["river 1"]
    with pytest.raises(UsageError, match="is a call"):
        shelf.runner.run(fusion.retrieve("river", where="year > f(2020)"))

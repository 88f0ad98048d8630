"""What a filter says is what the sandbox's policy lets Python say of the same expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.errors import SandboxError, UsageError
from anabranch.rag import Compare, Contains, Filter, OneOf, as_filter, matches
from anabranch.rag.filters import Scalar
from anabranch.sandbox import safe_eval
from tests.rag.filter_trees import OPERATORS, Metadata, joined, text_of

NUMBERS: Final = st.one_of(
    st.integers(-3, 3), st.booleans(), st.sampled_from([0.5, -0.5, 1.0, 2**53 + 1, 2.0**53])
)
TEXTS: Final = st.sampled_from(["", "a", "b", "ab", "é", "1", "it's", '"', "\\", "\n"])
# Every field has a kind, and every passage has every field.
KINDS: Final = {
    "year": NUMBERS,
    "depth": NUMBERS,
    "lang": TEXTS,
    "größe": TEXTS,
    "a b": NUMBERS,
    "x]": TEXTS,
}
LISTS: Final = {"tags": TEXTS, "pages": NUMBERS, "a.b": TEXTS}

metadatas: Final[st.SearchStrategy[Metadata]] = st.fixed_dictionaries(
    {**KINDS, **{name: st.lists(kind, max_size=3) for name, kind in LISTS.items()}}
)


def compared(name: str) -> st.SearchStrategy[Filter]:
    kind: st.SearchStrategy[Scalar] = KINDS[name]
    several = st.lists(kind, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Compare, st.just(name), st.sampled_from(OPERATORS), kind),
        st.builds(OneOf, st.just(name), several),
    )


def contained(name: str) -> st.SearchStrategy[Filter]:
    return st.builds(Contains, st.just(name), LISTS[name])


trees: Final = joined(
    st.sampled_from(sorted(KINDS)).flatmap(compared)
    | st.sampled_from(sorted(LISTS)).flatmap(contained),
    least=2,
)
# The forms that a tree does not keep as they were written.
chains: Final = st.tuples(
    NUMBERS, st.sampled_from(OPERATORS), st.sampled_from(OPERATORS), NUMBERS
).map(lambda parts: "{!r} {} year {} {!r}".format(*parts))
expressions: Final = st.one_of(
    trees.map(text_of),
    chains,
    st.tuples(TEXTS, st.sampled_from(["lang", "metadata['x]']"]), st.lists(TEXTS)).map(
        lambda parts: (
            f"{parts[0]!r} != {parts[1]} and {parts[1]} not in {tuple(parts[2])!r}"
        )
    ),
    TEXTS.map(lambda text: f"{text!r} not in tags"),
)


@settings(deadline=None, max_examples=300)
@given(expressions, st.lists(metadatas, min_size=1, max_size=2))
def test_a_filter_holds_where_the_sandbox_says_so(
    expression: str, rows: Sequence[Metadata]
) -> None:
    tree = as_filter(expression)
    for metadata in rows:
        said = safe_eval(expression, {**metadata, "metadata": metadata})
        assert said is matches(tree, metadata)


@pytest.mark.parametrize(
    "expression",
    [
        "().__class__.__base__.__subclasses__()",
        "open('x')",
        "__import__('os').system('true') == 0",
        "year.__class__ == 1",
        "[c for c in ().__class__.__mro__]",
        "'{0.__class__}'.format(year) == 'x'",
        "(lambda: year.__init__)() == 1",
        "metadata.__class__ == 1",
        "f'{year.__class__}' == ''",
    ],
)
def test_what_the_policy_refuses_no_filter_can_say(expression: str) -> None:
    with pytest.raises(SandboxError):
        safe_eval(expression, {"year": 1, "metadata": {}})
    with pytest.raises(UsageError):
        as_filter(expression)

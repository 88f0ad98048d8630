"""Steps of one's own in a pipeline: on documents before they are split, or on chunks."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields, replace
from hashlib import blake2b
from typing import Any, Final, Generic, TypeAlias, TypeVar, Unpack, cast

from anabranch.errors import UsageError
from anabranch.jobs.executors.choice import is_async
from anabranch.jobs.options import JobOptions, Options
from anabranch.rag.types import Chunk, Document

Item = TypeVar("Item", bound=Document | Chunk)

Made: TypeAlias = Item | Sequence[Item] | None
"""What is to go on in the place of an item: another one, several, or none."""

NAMES: Final = ("read", "parse", "split", "embed", "store")
"""The stages that every pipeline has."""

# Where an item is, and not what: two items that differ in these alone are of one content.
_PLACE: Final = frozenset({"id", "document_id", "start", "end", "tokens"})


class Stage(Generic[Item]):
    """A function between two stages of a pipeline, with a concurrency of its own.

    ::

        async def summarise(chunk: Chunk) -> Chunk:
            summary = await model.ask(chunk.text)
            return replace(chunk, metadata={**chunk.metadata, "summary": summary})


        Stage("summary", summarise, concurrency=16, retry=3, timeout=30.0, cached=True)

    An item is a :class:`Document` or a :class:`Chunk`; the function gives another one in
    its place, several, or ``None`` to leave it out. It is called at least once for each
    item, and items stay in order. When it raises, the item's source is broken and is
    reported; what the store held of it stays. A synchronous function is called in a thread.

    Args:
        name: Unique in its pipeline; shown in reports.
        fn: The function.
        version: Another one whenever the function would give something else: sources are
            then indexed anew.
        cached: Whether results are kept in the pipeline's cache, by the item's text and
            metadata: the function must not go by the item's name or place.
        **options: See :class:`anabranch.jobs.Options`. ``concurrency`` is 1 by default.
            The others are for each item, and for functions that are asynchronous, cached,
            or run by an ``executor``.

    Raises:
        UsageError: The name is empty or of a stage that there is already, or an option
            cannot be meant.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[[Item], Made[Item] | Awaitable[Made[Item]]],
        *,
        version: str = "1",
        cached: bool = False,
        **options: Unpack[JobOptions],
    ) -> None:
        if not name or name in NAMES:
            raise UsageError(
                f"a stage cannot be named {name!r}: give it a name other than "
                f"{', '.join(NAMES)}"
            )
        if not callable(fn):
            raise UsageError(f"stage {name!r} needs a function, not {fn!r}")
        for taken in ("errors", "journal", "key", "priority"):
            if taken in options:
                raise UsageError(
                    f"stage {name!r} cannot be given {taken}=: its items stay in order, "
                    "and cached=True remembers results"
                )
        self.name = name
        self.version = version
        self.is_cached = cached
        self.options: JobOptions = {"concurrency": 1, **options}
        self.concurrency = Options.of("return", self.options).most
        self.fn: Callable[[Item], Any] = fn
        self.is_async = is_async(fn)
        if self.is_plain and set(options) - {"concurrency"}:
            raise UsageError(
                f"stage {name!r} is a synchronous function, for which "
                f"{', '.join(sorted(set(options) - {'concurrency'}))} cannot be kept: make "
                "it async, or give it an executor='thread'"
            )

    @property
    def is_plain(self) -> bool:
        """Whether its items may go through it many at a time, in a thread."""
        return not (self.is_async or self.is_cached or "executor" in self.options)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same item would become something else."""
        return f"{self.name}:{self.version}"

    def results(self, item: Item, made: Made[Item]) -> Sequence[Item]:
        """What goes on in the place of an item.

        Raises:
            TypeError: It is something else.
        """
        if made is None:
            return ()
        many = [made] if isinstance(made, Document | Chunk) else list(made)
        for one in many:
            if type(one) is not type(item):
                raise TypeError(
                    f"stage {self.name!r} gave a {type(one).__name__} in the place of a "
                    f"{type(item).__name__}"
                )
        return [_with_right_tokens(item, one) for one in many]

    # ------------------------------------------------------------------- remembering

    def key(self, item: Item) -> bytes:
        """What the results for an item are remembered by."""
        content = {
            field.name: getattr(item, field.name)
            for field in fields(item)
            if field.name not in _PLACE
        }
        whole = [self.fingerprint, type(item).__name__, content]
        data = json.dumps(whole, sort_keys=True, default=_plain).encode()
        return blake2b(data, digest_size=20).digest()

    def written(self, item: Item, results: Sequence[Item]) -> bytes:
        """The results as they are remembered: without the item's place."""
        return json.dumps(
            [_relative(item, one) for one in results], default=_plain
        ).encode()

    def read(self, item: Item, data: bytes) -> Sequence[Item]:
        """The results that were written, at this item's place."""
        return [_absolute(item, facts) for facts in json.loads(data)]


def _with_right_tokens(item: Item, one: Item) -> Item:
    """Without the tokens of another text, which the embedder would take for its own."""
    if (
        isinstance(item, Chunk)
        and isinstance(one, Chunk)
        and one.tokens is not None
        and one.tokens is item.tokens
        and one.text != item.text
    ):
        return replace(one, tokens=None)
    return one


def _relative(item: Document | Chunk, one: Document | Chunk) -> dict[str, object]:
    facts = {f.name: getattr(one, f.name) for f in fields(one) if f.name != "tokens"}
    name = _name_field(item)
    is_within = facts[name].startswith(getattr(item, name))
    facts[name] = [is_within, facts[name].removeprefix(getattr(item, name))]
    for place in ("start", "end"):
        if place in facts:
            facts[place] -= item.start
    return facts


def _absolute(item: Item, facts: dict[str, Any]) -> Item:
    name = _name_field(item)
    is_within, rest = facts[name]
    facts[name] = getattr(item, name) + rest if is_within else rest
    for place in ("start", "end"):
        if place in facts:
            facts[place] += item.start
    for field, value in facts.items():
        if isinstance(value, list):
            facts[field] = _tuple(cast("list[object]", value))
    if isinstance(item, Chunk) and facts["text"] == item.text:
        facts["tokens"] = item.tokens
    return type(item)(**facts)


def _name_field(item: Document | Chunk) -> str:
    return "id" if isinstance(item, Document) else "document_id"


def _tuple(values: list[object]) -> tuple[object, ...]:
    return tuple(
        _tuple(cast("list[object]", value)) if isinstance(value, list) else value
        for value in values
    )


def _plain(value: Any) -> Any:  # whatever JSON has no form for
    """Numbers of numpy, and sequences of other kinds, as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence):
        return list(cast("Sequence[object]", value))
    raise TypeError(f"{value!r} cannot be remembered: metadata is text, numbers and lists")

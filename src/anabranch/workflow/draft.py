"""What a step has done that is not recorded yet.

In a run with a journal a step is a transaction. What it sends, writes to the stream and
changes in the shared state is its own until it is recorded: all at once, with its end, with
a wait, or with a value that it wants remembered. If it fails or dies before, there is no
trace of it.

Who changes the state with ``edit_state`` has the *turn* until then: others who do the same
wait for it, so that no change is made from a state that was about to change.

A body that is begun anew behind a record does again what it did before it. So that this is
not recorded twice, what it does is counted by its kind: an event of a type that is sent, a
path that is set, a block of ``edit_state``. A record says how many of each there were, and
a body that is begun anew does only those behind. What they are done with may differ; so
what a model said is remembered with ``ctx.once``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anabranch.workflow.context.paths import MISSING, Path, changes, copied, edited
from anabranch.workflow.context.state_store import ModelT, Replaced, StateStore
from anabranch.workflow.facts import Edited, Fact, Sent, Written

if TYPE_CHECKING:
    from anabranch.workflow.activity import Activity


class Draft:
    """The facts that a body will add with the next one that is recorded."""

    __slots__ = (
        "_activity",
        "_counts",
        "_facts",
        "_has_turn",
        "_is_editing",
        "_seen",
        "_store",
        "_view",
        "is_dropped",
    )

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._facts: list[Fact] = []
        self._has_turn = False
        self._is_editing = False
        self._counts: dict[str, int] = {}
        self._store: StateStore[Any] | None = None
        self._view: Any = None
        self._seen = 0
        self.is_dropped = False

    @property
    def store(self) -> StateStore[Any]:
        """The shared state as the body sees it."""
        if self._store is None:
            self._store = DraftStore(self)
        return self._store

    @property
    def done(self) -> dict[str, int]:
        """How many things of each kind the body has done."""
        return self._counts.copy()

    def add(self, fact: Sent | Written) -> None:
        """Do this with the next record, unless an earlier attempt has done it."""
        kind = type(fact.event).__qualname__
        target = f" to {fact.step}" if isinstance(fact, Sent) and fact.step else ""
        if self.is_new(f"{type(fact).__name__} {kind}{target}"):
            self._facts.append(fact)

    def is_new(self, what: str) -> bool:
        """Count a thing of a kind; whether no earlier attempt has recorded it."""
        self._counts[what] = number = self._counts.get(what, 0) + 1
        return number > (self._activity.execution.done or {}).get(what, 0)

    def take(self) -> list[Fact]:
        """All that is to be recorded now; the turn is passed on.

        Raises:
            UsageError: A change cannot be made any more, since others have changed the
                state.
        """
        if self._seen != self._activity.run.edits:
            self.read()
        facts, self._facts = self._facts, []
        self._view = None
        self._pass_turn()
        return facts

    def put_back(self, facts: list[Fact]) -> None:
        """These were not recorded after all."""
        self._facts = [*facts, *self._facts]

    def drop(self) -> None:
        """Forget what was done, and whatever will be."""
        self.is_dropped = True
        self.close()

    def close(self) -> None:
        """The body has ended."""
        self._facts = []
        self._view = None
        self._is_editing = False
        self._pass_turn()

    # -------------------------------------------------------------- shared state

    async def take_turn(self) -> None:
        """Wait until nobody else is changing the state."""
        if self._has_turn:
            return
        turn = self._activity.run.turn
        await turn.acquire()
        if self._activity.is_over:  # a task that the body has left behind
            turn.release()
        else:
            self._has_turn = True

    def _pass_turn(self) -> None:
        # Not in the middle of a block, which another task of the body may be in.
        if self._has_turn and not self._is_editing:
            self._has_turn = False
            self._activity.run.turn.release()

    @asynccontextmanager
    async def editing(self, what: str) -> AsyncGenerator[list[tuple[Path, Any]], None]:
        """Change the state in a block that has the turn: what is put into the list."""
        await self.take_turn()
        self._is_editing = True
        try:
            changed: list[tuple[Path, Any]] = []
            yield changed
            if self.is_new(what):
                for path, value in changed:
                    self._change(path, value)
        finally:
            self._is_editing = False

    def read(self) -> Any:
        """The state with the body's own changes."""
        has_edits = any(isinstance(fact, Edited) for fact in self._facts)
        return self._own() if has_edits else self._activity.run.read()

    def _own(self) -> Any:
        """A copy of the state with the body's changes, which nobody else has."""
        run = self._activity.run
        if self._view is None or self._seen != run.edits:
            view = copied(run.read())
            for fact in self._facts:
                if isinstance(fact, Edited):
                    value = MISSING if fact.gone else copied(fact.value)
                    view = edited(view, fact.path, value)
            self._view, self._seen = view, run.edits
        return self._view

    def edit(self, path: str, value: Any) -> None:
        """Put a value at a path, unless an earlier attempt has done so already."""
        if self.is_new(f"set {path}"):
            self._change(path, value)

    def _change(self, path: Path, value: Any) -> None:
        activity = self._activity
        view, self._view = self._own(), None
        self._view = edited(view, path, value if value is MISSING else copied(value))
        is_gone = value is MISSING
        kept = None if is_gone else copied(value)
        now, by = activity.run.now(), activity.execution.id
        self._facts.append(Edited(now, path, kept, by, is_gone))


class DraftStore(StateStore[ModelT]):
    """The shared state as one step of a run with a journal has it."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._draft = draft

    async def get(self, path: str, default: Any = ...) -> Any:
        # A change of what is given would be recorded nowhere.
        return copied(await super().get(path, default))

    @asynccontextmanager
    async def _replacing(self, what: str) -> AsyncGenerator[Replaced, None]:
        self._check_free(what)
        async with self._alone(), self._draft.editing(what) as changed:
            before = self._draft.read()
            replaced = Replaced(before)
            yield replaced
            # Only what differs: others may have changed the rest meanwhile.
            changed.extend(changes(before, replaced.state))

"""What a step has done that is not recorded yet.

In a run with a journal a step is a transaction. What it sends, writes to the stream and
changes in the shared state is its own until it is recorded: all at once, with its end, with
a wait, or with a value that it wants remembered. If it fails or dies before, there is no
trace of it.

Who changes the state with ``edit_state`` has the *turn* until then: others who do the same
wait for it, so that no change is made from a state that was about to change.

A body that is begun anew behind a record does again what it did before it. So that this is
not recorded twice, each thing has a name: its kind, what it is about, and the how-manyth it
is. What it is called with may differ; so what a model said is remembered with ``ctx.once``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from anabranch.workflow.context.paths import changes, copied, edited
from anabranch.workflow.context.state_store import ModelT, StateStore
from anabranch.workflow.facts import Edited, Fact, Sent, Written

if TYPE_CHECKING:
    from anabranch.workflow.activity import Activity


class Draft:
    """The facts that a body will add with the next one that is recorded."""

    __slots__ = ("_activity", "_counts", "_has_turn", "_seen", "_store", "_view", "facts")

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self.facts: list[Fact] = []
        self._has_turn = False
        self._counts: dict[str, int] = {}
        self._store: StateStore[Any] | None = None
        self._view: Any = None
        self._seen = 0

    @property
    def store(self) -> StateStore[Any]:
        """The shared state as the body sees it."""
        if self._store is None:
            self._store = DraftStore(self)
        return self._store

    def add(self, fact: Sent | Written) -> None:
        """Do this with the next record, unless an earlier attempt has done it."""
        kind = type(fact.event).__qualname__
        step = fact.step if isinstance(fact, Sent) else None
        name = self._name(f"{type(fact).__name__} {kind} {step or ''}")
        if name is not None:
            self.facts.append(replace(fact, name=name))

    def _name(self, what: str) -> str | None:
        """A name for the next of its kind; ``None`` if an earlier attempt has done it."""
        self._counts[what] = number = self._counts.get(what, 0) + 1
        name = f"{what}#{number}"
        return None if name in (self._activity.execution.made or ()) else name

    def take(self) -> list[Fact]:
        """All that is to be recorded now; the turn is passed on."""
        facts, self.facts = self.facts, []
        self.drop()
        return facts

    def drop(self) -> None:
        """Forget what was done."""
        self.facts = []
        self._view = None
        if self._has_turn:
            self._has_turn = False
            self._activity.run.turn.release()

    async def take_turn(self) -> None:
        """Wait until nobody else is changing the state."""
        if not self._has_turn:
            await self._activity.run.turn.acquire()
            if self._activity.is_over:  # a task that the body has left behind
                self._activity.run.turn.release()
                return
            self._has_turn = True

    # -------------------------------------------------------------- shared state

    def read(self) -> Any:
        """The state with the body's own changes."""
        has_edits = any(isinstance(fact, Edited) for fact in self.facts)
        return self._own() if has_edits else self._activity.run.read()

    def _own(self) -> Any:
        """A copy of the state with the body's changes, which nobody else has."""
        run = self._activity.run
        if self._view is None or self._seen != run.edits:
            view = copied(run.read())
            for fact in self.facts:
                if isinstance(fact, Edited):
                    view = edited(view, fact.path, copied(fact.value))
            self._view, self._seen = view, run.edits
        return self._view

    def edit(self, path: str, value: Any) -> None:
        """Change the state, unless an earlier attempt has done so already."""
        name = self._name(f"Edited {path}")
        if name is None:
            return
        activity = self._activity
        value = copied(value)
        view, self._view = self._own(), None
        self._view = edited(view, path, copied(value))
        now = activity.run.now()
        self.facts.append(Edited(now, path, value, activity.execution.id, name))


class DraftStore(StateStore[ModelT]):
    """The shared state as one step of a run with a journal has it."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._draft = draft

    async def get(self, path: str, default: Any = ...) -> Any:
        # A change of what is given would be recorded nowhere.
        return copied(await super().get(path, default))

    async def set_state(self, state: ModelT) -> None:
        self._check_free("set_state")
        await self._draft.take_turn()
        await super().set_state(state)

    async def clear(self) -> None:
        self._check_free("clear")
        await self._draft.take_turn()
        await super().clear()

    @asynccontextmanager
    async def edit_state(self) -> AsyncGenerator[ModelT, None]:
        self._check_free("edit_state")
        await self._draft.take_turn()
        async with self._alone():
            before = self._draft.read()
            state = copied(before)
            yield state
            for path, value in changes(before, state):
                self._draft.edit(path, value)

"""Journals in this process's memory: they outlive a run's driver, and not the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from anabranch.errors import JournalConflict, JournalError
from anabranch.workflow.stores.protocol import Opened


@dataclass(slots=True)
class _Journal:
    epoch: int = 0
    dropped: int = 0
    snapshot: bytes | None = None
    facts: list[bytes] = field(default_factory=list[bytes])

    @property
    def end(self) -> int:
        return self.dropped + len(self.facts)


class MemoryStore:
    """A :class:`~anabranch.workflow.Store` for tests, and for what need not last."""

    def __init__(self) -> None:
        self._journals: dict[str, _Journal] = {}

    async def create(self, run_id: str) -> bool:
        if run_id in self._journals:
            return False
        self._journals[run_id] = _Journal()
        return True

    async def open(self, run_id: str) -> Opened:
        journal = self._journals.get(run_id)
        if journal is None:
            raise JournalError(f"there is no run {run_id!r}: create it first")
        journal.epoch += 1
        return Opened(journal.epoch, journal.end, journal.snapshot, tuple(journal.facts))

    async def append(
        self, run_id: str, *, epoch: int, position: int, facts: Sequence[bytes]
    ) -> int:
        journal = self._owned(run_id, epoch)
        if position != journal.end:
            raise JournalConflict(
                f"the journal of run {run_id!r} has {journal.end} facts, expected "
                f"{position}: another worker drives this run; reload it before appending",
                run_id=run_id,
            )
        journal.facts.extend(facts)
        return journal.end

    async def snapshot(
        self, run_id: str, *, epoch: int, position: int, state: bytes
    ) -> None:
        journal = self._owned(run_id, epoch)
        if not journal.dropped <= position <= journal.end:
            raise JournalConflict(
                f"the journal of run {run_id!r} has the facts from {journal.dropped} to "
                f"{journal.end}, so there is no state at {position} to keep",
                run_id=run_id,
            )
        del journal.facts[: position - journal.dropped]
        journal.dropped = position
        journal.snapshot = state

    async def purge(self, run_id: str) -> None:
        self._journals.pop(run_id, None)

    def _owned(self, run_id: str, epoch: int) -> _Journal:
        journal = self._journals.get(run_id)
        if journal is None or journal.epoch != epoch:
            now = "gone" if journal is None else f"in its epoch {journal.epoch}"
            raise JournalConflict(
                f"the journal of run {run_id!r} is {now}, and was opened in epoch {epoch}: "
                "another worker has taken the run over; stop driving it",
                run_id=run_id,
            )
        return journal

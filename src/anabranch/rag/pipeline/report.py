"""What a run of a pipeline did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from anabranch.errors import SourceError
from anabranch.observe import StageStats
from anabranch.rag.plan import Verdict


@dataclass(slots=True)
class Report:
    """What a run of a pipeline did.

    Attributes:
        sources: Those that were met, whatever became of them.
        new: Sources indexed for the first time.
        changed: Sources indexed again since they had changed.
        unchanged: Sources that the store held as they are.
        present: Sources that the store held in some version, and that were not looked at.
        removed: Sources removed since they are gone.
        skipped: Files of other kinds that were passed over in folders.
        broken: Sources that could not be read, and why.
        documents: Documents made of the new and changed sources.
        chunks: Chunks stored of them.
        embedded: Chunks that the model was given; the others' vectors were there.
        elapsed_s: From start to end.
        stages: What each stage did, in their order. ``read`` counts sources, ``parse`` and
            the stages behind it documents, ``split`` and the stages behind it chunks.
    """

    sources: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    present: int = 0
    removed: int = 0
    skipped: int = 0
    broken: list[SourceError] = field(default_factory=list[SourceError])
    documents: int = 0
    chunks: int = 0
    embedded: int = 0
    elapsed_s: float = 0.0
    stages: Sequence[StageStats] = ()

    def add(self, other: Report) -> None:
        """Count what another run has done; the times of stages are added up."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.broken += other.broken
        known = {stage.name: stage for stage in self.stages}
        self.stages = [_joined(known.get(stage.name), stage) for stage in other.stages]

    def met(self, verdict: Verdict) -> None:
        """Count a source that is done with."""
        self.sources += 1
        match verdict:
            case Verdict.NEW:
                self.new += 1
            case Verdict.CHANGED:
                self.changed += 1
            case Verdict.UNCHANGED:
                self.unchanged += 1
            case Verdict.PRESENT:
                self.present += 1


_COUNTS: Final = (
    "sources",
    "new",
    "changed",
    "unchanged",
    "present",
    "removed",
    "skipped",
    "documents",
    "chunks",
    "embedded",
)


def _joined(before: StageStats | None, now: StageStats) -> StageStats:
    if before is None:
        return now
    return replace(
        now,
        done=before.done + now.done,
        most_at_once=max(before.most_at_once, now.most_at_once),
        busy_s=before.busy_s + now.busy_s,
        work_s=before.work_s + now.work_s,
        elapsed_s=before.elapsed_s + now.elapsed_s,
    )

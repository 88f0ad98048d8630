"""Which versions are being written, and what some writes come to.

The rules of stores that many processes share. A version under way has a name of its own,
so that two processes that write the same source do not mix their passages. Only what the
last write of each source leaves is switched to; what came before it in the same call is
as if it had been abandoned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from anabranch.rag.plan import Version
from anabranch.rag.stores.records import Abandon, Add, Remove, Write


@dataclass(frozen=True, slots=True)
class Begun:
    """A version that is being written.

    Attributes:
        version: What it is of.
        name: Its own, never given twice.
        count: Its passages so far.
    """

    version: Version
    name: str
    count: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What some writes come to.

    Attributes:
        adds: Each with its version as it was before.
        switches: What each source will be: a version that is complete, or gone.
        begun: The versions under way when all of it has been done, by source.
    """

    adds: Sequence[tuple[Add, Begun]]
    switches: Mapping[str, Begun | None]
    begun: Mapping[str, Begun]

    def kept(self) -> Iterator[Begun]:
        """The versions of switched sources whose passages stay."""
        for uri, begun in self.switches.items():
            if begun is not None:
                yield begun
            # A source may have been removed and begun again in one write.
            if uri in self.begun:
                yield self.begun[uri]


def plan(
    writes: Sequence[Write], begun: Mapping[str, Begun], new_name: Callable[[], str]
) -> Plan:
    """What the writes come to, with these versions under way."""
    adds: list[tuple[Add, Begun]] = []
    switches: dict[str, Begun | None] = {}
    now = dict(begun)
    for write in writes:
        match write:
            case Add(version=version):
                one = now.get(version.uri)
                if one is None or one.version != version:
                    one = Begun(version, new_name())
                adds.append((write, one))
                now[version.uri] = replace(one, count=one.count + len(write.chunks))
                if write.is_last:
                    switches[version.uri] = now.pop(version.uri)
            case Abandon(uri):
                now.pop(uri, None)
            case Remove(uri):
                now.pop(uri, None)
                switches[uri] = None
    return Plan(adds, switches, now)

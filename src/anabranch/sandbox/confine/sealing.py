"""All that a child does to itself before it takes a request, prepared in its zygote."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from anabranch.sandbox.confine.capabilities import drop_privileges
from anabranch.sandbox.confine.landlock import add_domain, restrict_paths
from anabranch.sandbox.confine.layers import Layer
from anabranch.sandbox.confine.mounts import fresh_scratch
from anabranch.sandbox.confine.rlimits import add_rlimits, count_apart
from anabranch.sandbox.confine.seccomp import add_filter
from anabranch.sandbox.confine.syscalls import (
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    Prepared,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anabranch.sandbox.limits import Grant, Limits

__all__ = ["Seal"]


class Seal:
    """The confinement of children that are alike. It is made in the zygote.

    Args:
        layers: Those that are there.
        grants: What the children see of the host.
        limits: What each of them is given.
        rules: The zygote's :func:`~anabranch.sandbox.confine.landlock.ruleset`, or none:
            a child makes its own where it mounts a scratch, which the rules have to name.
        scratch: Bytes of each child's scratch; 0 for none.
    """

    def __init__(
        self,
        layers: frozenset[Layer],
        grants: Sequence[Grant],
        limits: Limits,
        *,
        rules: int | None,
        scratch: int,
    ) -> None:
        self._layers = layers
        self._grants = grants
        self._scratch = scratch
        self._apart = limits.processes > 1 and Layer.RLIMITS in layers
        self._calls = calls = Prepared()
        calls.add("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
        calls.add("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if rules is not None:
            add_domain(calls, rules)
            calls.add("close", rules)
        if Layer.RLIMITS in layers:
            add_rlimits(calls, limits)
        if Layer.SECCOMP in layers:
            add_filter(calls, processes=limits.processes, files=bool(grants))

    def put_on(self) -> None:
        """Confine this process, a child of the one that made the seal.

        Raises:
            OSError: Something of it failed: then nothing of a stranger may run.
        """
        if self._scratch:
            fresh_scratch(self._scratch)
            restrict_paths(self._grants, self._layers)
            drop_privileges(self._layers)
        if self._apart:
            count_apart(self._layers)
        self._calls.make()

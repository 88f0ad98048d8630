"""A circuit breaker: after so many failures in a row, stop asking for a while.

::

    closed ──(failures in a row)──▶ open ──(cooldown over)──▶ half open
       ▲                              ▲                           │ │
       │                              └─────────(failure)─────────┘ │
       └────────────────────────(success)───────────────────────────┘

Half open lets one call through as a probe. Source: M. Nygard, "Release It!", 2007.
"""

from __future__ import annotations

from anabranch.jobs.check import check_count, check_positive


class Breaker:
    """Refuse calls for ``cooldown`` seconds after ``failures`` transient ones in a row.

    One breaker may serve many calls, and should: it stands for one service. Only
    transient failures count (:func:`anabranch.retry.is_transient`); an item that is wrong
    says nothing about the service.

    Args:
        failures: So many in a row open it.
        cooldown: Seconds for which it stays open.
    """

    def __init__(self, failures: int = 5, cooldown: float = 30.0) -> None:
        check_count("failures", failures)
        check_positive("cooldown", cooldown)
        self._most = failures
        self._cooldown = cooldown
        self._failures = 0
        self._open_until = float("-inf")
        self._probing = False

    @property
    def is_closed(self) -> bool:
        """Whether everything goes through."""
        return self._failures < self._most

    def admit(self, now: float) -> float | None:
        """``None`` if a call may go now, which counts as started; else seconds to wait."""
        if self.is_closed:
            return None
        if now < self._open_until:
            return self._open_until - now
        if self._probing:
            return self._cooldown
        self._probing = True
        return None

    def succeeded(self) -> None:
        """A call that was admitted ended well, or failed for a reason of its own."""
        self._failures = 0
        self._probing = False

    def failed(self, now: float) -> None:
        """A call that was admitted failed for the service's reasons."""
        self._failures += 1
        if not self.is_closed:
            self._probing = False
            self._open_until = now + self._cooldown

    def abandoned(self) -> None:
        """A call that was admitted was cancelled: nothing is known of it."""
        self._probing = False

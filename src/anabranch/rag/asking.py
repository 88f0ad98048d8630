"""What a question may be: rules only, the same for every retriever and store."""

from __future__ import annotations

from operator import index
from typing import Final, SupportsIndex, cast

from anabranch.errors import UsageError
from anabranch.jobs.check import check_count

# Services count in 32 bits, and some reserve memory for what they are asked for. Who wants
# more than this wants all passages, and can have them one by one.
MOST_HITS: Final = 1_000_000


def check_k(name: str, value: object) -> None:
    """Refuse what is no number of passages.

    Raises:
        UsageError: It is no integer from 1 to :data:`MOST_HITS`.
    """
    check_count(name, value)
    if index(cast("SupportsIndex", value)) > MOST_HITS:
        raise UsageError(
            f"{name} must be at most {MOST_HITS}, not {value!r}: a store's passages() "
            "gives all of them, however many"
        )


def check_question(value: object) -> None:
    """Refuse what asks nothing.

    Raises:
        UsageError: It is no text, or a blank one.
    """
    if not isinstance(value, str):
        raise UsageError(f"the question must be a text, not {value!r}")
    if not value.strip():
        raise UsageError("the question is empty: ask something")

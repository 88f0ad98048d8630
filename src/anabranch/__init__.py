"""Fan out, join again, lose nothing: many things at once in RAG and LLM programs.

Each room is a package of its own: :mod:`anabranch.jobs`, :mod:`anabranch.rag`. The names
most programs need are here too, and are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from anabranch.jobs import (
        DEFAULT_NUM_WORKERS,
        Outcome,
        amap,
        astream,
        asyncio_run,
        run_jobs,
    )

__all__ = [
    "DEFAULT_NUM_WORKERS",
    "Outcome",
    "__version__",
    "amap",
    "astream",
    "asyncio_run",
    "run_jobs",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        import anabranch.jobs

        return getattr(anabranch.jobs, name)
    raise AttributeError(f"module 'anabranch' has no attribute {name!r}")

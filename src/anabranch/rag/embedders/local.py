"""The models that run on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias
from weakref import WeakValueDictionary

from anabranch.errors import UsageError
from anabranch.rag.embedders.minilm import MiniLMEmbedder
from anabranch.rag.embedders.static import StaticEmbedder

LocalEmbedder: TypeAlias = MiniLMEmbedder | StaticEmbedder

MODELS: Mapping[str, Callable[[], LocalEmbedder]] = {
    "minilm": MiniLMEmbedder,
    "static": StaticEmbedder,
}
"""The local models by the names the command line uses; the first is the default."""


# A model takes a fraction of a second to load, and up to 400 MB.
_in_use: WeakValueDictionary[str, LocalEmbedder] = WeakValueDictionary()


def local_embedder(name: str) -> LocalEmbedder:
    """A local model, by its short name or by the name that an index stores.

    As long as somebody holds it, it is the same one.

    Raises:
        UsageError: There is no such model.
        ImportError: Its extra is not installed.
        ModelError: Its files are not the pinned ones.
    """
    for short, make in MODELS.items():
        if name in (short, getattr(make, "name", None)):
            embedder = _in_use.get(short)
            if embedder is None:
                embedder = _in_use[short] = make()
            return embedder
    raise UsageError(f"there is no local model {name!r}: choose from {', '.join(MODELS)}")

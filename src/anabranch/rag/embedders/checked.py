"""What every embedder's vectors are held to before they are stored or compared.

One NaN is enough: its product with anything is NaN, and a ranking with NaN in it is no
ranking. So whatever a model gives goes through here first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from anabranch.errors import EmbeddingError
from anabranch.rag.service import shortened
from anabranch.rag.types import Vectors

# By which a length may differ from 1: more than float16 rounds, less than matters.
_TOLERANCE: Final = 1e-3


def unit_vectors(
    rows: object, texts: Sequence[str], *, dimensions: int, of: str
) -> Vectors:
    """The vectors of some texts, of unit length.

    A row that has another length is divided by it; one of unit length stays as it is, to
    the last bit. A blank text may have a row of zeros.

    Args:
        rows: What the model gave: an array, or what numpy can make one of.
        texts: What it was given.
        dimensions: Length of a vector.
        of: Whose they are, such as a model's name.

    Returns:
        Shape ``(len(texts), dimensions)``.

    Raises:
        EmbeddingError: They are not as many as the texts, of another length, no real
            numbers, not finite, or zero.
    """
    found = _real(rows, of)
    if found.shape != (len(texts), dimensions):
        raise EmbeddingError(
            f"{of}: for {len(texts)} texts the model gave numbers of the shape "
            f"{found.shape}, not {(len(texts), dimensions)}: an embedder gives a vector of "
            f"its {dimensions} dimensions for each text"
        )
    # In double precision no finite number overflows.
    lengths = np.sqrt(np.einsum("ij,ij->i", found, found, dtype=np.float64))
    is_usable = np.isfinite(lengths) & (lengths > 0)
    for row in np.flatnonzero(~is_usable).tolist():
        if lengths[row] != 0:
            what = "has a NaN or an infinite number in it, and can be compared with none"
        elif texts[row].strip():
            what = "is all zeros, and as near to one text as to any other"
        else:
            continue
        raise EmbeddingError(
            f"{of}: the vector of the text {shortened(texts[row])!r} {what}: look at the "
            "model"
        )
    is_off = is_usable & (np.abs(lengths - 1) > _TOLERANCE)
    if is_off.any():
        found = found.copy()  # it may be the model's own
        found[is_off] = found[is_off] / lengths[is_off, None]
    return found


def _real(rows: object, of: str) -> Vectors:
    """What was given as numbers; those too large for their type are infinite."""
    try:
        found = np.asarray(rows)
        if found.dtype.kind in "fiu":
            with np.errstate(over="ignore"):
                numbers: Vectors = found.astype(np.float32, copy=False)
            return numbers
        what = f"values of the type {found.dtype}"
    except Exception as error:  # of whichever library the rows are from
        what = f"what are no vectors ({type(error).__name__}: {error})"
    raise EmbeddingError(f"{of}: the model gave {what}, not real numbers")

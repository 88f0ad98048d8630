"""A value copied as if it had gone over the wire, without the bytes."""

from __future__ import annotations

from typing import Any

from anabranch.sandbox.wire.decoding import Decoder
from anabranch.sandbox.wire.encoding import (
    LEAVES,
    MAX_DEPTH,
    MAX_ITEMS,
    Encoder,
    TooDeep,
    is_plain,
    refusal_of,
)
from anabranch.sandbox.wire.refusal import Refused

__all__ = ["copied"]

_LIST = {list}


def copied(
    value: Any,
    *,
    max_bytes: int = 2**40,
    max_depth: int = MAX_DEPTH,
    max_items: int = MAX_ITEMS,
) -> Any:
    """What ``decode(encode(value))`` gives: a plain value that shares no state with it.

    Arrays and tables of the copy can be written to. See
    :func:`~anabranch.sandbox.wire.encode` for what is plain.

    Args:
        value: What to copy.
        max_bytes: How large its arrays, tables and long bytes may be together.
        max_depth: How many containers may be inside each other.
        max_items: How many values there may be in all containers together.

    Raises:
        ValueRefused: If it is not plain, is cyclic, or is too large.
    """
    if type(value) in LEAVES:
        return value
    try:
        if is_plain(value, max_depth, max_items):
            return _plain(value)
        encoder = Encoder(LEAVES, max_bytes, max_depth, max_items)
        tree = encoder.tree(value)
        buffers = [bytearray().join(parts) for parts in encoder.parts]
        return Decoder(buffers, max_depth, max_items).value(tree)
    except TooDeep as refused:
        raise refusal_of(value, refused).public() from None
    except Refused as refused:
        raise refused.public() from None
    except RecursionError:
        raise Refused("its containers lie too deep: pass it in parts").public() from None


def _plain(value: Any) -> Any:
    is_list = type(value) in _LIST
    if set(map(type, value if is_list else value.values())) <= LEAVES:
        return value.copy()
    if is_list:
        return [item if type(item) in LEAVES else _plain(item) for item in value]
    return {
        key: item if type(item) in LEAVES else _plain(item) for key, item in value.items()
    }

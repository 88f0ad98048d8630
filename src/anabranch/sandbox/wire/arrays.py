"""numpy's arrays and scalars: a type from a short list, a shape, and the memory itself."""

from __future__ import annotations

import binascii
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from anabranch.sandbox.wire.decoding import whole
from anabranch.sandbox.wire.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from anabranch.sandbox.wire.decoding import Decoder
    from anabranch.sandbox.wire.encoding import Encoder

__all__ = ["READERS", "flat", "named", "view", "writer_for"]

# Numbers of a size that is the same everywhere, dates, and text of a fixed width. Nothing
# that holds pointers, and nothing of no bytes: it could be claimed any number of times.
_NAMES = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(8|16)"
    r"|\|S[1-9][0-9]{0,8}|[<>]U[1-9][0-9]{0,8}"
    r"|[<>][mM]8(\[[0-9]{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)


def named(dtype: Any) -> str:
    """The name of a type that travels; Refused for others."""
    name = str(dtype.str)
    if type(dtype).__module__ != "numpy.dtypes" or not _NAMES.fullmatch(name):
        raise Refused(
            f"an array of {dtype} has no form that goes in or out: pass one of numbers, "
            "dates or fixed-width text, such as value.astype('float64'), or value.tolist()"
        )
    return name


def _dtype(name: Any) -> Any:
    if type(name) is not str or not _NAMES.fullmatch(name):
        raise Refused("it has an array of a type that is not on the list")
    return np.dtype(name)


def flat(array: Any) -> memoryview | bytes:
    """The bytes of an array: its own memory where that lies in one piece, else a copy."""
    if not array.size:
        return b""
    piece: memoryview = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return piece


def view(decoder: Decoder, name: Any, shape: tuple[int, ...], order: Any, at: Any) -> Any:
    """An array over a buffer, whose size must be exactly what is claimed."""
    dtype = _dtype(name)
    buffer = decoder.buffer(at)
    if order not in {"C", "F"} or min(shape, default=0) < 0:
        raise Refused("it has an array of no possible shape")
    if math.prod(shape) * dtype.itemsize != buffer.nbytes:
        raise Refused("it has an array that is not as large as its buffer")
    if not buffer.nbytes and max(shape, default=0) > decoder.max_items:
        # Nothing times a lot is nothing; a list of all those nothings is not.
        raise Refused("it has an array of too many rows of nothing")
    array: Any = np.ndarray(shape, dtype, buffer=buffer, order=order)
    _look_at(dtype, buffer)
    return array


def _look_at(dtype: Any, data: memoryview | bytes) -> None:
    """Refuses what numpy trusts to be impossible: its own loops rely on it."""
    if dtype.kind == "b" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise Refused("it has a truth value that is neither true nor false")
    if dtype.kind == "U":
        letters = np.frombuffer(data, f"{dtype.str[0]}u4")
        if letters.max(initial=0) > 0x10FFFF:
            raise Refused("it has a letter that is not in Unicode")


def _array(encoder: Encoder, value: Any) -> Any:
    shape = list(value.shape)
    if value.dtype.kind == "O" and not value.dtype.names:
        items = value.reshape(-1).tolist()
        return {"$objects": [shape, encoder.each(items, len(items), lambda at: f"[{at}]")]}
    name = named(value.dtype)
    if value.flags.f_contiguous and not value.flags.c_contiguous:
        return {"$array": [name, shape, "F", encoder.buffer(flat(value.T))]}
    return {"$array": [name, shape, "C", encoder.buffer(flat(value))]}


def _read_array(decoder: Decoder, payload: Any) -> Any:
    name, shape, order, at = whole(payload, str, list, str, int)
    return view(decoder, name, tuple(whole(shape, *[int] * len(shape))), order, at)


def _read_objects(decoder: Decoder, payload: Any) -> Any:
    shape, nodes = whole(payload, list, list)
    whole(shape, *[int] * len(shape))
    items = decoder.items(nodes)
    sizes_match = min(shape, default=0) >= 0 and math.prod(shape) == len(items)
    if not sizes_match or max(shape, default=0) > decoder.max_items:
        raise Refused("it has an array that is not as large as its list")
    array: Any = np.empty(len(items), dtype=object)
    # Item by item: numpy would take a list of lists for more dimensions.
    for index, item in enumerate(items):
        array[index] = item
    return array.reshape(shape)


def _scalar(encoder: Encoder, value: Any) -> Any:
    if type(value) is np.str_:
        return {"$scalar": ["U", str(value)]}
    if type(value) is np.bytes_:
        return {"$scalar": ["S", _text(bytes(value))]}
    return {"$scalar": [named(value.dtype), _text(value.tobytes())]}


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _read_scalar(decoder: Decoder, payload: Any) -> Any:
    name, text = whole(payload, str, str)
    if name == "U":
        return np.str_(text)
    data = binascii.a2b_base64(text)
    if name == "S":
        return np.bytes_(data)
    dtype = _dtype(name)
    if dtype.kind in "SU" or len(data) != dtype.itemsize:
        raise Refused("it has a number that is not as large as its type")
    _look_at(dtype, data)
    return np.frombuffer(data, dtype)[0]


def writer_for(kind: type) -> Callable[[Encoder, Any], Any] | None:
    if kind is np.ndarray:
        return _array
    # All of numpy's own, but for records and what wraps an object.
    if issubclass(kind, np.generic) and not issubclass(kind, (np.void, np.object_)):
        return _scalar
    return None


READERS: dict[str, Callable[[Decoder, Any], Any]] = {
    "$array": _read_array,
    "$objects": _read_objects,
    "$scalar": _read_scalar,
}

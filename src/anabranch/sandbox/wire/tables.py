"""pandas' tables, series, indexes and scalars.

Columns of numbers and dates travel as their memory, those of one type side by side, so that
a table of one type is one block again and nothing is copied. Text of some length travels as
Arrow keeps it (a bitmap, offsets and UTF-8) and is validated in full by Arrow before pandas
sees it. Arrow's IPC messages are not used: their schema, metadata and extension types would
have to be parsed, and then refused; here our header names the few types there are. Columns
of objects travel value by value.

Not kept: the ``freq`` of an index of dates, and flags. Refused: periods, intervals, sparse
and Arrow-typed columns, and subclasses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from anabranch.sandbox.wire.arrays import flat, named, view
from anabranch.sandbox.wire.decoding import parts, whole
from anabranch.sandbox.wire.refusal import Refused, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from anabranch.sandbox.wire.decoding import Decoder
    from anabranch.sandbox.wire.encoding import Encoder

__all__ = ["READERS", "writer_for"]

# pandas is typed by stubs that know neither the type of a column nor all that is public.
_pd: Any = pd
_ndarray: Any = np.ndarray
_ExtensionArray: Any = _pd.api.extensions.ExtensionArray

_SHORT = 1000  # texts: fewer go faster as a list
_UNITS = {"s", "ms", "us", "ns"}
_MASKED: dict[str, Any] = {
    **{f"{s}Int{b}": _pd.arrays.IntegerArray for s in ("", "U") for b in (8, 16, 32, 64)},
    **{f"Float{b}": _pd.arrays.FloatingArray for b in (32, 64)},
    "boolean": _pd.arrays.BooleanArray,
}


# ------------------------------------------------------------------------------ columns


def _column(encoder: Encoder, values: Any) -> Any:
    """A column, an index or an array of pandas, by its type."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return encoder.tree(np.asarray(values))
    if isinstance(dtype, _pd.StringDtype):
        return _text(encoder, values)
    if isinstance(dtype, _pd.DatetimeTZDtype):
        naive = _pd.DatetimeIndex(values).tz_convert(None).to_numpy()
        return {"$zoned": [encoder.tree(naive), _tz(encoder, dtype.tz)]}
    if isinstance(dtype, _pd.CategoricalDtype):
        array = _pd.Categorical(values)
        codes = encoder.tree(np.asarray(array.codes))
        return {"$categorical": [codes, encoder.tree(array.categories), array.ordered]}
    if str(dtype) in _MASKED and type(dtype).__module__.partition(".")[0] == "pandas":
        mask = np.asarray(values.isna())
        numbers = values.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
        return {"$masked": [str(dtype), encoder.tree(numbers), encoder.tree(mask)]}
    raise Refused(
        f"a column of {dtype} has no form that goes in or out: pass value.astype(str), or "
        "value.convert_dtypes(dtype_backend='numpy_nullable')"
    )


def _read_column(decoder: Decoder, node: Any) -> Any:
    values = decoder.value(node)
    one_row = isinstance(values, _ndarray) and values.ndim == 1
    if not one_row and not isinstance(values, _ExtensionArray):
        raise Refused("it has no column where one belongs")
    return values


def _read_numbers(decoder: Decoder, node: Any, kinds: str) -> Any:
    values = _read_column(decoder, node)
    if not isinstance(values, _ndarray) or values.dtype.kind not in kinds:
        raise Refused("it has a column of another type than it says")
    return values


def _tz(encoder: Encoder, tz: Any) -> Any:
    # Older versions of pandas make zones of pytz; they arrive as those of zoneinfo.
    key = getattr(tz, "zone", None)
    if type(tz).__module__.partition(".")[0] == "pytz" and isinstance(key, str):
        return {"$zone": key}
    return encoder.tree(tz)


def _read_tz(decoder: Decoder, node: Any) -> Any:
    tz = decoder.value(node)
    if type(tz).__name__ not in {"timezone", "ZoneInfo"}:
        raise Refused("its time zone is none")
    return tz


def _read_zoned(decoder: Decoder, payload: Any) -> Any:
    naive, zone = whole(payload, dict, dict)
    index = _pd.DatetimeIndex(_read_numbers(decoder, naive, "M"), copy=False)
    return index.tz_localize("UTC").tz_convert(_read_tz(decoder, zone)).array


def _read_categorical(decoder: Decoder, payload: Any) -> Any:
    codes, categories, ordered = whole(payload, dict, dict, bool)
    return _pd.Categorical.from_codes(
        _read_numbers(decoder, codes, "i"),
        categories=_read_labels(decoder, categories),
        ordered=ordered,
    )


def _read_masked(decoder: Decoder, payload: Any) -> Any:
    name, numbers, mask = whole(payload, str, dict, dict)
    if name not in _MASKED:
        raise Refused("it has a column of a type that is not on the list")
    values = _read_numbers(decoder, numbers, "biuf")
    if values.dtype != _pd.api.types.pandas_dtype(name).numpy_dtype:
        raise Refused("it has a column of another type than it says")
    missing = _read_numbers(decoder, mask, "b")
    if len(missing) != len(values):
        raise Refused("it has a column that is not as long as its mask")
    return _MASKED[name](values, missing)


def _pyarrow() -> Any:
    """Imported when text is met: pandas does without it where there is little."""
    return import_module("pyarrow")


def _text(encoder: Encoder, values: Any) -> Any:
    dtype = values.dtype
    missing = "NA" if dtype.na_value is _pd.NA else "nan"
    array = values if isinstance(values, _ExtensionArray) else values.array
    if dtype.storage != "pyarrow" or len(array) < _SHORT:
        texts = array.to_numpy(dtype=object, na_value=None).tolist()
        nodes = encoder.each(texts, len(texts), lambda at: f"[{at}]")
        return {"$texts": [dtype.storage, missing, nodes]}
    pa = _pyarrow()
    arrow = array.__arrow_array__(type=pa.large_string())
    if isinstance(arrow, pa.ChunkedArray):
        # Combining copies even a single one.
        arrow = arrow.chunk(0) if arrow.num_chunks == 1 else arrow.combine_chunks()
    # A slice of a column has the memory of all of it: take what belongs to it.
    count, first = len(arrow), arrow.offset
    _, ends, letters = arrow.buffers()
    offsets = np.frombuffer(ends, np.int64)[first : first + count + 1]
    start, stop = int(offsets[0]), int(offsets[-1])
    there = None
    if arrow.null_count:
        valid = np.asarray(arrow.is_valid())
        there = encoder.buffer(flat(np.packbits(valid, bitorder="little")))
    at = encoder.buffer(flat(offsets - start if start else offsets))
    piece = memoryview(letters)[start:stop].cast("B") if stop > start else b""
    return {"$text": [missing, count, there, at, encoder.buffer(piece)]}


def _string_dtype(storage: Any, missing: Any) -> Any:
    if storage not in {"python", "pyarrow"} or missing not in {"nan", "NA"}:
        raise Refused("it has text of a type that is not on the list")
    if missing == "NA":
        return _pd.StringDtype(storage)
    return _pd.StringDtype(storage, na_value=np.nan)


def _read_texts(decoder: Decoder, payload: Any) -> Any:
    storage, missing, texts = whole(payload, str, str, list)
    dtype = _string_dtype(storage, missing)
    if not set(map(type, texts)) <= {str, type(None)}:
        raise Refused("it has text that is none")
    return _pd.array(np.array(texts, dtype=object), dtype=dtype)


def _read_text(decoder: Decoder, payload: Any) -> Any:
    pa = _pyarrow()
    missing, count, there, at, letters = parts(payload, 5)
    dtype = _string_dtype("pyarrow", missing)
    offsets = decoder.buffer(at)
    if type(count) is not int or count < 0 or offsets.nbytes != 8 * (count + 1):
        raise Refused("it has text that is not as long as it says")
    valid = None
    if there is not None:
        bits = decoder.buffer(there)
        if bits.nbytes != (count + 7) // 8:
            raise Refused("it has text that is not as long as it says")
        valid = pa.py_buffer(bits)
    # Arrow reads offsets as numbers, so they must lie where numbers may.
    ends = np.frombuffer(offsets, np.int64)
    ends = ends if ends.flags.aligned else ends.copy()
    letters = pa.py_buffer(decoder.buffer(letters))
    buffers = [valid, pa.py_buffer(ends), letters]
    arrow = pa.Array.from_buffers(pa.large_string(), count, buffers)
    arrow.validate(full=True)
    return dtype.__from_arrow__(arrow)


# ------------------------------------------------------------------------------ indexes


def _index(encoder: Encoder, index: Any) -> Any:
    name = encoder.tree(index.name)
    try:
        return {"$index": [_column(encoder, index), name]}
    except Refused as refused:
        raise refused.at(".array") from None


def _read_plain_index(decoder: Decoder, payload: Any) -> Any:
    node, name = parts(payload, 2)
    values = _read_column(decoder, node)
    is_object = isinstance(values, _ndarray) and values.dtype.kind == "O"
    dtype = object if is_object else None
    label = decoder.value(name)
    return _pd.Index(values, dtype=dtype, name=label, tupleize_cols=False, copy=False)


def _range_index(encoder: Encoder, index: Any) -> Any:
    return {
        "$range_index": [[index.start, index.stop, index.step], encoder.tree(index.name)]
    }


def _read_range_index(decoder: Decoder, payload: Any) -> Any:
    numbers, name = parts(payload, 2)
    ends = whole(numbers, int, int, int)
    if max(abs(end) for end in ends) > 2**62:
        raise Refused("it counts further than an index can")
    return _pd.RangeIndex(range(*ends), name=decoder.value(name))


def _multi_index(encoder: Encoder, index: Any) -> Any:
    levels = [encoder.tree(level.rename(None)) for level in index.levels]
    codes = [encoder.tree(np.asarray(code)) for code in index.codes]
    return {"$multi_index": [levels, codes, [encoder.tree(name) for name in index.names]]}


def _read_multi_index(decoder: Decoder, payload: Any) -> Any:
    levels, codes, names = whole(payload, list, list, list)
    return _pd.MultiIndex(
        levels=[_read_labels(decoder, level) for level in levels],
        codes=[_read_numbers(decoder, code, "i") for code in codes],
        names=[decoder.value(name) for name in names],
    )


def _read_labels(decoder: Decoder, node: Any) -> Any:
    """An index that pandas will look at for repeated labels.

    Unless each is larger than the one before it hashes them, and numbers not with a secret:
    chosen ones take time in the square of their count.
    """
    index = _read_index(decoder, node)
    if isinstance(index, _pd.RangeIndex):
        _look_at_length(decoder, index, has_data=False)
    elif index.is_monotonic_increasing:
        if (index[1:] == index[:-1]).any():
            raise Refused("it has labels that are repeated")
    elif set(map(type, index.array)) != {str}:
        decoder.unordered(len(index))
    return index


def _read_index(decoder: Decoder, node: Any) -> Any:
    index = decoder.value(node)
    if not isinstance(index, _pd.Index):
        raise Refused("it has no index where one belongs")
    return index


# ------------------------------------------------------------------- series and tables


def _series(encoder: Encoder, series: Any) -> Any:
    place = "[:]"
    try:
        column = _column(encoder, series)
        place = ".name"
        name = encoder.tree(series.name)
        place = ".index"
        index = encoder.tree(series.index)
        place = ".attrs"
        attrs = encoder.tree(series.attrs)
    except Refused as refused:
        raise refused.at(place) from None
    return {"$series": [column, index, name, attrs]}


def _read_series(decoder: Decoder, payload: Any) -> Any:
    node, index_node, name, attrs = parts(payload, 4)
    values, index = _read_column(decoder, node), _read_index(decoder, index_node)
    if len(values) != len(index):
        raise Refused("it has a series that is not as long as its index")
    dtype = values.dtype
    series = _pd.Series(
        values, index=index, dtype=dtype, name=decoder.value(name), copy=False
    )
    _set_attrs(decoder, series, attrs)
    return series


def _set_attrs(decoder: Decoder, table: Any, node: Any) -> None:
    attrs = decoder.value(node)
    if type(attrs) is not dict:
        raise Refused("its attrs are no dict").at(".attrs")
    if attrs:
        table.attrs = attrs


def _frame(encoder: Encoder, frame: Any) -> Any:
    alike: dict[str, tuple[list[int], list[Any]]] = {}
    others: list[Any] = []
    for at, (label, series) in enumerate(frame.items()):
        dtype = series.dtype
        if isinstance(dtype, np.dtype) and dtype.kind in "biufcmM":
            places, pieces = alike.setdefault(named(dtype), ([], []))
            places.append(at)
            pieces.append(flat(series.to_numpy()))
            continue
        try:
            others.append([at, _column(encoder, series)])
        except Refused as refused:
            raise refused.at(f"[{shown(label)}]") from None
    blocks = [
        [name, places, encoder.buffer(*pieces)] for name, (places, pieces) in alike.items()
    ]
    place = ".index"
    try:
        index = encoder.tree(frame.index)
        place = ".columns"
        columns = encoder.tree(frame.columns)
        place = ".attrs"
        attrs = encoder.tree(frame.attrs)
    except Refused as refused:
        raise refused.at(place) from None
    return {"$frame": [[blocks, others], index, columns, attrs]}


def _read_frame(decoder: Decoder, payload: Any) -> Any:
    data, index_node, columns_node, attrs = parts(payload, 4)
    blocks, others = whole(data, list, list)
    index = _read_index(decoder, index_node)
    columns = _read_index(decoder, columns_node)
    _look_at_length(decoder, index, has_data=bool(len(columns)))
    _look_at_length(decoder, columns, has_data=False)
    found: dict[int, Any] = {}
    whole_block: Any = None
    for block in blocks:
        name, places, at = whole(block, str, list, int)
        array = view(decoder, name, (len(places), len(index)), "C", at)
        if array.dtype.kind not in "biufcmM":
            raise Refused("it has a block of a type that is not on the list")
        if len(places) == len(columns) and places == list(range(len(columns))):
            whole_block = array
        found.update(zip(whole(places, *[int] * len(places)), array, strict=True))
    for place, node in [parts(other, 2) for other in others]:
        found[place] = _read_column(decoder, node)
        if len(found[place]) != len(index):
            raise Refused("it has a column that is not as long as its index")
    if len(found) != len(columns) or set(found) != set(range(len(columns))):
        raise Refused("it has not the columns that it names")
    if whole_block is not None and len(columns):
        frame = _pd.DataFrame(whole_block.T, index=index, copy=False)
    else:
        # No copies, and no guesses: each column keeps the type it has.
        ordered = {
            at: _pd.Series(found[at], index=index, dtype=found[at].dtype, copy=False)
            for at in range(len(columns))
        }
        frame = _pd.DataFrame(ordered, index=index, copy=False)
    frame.columns = columns
    _set_attrs(decoder, frame, attrs)
    return frame


def _look_at_length(decoder: Decoder, index: Any, *, has_data: bool) -> None:
    """A range has no bytes: a table may not be longer than allowed on its word alone."""
    if not has_data and len(index) > decoder.max_items:
        raise Refused("it has more rows or columns than are allowed, and no data for them")


# ------------------------------------------------------------------------------ scalars


def _timestamp(encoder: Encoder, value: Any) -> Any:
    count = int(value.to_datetime64().view("i8"))
    tz = None if value.tz is None else _tz(encoder, value.tz)
    return {"$timestamp": [count, value.unit, tz]}


def _read_timestamp(decoder: Decoder, payload: Any) -> Any:
    count, unit, zone = parts(payload, 3)
    whole([count, unit], int, str)
    if unit not in _UNITS:
        raise Refused("it counts in a unit that is not on the list")
    value = _pd.Timestamp(np.datetime64(count, unit))
    if value is _pd.NaT:
        raise Refused("it is a missing date, which has a tag of its own")
    if zone is None:
        return value
    return value.tz_localize("UTC").tz_convert(_read_tz(decoder, zone))


def _timedelta(encoder: Encoder, value: Any) -> Any:
    return {"$pd_timedelta": [int(value.to_timedelta64().view("i8")), value.unit]}


def _read_timedelta(decoder: Decoder, payload: Any) -> Any:
    count, unit = whole(payload, int, str)
    if unit not in _UNITS:
        raise Refused("it counts in a unit that is not on the list")
    return _pd.Timedelta(np.timedelta64(count, unit))


def _missing(encoder: Encoder, value: Any) -> Any:
    return {"$missing": "NA" if value is _pd.NA else "NaT"}


def _read_missing(decoder: Decoder, payload: Any) -> Any:
    return {"NA": _pd.NA, "NaT": _pd.NaT}[payload]


_WRITERS: dict[type, Callable[[Encoder, Any], Any]] = {
    _pd.DataFrame: _frame,
    _pd.Series: _series,
    _pd.Index: _index,
    _pd.DatetimeIndex: _index,
    _pd.TimedeltaIndex: _index,
    _pd.CategoricalIndex: _index,
    _pd.RangeIndex: _range_index,
    _pd.MultiIndex: _multi_index,
    _pd.Categorical: _column,
    _pd.Timestamp: _timestamp,
    _pd.Timedelta: _timedelta,
    type(_pd.NaT): _missing,
    type(_pd.NA): _missing,
    _pd.arrays.IntegerArray: _column,
    _pd.arrays.FloatingArray: _column,
    _pd.arrays.BooleanArray: _column,
    _pd.arrays.StringArray: _column,
    _pd.arrays.ArrowStringArray: _column,
}

READERS: dict[str, Callable[[Decoder, Any], Any]] = {
    "$frame": _read_frame,
    "$series": _read_series,
    "$index": _read_plain_index,
    "$range_index": _read_range_index,
    "$multi_index": _read_multi_index,
    "$text": _read_text,
    "$texts": _read_texts,
    "$masked": _read_masked,
    "$zoned": _read_zoned,
    "$categorical": _read_categorical,
    "$timestamp": _read_timestamp,
    "$pd_timedelta": _read_timedelta,
    "$missing": _read_missing,
}


def writer_for(kind: type) -> Callable[[Encoder, Any], Any] | None:
    writer = _WRITERS.get(kind)
    if writer is None and issubclass(kind, _ExtensionArray):
        return _column  # a zoned column's array, and those it refuses with a sentence
    return writer

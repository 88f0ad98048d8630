"""Dates, times, exact numbers and identifiers of the standard library."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from anabranch.sandbox.wire.decoding import parts, whole
from anabranch.sandbox.wire.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from anabranch.sandbox.wire.decoding import Decoder
    from anabranch.sandbox.wire.encoding import Encoder

__all__ = ["READERS", "writer_for", "zone"]

# Larger ones are harmless to hold and deadly to convert: `int(Decimal("1e999999999"))`.
_MAX_EXPONENT = 100_000
# Reducing a fraction takes time in the square of its digits.
_MAX_FRACTION_BITS = 16_384
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}")


def _date(encoder: Encoder, value: date) -> Any:
    return {"$date": [value.year, value.month, value.day]}


def _read_date(decoder: Decoder, payload: Any) -> Any:
    return date(*whole(payload, int, int, int))


def _clock(encoder: Encoder, value: time | datetime) -> list[Any]:
    numbers = [value.hour, value.minute, value.second, value.microsecond, value.fold]
    return [numbers, _tz(encoder, value.tzinfo)]


def _tz(encoder: Encoder, tz: Any) -> Any:
    try:
        return encoder.tree(tz)
    except Refused as refused:
        refused.reason = (
            f"its time zone is a {type(tz).__module__}.{type(tz).__qualname__}: pass one "
            "with a zoneinfo.ZoneInfo or a datetime.timezone"
        )
        raise refused.at(".tzinfo") from None


def _time(encoder: Encoder, value: time) -> Any:
    return {"$time": _clock(encoder, value)}


def _read_time(decoder: Decoder, payload: Any) -> Any:
    numbers, tz = _parts(decoder, payload, 5)
    hour, minute, second, us, fold = numbers
    return time(hour, minute, second, us, tz, fold=fold)


def _datetime(encoder: Encoder, value: datetime) -> Any:
    numbers, tz = _clock(encoder, value)
    return {"$datetime": [[value.year, value.month, value.day, *numbers], tz]}


def _read_datetime(decoder: Decoder, payload: Any) -> Any:
    numbers, tz = _parts(decoder, payload, 8)
    year, month, day, hour, minute, second, us, fold = numbers
    return datetime(year, month, day, hour, minute, second, us, tz, fold=fold)


def _parts(decoder: Decoder, payload: Any, count: int) -> tuple[list[int], Any]:
    clock, node = parts(payload, 2)
    numbers = whole(clock, *[int] * count)
    tz = None if node is None else decoder.value(node)
    if tz is not None and type(tz) not in {timezone, ZoneInfo}:
        raise Refused("its time zone is none").at(".tzinfo")
    return numbers, tz


def _timedelta(encoder: Encoder, value: timedelta) -> Any:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _read_timedelta(decoder: Decoder, payload: Any) -> Any:
    return timedelta(*whole(payload, int, int, int))


def _timezone(encoder: Encoder, value: timezone) -> Any:
    # What copy and pickle go by: an offset, and a name if one was given.
    initial: Any = value
    offset, *name = initial.__getinitargs__()
    return {"$timezone": [encoder.tree(offset), *name]}


def _read_timezone(decoder: Decoder, payload: Any) -> Any:
    node, *name = parts(payload)
    return timezone(*whole([decoder.value(node), *name], timedelta, *[str] * len(name)))


def _zone(encoder: Encoder, value: ZoneInfo) -> Any:
    key: Any = value.key  # None for one that was read from a file
    if key is None or not _ZONE.fullmatch(key):
        raise Refused("this ZoneInfo has no key by which it could be found again")
    return {"$zone": key}


def zone(key: Any) -> ZoneInfo:
    """The zone of this name; Refused if there is none or the name is a path elsewhere."""
    if type(key) is not str or len(key) > 64 or not _ZONE.fullmatch(key):
        raise Refused("it names a time zone by what is not a name")
    try:
        return ZoneInfo(key)
    except (LookupError, OSError, ValueError):
        raise Refused(
            f"the time zone {key!r} is not known here: pip install tzdata, or pass UTC"
        ) from None


def _read_zone(decoder: Decoder, payload: Any) -> Any:
    return zone(payload)


def _decimal(encoder: Encoder, value: Decimal) -> Any:
    _look_at(value)
    return {"$decimal": str(value)}


def _read_decimal(decoder: Decoder, payload: Any) -> Any:
    (text,) = whole([payload], str)
    return _look_at(Decimal(text))


def _look_at(value: Decimal) -> Decimal:
    if value.is_finite() and abs(value.adjusted()) > _MAX_EXPONENT:
        raise Refused(
            f"this Decimal has an exponent over {_MAX_EXPONENT}: pass it as text, or scaled"
        )
    return value


def _fraction(encoder: Encoder, value: Fraction) -> Any:
    _look_at_size(value.numerator, value.denominator)
    return {"$fraction": [encoder.tree(value.numerator), encoder.tree(value.denominator)]}


def _read_fraction(decoder: Decoder, payload: Any) -> Any:
    numerator, denominator = whole(decoder.items(payload), int, int)
    _look_at_size(numerator, denominator)
    return Fraction(numerator, denominator)


def _look_at_size(*numbers: int) -> None:
    if max(number.bit_length() for number in numbers) > _MAX_FRACTION_BITS:
        raise Refused(
            f"this Fraction has more than {_MAX_FRACTION_BITS} bits: pass its numerator "
            "and denominator"
        )


def _uuid(encoder: Encoder, value: UUID) -> Any:
    return {"$uuid": value.hex}


def _read_uuid(decoder: Decoder, payload: Any) -> Any:
    (digits,) = whole([payload], str)
    if len(digits) != 32:
        raise Refused("a UUID has 32 digits")
    return UUID(int=int(digits, 16))


_WRITERS: dict[type, Callable[[Encoder, Any], Any]] = {
    date: _date,
    time: _time,
    datetime: _datetime,
    timedelta: _timedelta,
    timezone: _timezone,
    ZoneInfo: _zone,
    Decimal: _decimal,
    Fraction: _fraction,
    UUID: _uuid,
}

writer_for = _WRITERS.get

READERS: dict[str, Callable[[Decoder, Any], Any]] = {
    "$date": _read_date,
    "$time": _read_time,
    "$datetime": _read_datetime,
    "$timedelta": _read_timedelta,
    "$timezone": _read_timezone,
    "$zone": _read_zone,
    "$decimal": _read_decimal,
    "$fraction": _read_fraction,
    "$uuid": _read_uuid,
}

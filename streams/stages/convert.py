"""
Convert: a source value, in the form Debezium gives it, to the Avro type of a field.

One explicit table: (family of the column's type, kind of the Avro type) -> function. What is not in the
table is refused when the mapping is checked; a value that does not fit its type is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from streams.stages import source_types
from streams.stages.plain_decimal import is_plain
from streams.stages.source_types import days, exactly, instant, representable

Convert = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
#: What decimal(38,10) holds.
_SCALE, INTEGER_DIGITS = 10, 28
#: Decimals are computed in this context: the default one rounds at 28 digits without a word.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])
_PLACES = Decimal((0, (1,), -_SCALE))


def family(column_type: str) -> str | None:
    """Give the family of a column's type as the catalog spells it; None where no field can be made of it."""
    found = source_types.family(column_type)
    return None if found is None else found.name


def avro_kind(avro_type: Any) -> str:
    """Give the kind of an Avro type: its logical type, record name or plain type; optional types without null."""
    if isinstance(avro_type, list):
        return avro_kind(next(each for each in avro_type if each != "null"))
    if not isinstance(avro_type, dict):
        return str(avro_type).rpartition(".")[2]
    if avro_type["type"] == "record":
        return str(avro_type["name"]).rpartition(".")[2]
    return str(avro_type.get("logicalType") or avro_type["type"])


def optional(avro_type: Any) -> bool:
    """Tell whether null is a value of the type."""
    return isinstance(avro_type, list) and "null" in avro_type


def convertible(column_type: str, avro_type: Any) -> bool:
    """Tell whether a column of this type can become a field of this Avro type."""
    return (family(column_type), avro_kind(avro_type)) in CONVERSIONS


def converter(column_type: str, avro_type: Any) -> Convert:
    """Give the conversion; raise KeyError where there is none. It raises ValueError on a value that does not fit."""
    return CONVERSIONS[family(column_type) or "", avro_kind(avro_type)]


def to_decimal(value: Any) -> Decimal:
    """Give an exact decimal(38,10); raise ValueError on NaN, infinity, and what needs more digits."""
    if type(value) is str and is_plain(value):
        return Decimal(value)
    if type(value) not in (str, int, float):
        raise ValueError(f"a {type(value).__name__}, expected a number")
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation as error:
        raise ValueError("not a number") from error
    if not number.is_finite():
        raise ValueError("NaN or infinity")
    if number.adjusted() >= INTEGER_DIGITS:
        raise ValueError("more than 28 integer digits")
    if number.as_tuple().exponent >= -_SCALE:  # type: ignore[operator]
        return number
    try:
        return number.quantize(_PLACES, context=EXACT)
    except Inexact as error:
        raise ValueError("more than 10 decimal places") from error


def _to_boolean(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError("not a boolean")


def _text_to_days(value: Any) -> int:
    return date.fromisoformat(value).toordinal() - _EPOCH_DAY


def _timestamp_text(value: Any) -> str:
    """Spell a zone-less timestamp, which comes as microseconds 'as if UTC', the way the source shows it."""
    if type(value) is not int:
        raise ValueError(f"a {type(value).__name__}, expected int")
    return _spelled(value)


@lru_cache(maxsize=4096)  # dates without a time of day are few
def _spelled(micros: int) -> str:
    return (
        (_EPOCH + timedelta(microseconds=representable(micros))).replace(tzinfo=None).isoformat(" ")
    )


_int, _text = exactly(int), exactly(str)

#: (family, Avro kind) -> conversion. `local` is the text form of a time without zone, for LocalTime.
CONVERSIONS: dict[tuple[str | None, str], Convert] = {
    ("text", "string"): _text,
    ("text", "enum"): _text,
    ("text", "date"): _text_to_days,
    ("text", "local"): _text,
    ("int", "int"): _int,
    ("int", "long"): _int,
    ("int", "string"): lambda value: str(_int(value)),
    ("int", "decimal"): lambda value: Decimal(_int(value)),
    ("int", "boolean"): _to_boolean,
    ("json", "string"): _text,
    ("interval", "string"): _text,
    ("boolean", "boolean"): _to_boolean,
    ("decimal", "decimal"): to_decimal,
    ("float", "decimal"): to_decimal,
    ("date", "date"): days,
    ("timestamp", "local"): _timestamp_text,
    ("timestamptz", "timestamp-micros"): instant,
}


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """Give a time zone by its IANA name."""
    return ZoneInfo(name)


def local_time(text: str, zone_name: str) -> dict[str, Any]:
    """
    Make a LocalTime: the instant in UTC microseconds, and the source's own text.

    Raise ValueError where the text is no date and time, brings a zone of its own, or lies outside the years
    1 to 9999 in UTC.
    """
    return {"at": _instant_there(text, zone_name), "text": text}


@lru_cache(maxsize=4096)
def _instant_there(text: str, zone_name: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError("a time with a zone of its own")
    at = (moment.replace(tzinfo=zone(zone_name)) - _EPOCH) // timedelta(microseconds=1)
    return representable(at)

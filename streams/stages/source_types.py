"""
The types of source columns, and the value that each one's JSON form stands for.

One explicit table, by the type as its catalog spells it (the spellings of the databases don't collide). What
Debezium can't bring without loss is refused, with the reason: a mapping can't use such a column. The facts
were seen on real servers; tests/capture/test_types.py proves them against SELECT, docs/types.md lists them.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import md5
from typing import Any
from uuid import UUID

Read = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal()
#: Microseconds of the years 1 to 9999 in UTC: what readers of Avro and databases can hold.
_FIRST, _LAST = (
    (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
    for moment in (datetime.min, datetime.max)
)
_DECIMALS = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}
_FLOATS = {"NaN", "Infinity", "-Infinity"}
#: How Java prints the inner array of a nested one: its elements are lost.
_JAVA_ARRAY = re.compile(r"\[L?[\w.;]+@[0-9a-f]+").fullmatch


def exactly(*types: type) -> Read:
    """Make a reader that takes values of these types as they are; it raises ValueError on others."""

    def keep(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError(f"a {type(value).__name__}, expected {types[0].__name__}")
        return value

    return keep


def _decimal(value: Any) -> Decimal:
    return Decimal(_DECIMALS.get(value, value))


def _float(value: Any) -> float:
    if type(value) in (int, float) or value in _FLOATS:
        return float(value)
    raise ValueError("not a number")


def _bits(value: Any) -> int:
    return int.from_bytes(b64decode(value, validate=True), "little")


def days(value: Any) -> int:
    """Read a date: days since 1970. Raise ValueError on infinity and outside the years 1 to 9999."""
    if type(value) is not int or not 1 <= value + _EPOCH_DAY <= _LAST_DAY:
        raise ValueError("no day of the years 1 to 9999")
    return value


def representable(micros: Any) -> int:
    """Read microseconds since 1970. Raise ValueError on infinity and outside the years 1 to 9999 in UTC."""
    if type(micros) is not int:
        raise ValueError(f"a {type(micros).__name__}, expected int")
    if not _FIRST <= micros <= _LAST:
        raise ValueError("outside the years 1 to 9999 in UTC")
    return micros


def instant(value: Any) -> int:
    """Read ISO text in UTC: microseconds since 1970. Raise ValueError as `representable` does."""
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return representable((moment - _EPOCH) // timedelta(microseconds=1))


def _geometry(value: Any) -> tuple[int, bytes]:
    return value["srid"] or 0, b64decode(value["wkb"], validate=True)


@dataclass(frozen=True, slots=True)
class Family:
    """Types that decode in one way: to `value`, in words, by `read` (ValueError on what does not fit)."""

    name: str
    pattern: re.Pattern[str]
    value: str
    read: Read


def _family(name: str, pattern: str, value: str, read: Read) -> Family:
    return Family(name, re.compile(pattern, re.IGNORECASE), value, read)


_INTEGERS = r"(smallint|integer|bigint|int|mediumint|tinyint|year|oid)"
_TEXTS = (
    r"character varying|character|varchar|char|\"char\"|citext|\w*text|uuid|enum|set|xml|inet|cidr|macaddr8?"
    r"|\w+range|tsvector|ltree|hstore"
)
_BINARIES = r"bytea|binary|varbinary|\w*blob"

FAMILIES = (
    _family("boolean", r"(boolean|bool|bit\(1\))", "bool", exactly(bool)),
    _family(
        "int", rf"{_INTEGERS}(\(\d+\))?( unsigned)?( zerofill)?", "int; YEAR 0000 is 0; BIGINT UNSIGNED after streams/stages/repair.py", exactly(int)
    ),
    _family(
        "decimal", r"(numeric|decimal)\b.*|money", "Decimal, also NaN and infinities", _decimal
    ),
    _family(
        "float", r"(real|double)\b.*", "float (double precision), also NaN and infinities", _float
    ),
    _family("date", r"date", "int: days since 1970, of the years 1 to 9999", days),
    _family(
        "timestamp", r"(timestamp(\(\d\))? without time zone|datetime(\(\d\))?)",
        "int: microseconds since 1970 as if the time were UTC, of the years 1 to 9999", representable,
    ),
    _family(
        "timestamptz", r"timestamp(\(\d\))?( with time zone)?",
        "int: microseconds since 1970 in UTC, of the years 1 to 9999", instant,
    ),
    _family(
        "time", r"time(\(\d\))?( without time zone)?",
        "int: microseconds; of MariaDB and MySQL also negative and beyond a day", exactly(int),
    ),
    _family("interval", r"interval\b.*", "str: ISO 8601, years to microseconds kept apart", exactly(str)),
    _family("json", r"jsonb?", "str: JSON; MySQL's own spelling of numbers and spaces differs", exactly(str)),
    _family("text", rf"({_TEXTS})(\(.*\))?", "str", exactly(str)),
    _family("bits", r"bit\(\d+\)", "int", _bits),
    _family(
        "binary", rf"({_BINARIES})(\(\d+\))?", "bytes", lambda value: b64decode(value, validate=True)
    ),
    _family(
        "geometry",
        r"geometry|point|linestring|multi(point|linestring|polygon)|geometrycollection",
        "(SRID, WKB bytes)", _geometry,
    ),
)  # fmt: skip

#: PostgreSQL's types of which the connector stops at the first value.
_BIT_ARRAYS = r"bit\(\d+\)\[\]"
#: Type -> why Debezium 3.5.0 does not bring its values without loss. They come before the families.
_REFUSED = (
    (r"float\b.*", "a snapshot brings six digits of it; use DOUBLE or DECIMAL"),
    (r"time(\(\d\))? with time zone", "its zone is lost; use a time without zone, or a timestamp"),
    (r"bit varying\b.*", "its length and leading zeros are lost"),
    (r"name", "an internal type; streaming brings null"),
    (r"\w*multirange", "it is not captured"),
    (r"(line|lseg|box|path|circle)", "it is not captured"),
    (r"polygon", "PostgreSQL's is not captured; of MariaDB and MySQL use GEOMETRY"),
    (r"(interval\b.*|\w*multirange|geometry|point)\[\]", "arrays of it are not captured"),
    (_BIT_ARRAYS, "arrays of it stop the connector"),
)
_PLAIN_REFUSED = tuple((re.compile(pattern, re.IGNORECASE), why) for pattern, why in _REFUSED)
#: MariaDB's types that Debezium's parser of DDL can't read: the connector stops at such a table.
UNPARSEABLE = re.compile(r"inet[46]|uuid", re.IGNORECASE)
#: PostgreSQL's types for which Debezium has no placeholder that fits: the connector stops where an UPDATE leaves a large
#: value of them as it is. Under REPLICA IDENTITY FULL the log has the value.
_UNPLACED = re.compile(
    r"bit( varying)?\(\d{3,}\)|bit varying|geometry|geography|(half|sparse)?vec(tor)?"
    r'|(smallint|oid|"char"|(numeric|real|double|boolean|time|timestamp)\b.*|inet|cidr|macaddr8?|enum'
    r"|(int4|int8|num|ts|tstz|date)range|tsvector|(\w+\.)?(citext|hstore|ltree))\[\]"
).fullmatch
#: The arrays for which Debezium has one.
_PLACED = re.compile(
    r"(text|character varying(\(\d+\))?|character(\(\d+\))?|jsonb?|bytea|integer|bigint|date|uuid)\[\]"
).fullmatch


def family(column_type: str) -> Family | None:
    """Give the family of a column's type as the catalog spells it; None where its values are refused."""
    if column_type.endswith("[]") or refusal(column_type):
        return None
    return next((each for each in FAMILIES if each.pattern.fullmatch(column_type)), None)


def stopping(column_type: str, *, domain: bool, whole: bool) -> str | None:
    """
    Give when a PostgreSQL column of a type would stop its connector, None where it would not.

    `domain`: the type is that of a domain, which Debezium knows by its own name; `whole`: its table has REPLICA IDENTITY FULL.
    """
    if re.fullmatch(_BIT_ARRAYS, column_type):
        return "at every row"
    if not whole and (_UNPLACED(column_type) or (domain and _PLACED(column_type))):
        return "where an UPDATE leaves a large value of it as it is"
    return None


#: A type for each of the values that `unsent` gives beside the placeholder itself.
UNSENT_TYPES = ("hstore", "bytea", "text[]", "bytea[]", "integer[]", "uuid[]")


def unsent(column_type: str, placeholder: str) -> Any:
    """Give what capture sends in place of a large value that did not change: of most types the placeholder itself."""
    sent = placeholder.encode()
    if column_type == "hstore":
        return f'{{"{placeholder}":"{placeholder}"}}'
    if column_type == "bytea":
        return b64encode(sent).decode()
    if not _PLACED(column_type):
        return placeholder
    element = column_type.removesuffix("[]")
    if element in ("integer", "bigint", "date"):
        return list(sent)
    if element == "uuid":
        return [str(UUID(bytes=md5(sent, usedforsecurity=False).digest(), version=3))]
    return [unsent(element, placeholder)]


def refusal(column_type: str) -> str | None:
    """Give why values of a type can't be had without loss, None where nothing is known against it."""
    return next((why for each, why in _PLAIN_REFUSED if each.fullmatch(column_type)), None)


def reader(column_type: str) -> Read | None:
    """
    Give the function from a value's JSON form to the value that the table documents; None for refused types.

    It raises ValueError where a value does not fit its type, or where what came is not what was stored.
    """
    if not column_type.endswith("[]"):
        found = family(column_type)
        return None if found is None else found.read
    element = None if refusal(column_type) else reader(column_type.removesuffix("[]"))
    return None if element is None else _array(element)


def _array(element: Read) -> Read:
    def read(value: Any) -> list[Any]:
        if value and all(each is None for each in value):
            raise ValueError("an array of nulls only, or a nested one: Debezium does not tell")
        if any(type(each) is str and _JAVA_ARRAY(each) for each in value):
            raise ValueError("a nested array: Debezium loses its elements")
        return [None if each is None else element(each) for each in value]

    return read

"""
Rows of a source database in the form that Debezium gives them, so that the pipeline's mapping can read them.

One explicit table per database says which types need bringing into that form; values of all other types
are already in it. (Debezium as connectors-config sets it up: decimals as text, times in microseconds.)
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pymysql
from psycopg.types.string import TextLoader
from pymysql.cursors import SSCursor

from schemas.captured import Table
from schemas.errors import ServiceUnavailable
from streams.records import Change, Position, Row
from tongbu.deploy.captured import mysql_arguments

Form = Callable[[Any], Any]

_INTERVAL = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?[\d.]+)S)?)?"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOWHERE = Position((0, 0), 0)
_MICROSECOND = timedelta(microseconds=1)
_BEYOND = 1 << 62
#: Types of PostgreSQL that are taken as the server spells them; Python has not all values of some.
_AS_TEXT = (
    "date", "timestamp", "timestamptz", "time", "interval", "json", "jsonb", "uuid", "inet", "cidr",
    "int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange",
)  # fmt: skip


def _plain(value: Decimal) -> str:
    return format(value, "f")


def _days(value: date | str) -> int | None:
    """Give days since 1970; MariaDB's zero dates, which the driver leaves as text, are null."""
    return None if isinstance(value, str) else (value - _EPOCH.date()).days


def _micros_as_if_utc(value: datetime | str) -> int | None:
    if isinstance(value, str):
        return None
    return (value.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def _instant_text(value: datetime | str) -> str | None:
    """Give ISO text in UTC; MariaDB's TIMESTAMP has no zone of its own, but the session's, which is UTC."""
    if isinstance(value, str):
        return None
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _micros_of_day(value: timedelta) -> int:
    return value // _MICROSECOND


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _or_beyond(read: Callable[[str], int], value: str) -> int:
    """Read a text of PostgreSQL; of infinity and years that Python lacks give what no field can hold, as a lane sees them."""
    try:
        return read(value)
    except ValueError:
        return -_BEYOND if value.startswith("-") or value.endswith(" BC") else _BEYOND


def _days_of(text: str) -> int:
    return _or_beyond(lambda value: (date.fromisoformat(value) - _EPOCH.date()).days, text)


def _micros_of(text: str) -> int:
    def read(value: str) -> int:
        return (datetime.fromisoformat(value).replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND

    return _or_beyond(read, text)


def _instant_of(text: str) -> str:
    try:
        return _instant_text(datetime.fromisoformat(text)) or text
    except (ValueError, OverflowError):
        return text


def _micros_of_time(text: str) -> int:
    """Give microseconds; 24:00:00 is a time, too."""
    hours, minutes, seconds = text.split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000_000 + int(Decimal(seconds) * 1_000_000)


def _whole_interval(text: str) -> str:
    """Give an interval in ISO 8601 with its zeros, which PostgreSQL leaves out."""
    found = _INTERVAL.fullmatch(text)
    return text if found is None else "P{}Y{}M{}DT{}H{}M{}S".format(*found.groups("0"))


def _one_bit(value: bytes) -> bool:
    return value != b"\0"


#: Type as the catalog spells it, without length -> form of what the driver gives; of PostgreSQL's times that is text.
POSTGRESQL: dict[str, Form] = {
    "numeric": _plain,
    "date": _days_of,
    "timestamp without time zone": _micros_of,
    "timestamp with time zone": _instant_of,
    "time without time zone": _micros_of_time,
    "interval": _whole_interval,
    "bytea": _base64,
}
MARIADB: dict[str, Form] = {
    "decimal": _plain,
    "date": _days,
    "datetime": _micros_as_if_utc,
    "timestamp": _instant_text,
    "time": _micros_of_day,
    "bit": _one_bit,
    "binary": _base64,
    "varbinary": _base64,
    "tinyblob": _base64,
    "blob": _base64,
    "mediumblob": _base64,
    "longblob": _base64,
}

_LENGTH = re.compile(r"\([^)]*\)")


def forms(table: Table, known: dict[str, Form]) -> list[tuple[str, Form | None]]:
    """Give each column of a table with the form that its values need, None where they are in it."""
    return [
        (column.name, known.get(_LENGTH.sub("", column.type).removesuffix(" unsigned").lower()))
        for column in table.columns
    ]


def to_row(columns: Sequence[tuple[str, Form | None]], values: Sequence[Any]) -> Row:
    """Bring the values of a row into Debezium's form."""
    return {
        name: value if value is None or form is None else form(value)
        for (name, form), value in zip(columns, values, strict=True)
    }


def read(dsn: str, tables: Sequence[Table]) -> Iterator[Change]:
    """
    Read tables as of one moment, row by row, as changes of a snapshot.

    Raise ServiceUnavailable where the database does not answer.
    """
    reader = _postgresql if dsn.startswith("postgres") else _mariadb
    try:
        for table, row in reader(dsn, tables):
            yield Change(table.qualified, "r", None, row, None, _NOWHERE, None)
    except (psycopg.OperationalError, pymysql.OperationalError) as error:
        raise ServiceUnavailable(
            f"the source database does not answer: {str(error).strip()}", "Start it: `tongbu up`."
        ) from error


def _postgresql(dsn: str, tables: Sequence[Table]) -> Iterator[tuple[Table, Row]]:
    with psycopg.connect(dsn) as connection:
        for name in _AS_TEXT:
            connection.adapters.register_loader(name, TextLoader)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SET datestyle = 'ISO'; SET intervalstyle = 'iso_8601'")
        for table in tables:
            columns = forms(table, POSTGRESQL)
            with connection.cursor(f"read {table.name}") as cursor:
                cursor.itersize = 5000
                cursor.execute(_select(table, '"'))
                for values in cursor:
                    yield table, to_row(columns, values)


def _mariadb(dsn: str, tables: Sequence[Table]) -> Iterator[tuple[Table, Row]]:
    connection = pymysql.connect(
        **mysql_arguments(dsn), init_command="set time_zone = '+00:00'", cursorclass=SSCursor
    )
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("start transaction with consistent snapshot, read only")
        for table in tables:
            columns = forms(table, MARIADB)
            cursor.execute(_select(table, "`"))
            for values in cursor:
                yield table, to_row(columns, values)


def _select(table: Table, mark: str) -> str:
    def quote(name: str) -> str:
        return mark + name.replace(mark, mark * 2) + mark

    columns = ", ".join(quote(column.name) for column in table.columns)
    order = ", ".join(quote(name) for name in table.key) or "1"
    return f"select {columns} from {quote(table.schema)}.{quote(table.name)} order by {order}"

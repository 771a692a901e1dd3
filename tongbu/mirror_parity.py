"""
Mirrored tables against their source, row by row, both ways: `SELECT *` here is to be `SELECT *` there.

Each server spells its values as text, alike for both; both sides come in the byte order of their keys and are read side
by side, so memory is bounded whatever the size of a table. Within a family of databases the spelling is the type's own.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pymysql
from pymysql.cursors import SSCursor

from schemas.errors import ServiceUnavailable
from sink_writers.mirrors import Column, MirrorTable
from streams.stages.source_types import family
from tongbu.deploy.captured import mysql_arguments
from tongbu.parity import Difference, Parity

Texts = tuple[str | None, ...]
Meaning = Callable[[str], Any]
Open = Callable[[], Any]

_AT_ONCE = 5000
_SAME_FAMILY = {"postgresql": "{}::text", "mysql": "cast({} as char)"}
_BYTES = {"postgresql": "encode({}, 'hex')", "mysql": "lower(hex({}))"}
_MOMENT = {
    "postgresql": "to_char({}, 'YYYY-MM-DD HH24:MI:SS.US')",
    "mysql": "date_format({}, '%Y-%m-%d %H:%i:%s.%f')",
}
#: A cast to text gives an address its mask, also where that is the whole.
_INET = "case when masklen({0}) = case family({0}) when 4 then 32 else 128 end then host({0}) else {0}::text end"
#: Family of types -> how each kind of database spells a value, so that both spell it alike.
_ALIKE: dict[str, dict[str, str]] = {
    "boolean": {"postgresql": "{}::int::text", "mysql": "cast({} + 0 as char)"},
    "int": {"postgresql": "{}::text", "mysql": "cast({} + 0 as char)"},
    "decimal": {"postgresql": "{}::numeric::text", "mysql": "cast({} as char)"},
    "float": _SAME_FAMILY,
    "date": {"postgresql": "to_char({}, 'YYYY-MM-DD')", "mysql": "cast({} as char)"},
    "timestamp": _MOMENT,
    "timestamptz": _MOMENT | {"postgresql": _MOMENT["postgresql"].format("{} at time zone 'UTC'")},
    "time": {
        "postgresql": "{}::interval::text",
        "mysql": "cast({} as char)",
    },
    "text": _SAME_FAMILY,
    "json": _SAME_FAMILY,
    "binary": _BYTES,
}


def _real(text: str) -> float:
    """Give a number of four bytes; its shortest spelling is not that of the same number in eight."""
    with suppress(OverflowError):
        return float(struct.unpack("f", struct.pack("f", float(text)))[0])
    return float(text)


def _span(text: str) -> Decimal:
    """Give seconds; PostgreSQL writes fewer digits than MariaDB and MySQL."""
    hours, minutes, seconds = map(Decimal, text.lstrip("-").split(":"))
    span = hours * 3600 + minutes * 60 + seconds
    return -span if text.startswith("-") else span


def _day(text: str) -> str | None:
    """Give a date or moment; zero dates of MariaDB and MySQL are null everywhere else."""
    return None if _ZERO.match(text) else text


def _json(text: str) -> Any:
    """MySQL reads its own spelling of a number in JSON one unit of the last place off; 15 digits hold."""
    return json.loads(text, parse_float=_rounded, parse_int=_rounded)


def _rounded(number: str) -> Decimal:
    return Decimal(format(Decimal(number), ".15g"))


_ZERO = re.compile(r"\d{4}-(00|\d\d-00)")
#: Family of types -> what a text means, where several texts may mean the same.
_MEANINGS: dict[str, Meaning] = {
    "decimal": Decimal, "float": float, "real": _real, "time": _span, "date": _day, "timestamp": _day,
    "timestamptz": _day,
}  # fmt: skip
_MEANINGS_OF_MYSQL = {"json": _json}


@dataclass(frozen=True, slots=True)
class Side:
    """A database of a comparison: its kind, the full quoted name of the table, and how a connection is opened."""

    kind: str
    table: str
    open: Open

    @property
    def family(self) -> str:
        """MariaDB and MySQL are one."""
        return "postgresql" if self.kind == "postgresql" else "mysql"

    def quote(self, name: str) -> str:
        """Quote a name."""
        mark = '"' if self.kind == "postgresql" else "`"
        return mark + name.replace(mark, mark * 2) + mark


def source_side(kind: str, table: str, dsn: str) -> Side:
    """Give the side of a source's table."""

    def connect() -> Any:
        if kind == "postgresql":
            return psycopg.connect(dsn, options="-c timezone=UTC")
        utc = "set time_zone = '+00:00'"
        return pymysql.connect(**mysql_arguments(dsn), init_command=utc, cursorclass=SSCursor)

    side = Side(kind, "", connect)
    schema, _, name = table.partition(".")
    return Side(kind, f"{side.quote(schema)}.{side.quote(name)}", connect)


def target_side(kind: str, table: str, dialect: Any) -> Side:
    """Give the side of a target's table; `dialect` is the database side of its binding."""

    def connect() -> Any:
        if kind == "postgresql":
            return dialect.connect(options="-c timezone=UTC")
        return dialect.connect(cursorclass=SSCursor, init_command="set time_zone = '+00:00'")

    return Side(kind, dialect.table(table), connect)


def compare(
    table: MirrorTable, source: Side, target: Side, apart: set[Texts], parity: Parity
) -> list[str]:
    """
    Compare a table, but for the rows of keys set `apart`; give the columns that can't be compared.

    Those are columns that the other family holds as text in the pipeline's own spelling. Raise ServiceUnavailable.
    """
    across = source.family != target.family
    spelled = [each for each in table.columns if _form(each.source, source.family, across=across)]
    key = [table.column(name) for name in table.key]
    meanings = _MEANINGS | (_MEANINGS_OF_MYSQL if "mysql" in (source.kind, target.kind) else {})
    means = [meanings.get(_meant(each.source)) for each in spelled]
    wanted, there = (_read(side, key, spelled, across=across) for side in (source, target))
    for id_, expected, actual in _side_by_side(wanted, there, len(key)):
        if id_ in apart:
            continue
        parity.rows += 1
        if expected is None or actual is None:
            what = "extra" if expected is None else "missing"
            parity.add(Difference(table.name, id_, what))
            continue
        differing = tuple(
            column.name
            for column, meaning, one, other in zip(spelled, means, expected, actual, strict=True)
            if one != other and not _means_the_same(meaning, one, other)
        )
        if differing:
            parity.add(Difference(table.name, id_, "differs", differing))
    return [each.name for each in table.columns if each not in spelled]


def _form(column_type: str, kind: str, *, across: bool) -> str | None:
    """Give the expression around a column; None where the families spell the type otherwise."""
    found = family(column_type)
    name = "" if found is None or column_type.endswith("[]") else found.name
    if name == "bits" and kind == "mysql":
        return "lpad(bin({} + 0), " + column_type.partition("(")[2].rstrip(")") + ", '0')"
    if name == "bits":
        return "{}::text"
    if name in ("binary", "geometry") and not across:
        return "{}::text" if kind == "postgresql" else "hex({})"
    if not across:
        return _ALIKE["boolean"][kind] if name == "boolean" else _SAME_FAMILY[kind]
    if column_type == "hstore" or name not in _ALIKE:
        return None
    form = _ALIKE[name][kind]
    if column_type == "inet" and kind == "postgresql":
        return _INET
    return f"rtrim({form})" if column_type.startswith(("character(", "char(")) else form


def _read(
    side: Side, key: Sequence[Column], columns: Sequence[Column], *, across: bool
) -> Iterator[tuple[Texts, Texts]]:
    """Give the rows in the byte order of their keys."""
    forms = [
        (_form(each.source, side.family, across=across) or "{}").format(side.quote(each.name))
        for each in (*key, *columns)
    ]
    bytewise = '({}) collate "C"' if side.family == "postgresql" else "cast({} as binary)"
    order = ", ".join(bytewise.format(form) for form in forms[: len(key)])
    query = f"select {', '.join(forms)} from {side.table} order by {order}"
    try:
        with closing(side.open()) as connection, _streaming(side, connection) as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(_AT_ONCE):
                for row in rows:
                    texts = tuple(map(_plain, row))
                    yield texts[: len(key)], texts[len(key) :]
    except (psycopg.OperationalError, pymysql.OperationalError) as error:
        raise ServiceUnavailable(
            f"{side.table} can't be read: {str(error).strip()}", "`tongbu status` tells."
        ) from error


def _streaming(side: Side, connection: Any) -> Any:
    if side.family == "mysql":
        return connection.cursor()
    connection.autocommit = False
    return connection.cursor("compare")


def _plain(value: Any) -> str | None:
    text: str | None = value.decode() if isinstance(value, bytes) else value
    return text


def _meant(column_type: str) -> str:
    """Give by what the meaning of a column's texts is found."""
    found = family(column_type)
    if found is None or column_type.endswith("[]"):
        return ""
    return "real" if column_type == "real" else found.name


def _means_the_same(meaning: Meaning | None, one: str | None, other: str | None) -> bool:
    if meaning is None:
        return False
    first, second = (None if text is None else meaning(text) for text in (one, other))
    return bool(first == second) or (first != first and second != second)


def _side_by_side(
    expected: Iterable[tuple[Texts, Texts]], actual: Iterable[tuple[Texts, Texts]], width: int
) -> Iterator[tuple[Texts, Texts | None, Texts | None]]:
    """Give key, and the row of either side with that key; both come in the byte order of their keys."""
    ends = [b"\xff"] * width
    left, right = iter(expected), iter(actual)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        place = _bytes(one[0]) if one else ends
        there = _bytes(other[0]) if other else ends
        first = min(place, there)
        mine = one if one is not None and place == first else None
        theirs = other if other is not None and there == first else None
        key = (mine or theirs or ((), ()))[0]
        yield key, mine and mine[1], theirs and theirs[1]
        one = next(left, None) if mine else one
        other = next(right, None) if theirs else other


def _bytes(key: Texts) -> list[bytes]:
    return [(text or "").encode() for text in key]

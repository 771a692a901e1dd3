"""
Repair: values that Debezium is known to bring in another form than the one that the rest relies on.

- BIGINT UNSIGNED comes as big-endian bytes in base64, also as a key.
- PostgreSQL's snapshot reads timestamps through Java's calendar, which is Julian before 15 October 1582: 0001-01-01,
  which business systems write for "no date", comes two days off. Streaming brings it right.
- Streaming brings MariaDB's and MySQL's zero TIMESTAMP as the epoch, which that type can't hold; a snapshot brings null.
- Streaming brings YEAR 0000 as 1900, which that type can't hold.
- A BOOLEAN column of MariaDB and MySQL, whose type is tinyint(1), comes as true or false where its DDL was streamed.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import date
from typing import Any

from schemas.captured import Table
from streams.records import Change

Mend = Callable[[Any], Any]
#: (column, whether only values of snapshots, how) of one table.
Repairs = tuple[tuple[str, bool, Mend], ...]

_DAY = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
#: 15 October 1582, in days since 1970.
_CUTOVER = date(1582, 10, 15).toordinal() - _EPOCH_DAY
_JULIAN_DAY_OF_EPOCH = 2_440_588
_ISO_DAY = re.compile(r"(-?\d+)-(\d\d)-(\d\d)T")


def repairs(table: Table) -> Repairs:
    """Give the repairs that a table's columns need: for most tables none."""
    found = (
        (column.name, *repair)
        for column in table.columns
        for pattern, *repair in _TABLE
        if pattern.fullmatch(column.type)
    )
    return tuple(found)  # type: ignore[arg-type]


def repair(change: Change, wanted: Repairs) -> None:
    """Mend the values of a change in place."""
    for column, only_snapshot, mend in wanted:
        if only_snapshot and change.operation != "r":
            continue
        for row in (change.before, change.after, change.moved_from, change.moved_to):
            if row is not None and (value := row.get(column)) is not None:
                row[column] = mend(value)


def _micros(value: Any) -> Any:
    if type(value) is not int or value >= _CUTOVER * _DAY:
        return value
    day, rest = divmod(value, _DAY)
    found = _gregorian(day)
    return value if found is None else found * _DAY + rest


def _iso(value: Any) -> Any:
    match = _ISO_DAY.match(value) if type(value) is str else None
    if match is None or int(match[1]) > date.fromordinal(_CUTOVER + _EPOCH_DAY).year:
        return value
    # The year before 1 has no place in Python's calendar; 1 January of year 1 comes as one of its last days.
    year, month, day = (int(part) for part in match.groups())
    moved = _days(year, month, day)
    found = None if moved >= _CUTOVER else _gregorian(moved)
    if found is None:
        return value
    return f"{date.fromordinal(found + _EPOCH_DAY).isoformat()}T{value[match.end() :]}"


def _days(year: int, month: int, day: int) -> int:
    """Give days since 1970 of a proleptic Gregorian date, also of the year 0 and before."""
    cycles = (1 - year + 399) // 400 if year < 1 else 0
    return date(year + 400 * cycles, month, day).toordinal() - 146_097 * cycles - _EPOCH_DAY


def _gregorian(days: int) -> int | None:
    """Take days since 1970 as a Julian date; give the Gregorian date with the same year, month and day, in days."""
    shifted = days + _JULIAN_DAY_OF_EPOCH + 32_082
    year = (4 * shifted + 3) // 1461
    of_year = shifted - 1461 * year // 4
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    try:
        return (
            date(year - 4800 + month // 10, month + 3 - 12 * (month // 10), day).toordinal()
            - _EPOCH_DAY
        )
    except ValueError:  # before the year 1: refused where it is used
        return None


def _unsigned(value: Any) -> Any:
    return int.from_bytes(b64decode(value), "big", signed=True) if type(value) is str else value


def _no_epoch(value: Any) -> Any:
    return None if value == "1970-01-01T00:00:00Z" else value


def _year_zero(value: Any) -> Any:
    return 0 if value == 1900 else value


def _number(value: Any) -> Any:
    return int(value) if type(value) is bool else value


#: (type as the catalog spells it, whether only values of snapshots, how).
_TABLE: tuple[tuple[re.Pattern[str], bool, Mend], ...] = (
    (re.compile(r"bigint(\(\d+\))? unsigned( zerofill)?"), False, _unsigned),
    (re.compile(r"timestamp(\(\d\))? without time zone"), True, _micros),
    (re.compile(r"timestamp(\(\d\))? with time zone"), True, _iso),
    (re.compile(r"timestamp(\(\d\))?"), False, _no_epoch),
    (re.compile(r"year(\(4\))?"), False, _year_zero),
    (re.compile(r"tinyint\(1\)"), False, _number),
)

"""Comparing what a target table should hold with what it holds, row by row, both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from sink_writers.changes import Row
from sink_writers.tables import TargetTable

#: As many differences of a target are told one by one.
TOLD = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as it should be; values are never told, only the names of the columns that differ."""

    table: str
    key: tuple[Any, ...]
    what: str
    columns: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Give it as reports hold it."""
        return {
            "table": self.table,
            "key": list(self.key),
            "what": self.what,
            "columns": list(self.columns),
        }


@dataclass(slots=True)
class Parity:
    """What came of comparing a target: rows looked at, rows that are not as they should be, and the first of them."""

    rows: int = 0
    mismatches: int = 0
    #: `missing`, `extra` or `differs` -> how many rows.
    kinds: Counter[str] = field(default_factory=Counter)
    first: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        """Count a difference."""
        self.mismatches += 1
        self.kinds[difference.what] += 1
        if len(self.first) < TOLD:
            self.first.append(difference)

    def as_json(self) -> dict[str, Any]:
        """Give it as reports hold it."""
        return {
            "rows": self.rows,
            "mismatches": self.mismatches,
            "first": [each.as_json() for each in self.first],
        }


def compared_columns(table: TargetTable, late: Collection[tuple[str, ...]]) -> list[str]:
    """Give the columns that the source as it is now tells: all but the version and those under a late path."""
    prefix = (table.array,) if table.array is not None else ()
    return [
        column.name
        for column in table.columns
        if column.name not in (table.version, *table.key)
        and not any(_meet((*prefix, *column.path), path) for path in late)
    ]


def _meet(column: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Tell whether one path stands under the other."""
    shared = min(len(column), len(path))
    return column[:shared] == path[:shared]


def compare(
    table: TargetTable,
    expected: Iterable[Row],
    actual: Iterable[Row],
    late: Collection[tuple[str, ...]],
    set_apart: Collection[str],
    parity: Parity,
) -> None:
    """Compare a table; rows of ids that are set apart are not looked at on either side."""
    columns = compared_columns(table, late)
    owner = table.key[0]
    wanted = {_key(table, row): row for row in expected if row[owner] not in set_apart}
    for row in actual:
        if row[owner] in set_apart:
            continue
        key = _key(table, row)
        parity.rows += 1
        should = wanted.pop(key, None)
        if should is None:
            parity.add(Difference(table.name, key, "extra"))
            continue
        differing = tuple(name for name in columns if not _same(should[name], row[name]))
        if differing:
            parity.add(Difference(table.name, key, "differs", differing))
    parity.rows += len(wanted)
    for key in wanted:
        parity.add(Difference(table.name, key, "missing"))


def _key(table: TargetTable, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in table.key)


def _same(should: Any, does: Any) -> bool:
    """Tell whether two values are the same; in JSON columns decimals and times stand as text."""
    if isinstance(should, list | dict):
        should = orjson.loads(orjson.dumps(should, default=str))
    return type(should) is type(does) and should == does

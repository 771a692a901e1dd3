"""
How rows reach MariaDB and MySQL: multi-row statements inside one transaction.

The owner reads the versions and fences of a batch's keys first (it holds the position's row lock, so nobody else
writes them). New rows are inserted and known ones updated by different statements: INSERT … ON DUPLICATE KEY UPDATE
of a new row may meet another row's unique value, and would then overwrite that row without a word. So may that of a
known row where its id is not the primary key: there rows are updated one by one.

Values are spelled here and not by the driver, whose way through its tables of types took twice as long
(docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson
from pymysql.converters import escape_item, escape_string

from sink_writers.changes import Changes, Row
from sink_writers.dialects.mariadb_mirror import quote
from sink_writers.sink import Fenced, Move
from sink_writers.sql import grouped, inside
from sink_writers.tables import Column, TargetTable

MINE = "binding = %s and topic = %s and partition_no = %s"

_UNIQUE_KEYS = """select index_name, column_name from information_schema.statistics
   where table_schema = database() and table_name = %s and non_unique = 0"""

#: As long as the rows of a statement may become, in characters, where the server's max_allowed_packet is not small.
_LONGEST = 1 << 20
_SPECIAL = re.compile(r"[\0\n\r\x1a\"'\\]").search


class Writer:
    """Writes the changes of a binding's tables."""

    def __init__(self, tables: list[TargetTable]) -> None:
        """Learn which tables belong together."""
        self._referring: dict[str, list[tuple[TargetTable, str]]] = {}
        self._meeting: dict[str, bool] = {}
        self._roots = [table for table in tables if table.parent is None]
        self._children = {
            root.name: [table for table in tables if table.parent == root.name]
            for root in self._roots
        }
        for table in tables:
            for reference in table.references:
                self._referring.setdefault(reference.table, []).append((table, reference.column))

    def write(self, cursor: Any, changes: Changes) -> None:
        """Put parents first, follow moves, remove children first."""
        for table in self._roots:
            if table.name in changes.puts:
                self._put(cursor, table, changes.puts)
        for name, moved in changes.moves.items():
            self._follow(cursor, name, moved)
        for table in reversed(self._roots):
            if table.name in changes.removals:
                self._remove(cursor, table, changes.removals[table.name])

    def _put(self, cursor: Any, table: TargetTable, puts: dict[str, list[Row]]) -> None:
        rows = puts[table.name]
        stored, fenced = _versions(cursor, table, [row[table.id] for row in rows])
        taken = {
            row[table.id]: row
            for row in rows
            if row[table.version]
            > max(stored.get(row[table.id], -1), fenced.get(row[table.id], -1))
        }
        if not table.keeps_version:
            _fence(cursor, table, [(key, row[table.version]) for key, row in taken.items()])
        new = [row for key, row in taken.items() if key not in stored]
        known = [row for key, row in taken.items() if key in stored]
        for column in table.to_itself:
            new = _parents_first(new, table.id, column)
        _insert(cursor, table, new)
        self._overwrite(cursor, table, known)
        for child in self._children[table.name]:
            owner = child.key[0]
            mine = [row for row in puts.get(child.name, ()) if row[owner] in taken]
            self._difference(cursor, child, [row[table.id] for row in known], mine)

    def _overwrite(self, cursor: Any, table: TargetTable, rows: Sequence[Row]) -> None:
        """Overwrite rows that are there."""
        if rows and self._may_meet_others(cursor, table):
            for row in rows:
                _update(cursor, table, row)
        else:
            _insert(cursor, table, rows, _assignments(table))

    def _may_meet_others(self, cursor: Any, table: TargetTable) -> bool:
        """Tell whether the server may look for a row by another unique key than the table's; asks once per table."""
        if table.name not in self._meeting:
            cursor.execute(_UNIQUE_KEYS, [table.name])
            keys = grouped(cursor.fetchall())
            ours = {column.name for column in table.columns}
            self._meeting[table.name] = keys.get("PRIMARY") != set(table.key) and any(
                names != set(table.key) and names & ours for names in keys.values()
            )
        return self._meeting[table.name]

    def _difference(
        self, cursor: Any, child: TargetTable, known: Sequence[str], rows: Sequence[Row]
    ) -> None:
        """Make the children what came; `known` are the owners that may have some. The server leaves equal ones alone."""
        owner, key = child.key
        query = (
            f"select {quote(owner)}, {quote(key)} from {quote(child.name)} where {quote(owner)} in "
        )
        there = set(inside(cursor, query, known))
        gone = there - {(row[owner], row[key]) for row in rows}
        if gone:
            cursor.executemany(
                f"delete from {quote(child.name)} where {quote(owner)} = %s and {quote(key)} = %s",
                sorted(gone),
            )
        _insert(cursor, child, [row for row in rows if (row[owner], row[key]) not in there])
        self._overwrite(cursor, child, [row for row in rows if (row[owner], row[key]) in there])

    def _follow(self, cursor: Any, name: str, moved: list[Row]) -> None:
        """Let the rows that refer to an id that has moved, and are older than the move, follow it."""
        for table, column in self._referring.get(name, ()):
            cursor.executemany(
                f"update {quote(table.name)} t set t.{quote(column)} = %s "
                f"where t.{quote(column)} = %s and {self._older(table)}",
                [(each["to"], each["from"], each["version"]) for each in moved],
            )

    def _older(self, table: TargetTable) -> str:
        """Give the condition that a row `t`, or its owner, is older than a version."""
        root = next(each for each in self._roots if each.name == (table.parent or table.name))
        own = f"t.{quote(table.id)}"
        if not root.keeps_version:
            return (
                f"not exists (select 1 from tongbu_fence f where f.table_name = {_text(root.name)} "
                f"and f.record_key = convert({own} using utf8mb4) and f.version >= %s)"
            )
        if root is table:
            return f"t.{quote(root.version)} < %s"
        return (
            f"exists (select 1 from {quote(root.name)} r where r.{quote(root.id)} = {own} "
            f"and r.{quote(root.version)} < %s)"
        )

    def _remove(self, cursor: Any, table: TargetTable, rows: list[Row]) -> None:
        keys = [(row["id"], row["version"]) for row in rows]
        stored, _ = _versions(cursor, table, [key for key, _ in keys])
        gone = [key for key, version in keys if stored.get(key, version) < version]
        _fence(cursor, table, keys)
        name, key = quote(table.name), quote(table.id)
        for child in self._children[table.name]:
            _run(cursor, f"delete from {quote(child.name)} where {quote(child.id)} in ", gone)
        for column in table.to_itself:
            _run(cursor, f"update {name} set {quote(column)} = null where {key} in ", gone)
        _run(cursor, f"delete from {name} where {key} in ", gone)


def _versions(
    cursor: Any, table: TargetTable, keys: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """
    Give the versions of the rows that are there, and those of the fences; one round trip.

    Where a table has no place for the version, the fence of a row has it.
    """
    name, key = quote(table.name), f"convert({quote(table.id)} using utf8mb4)"
    version = quote(table.version) if table.keeps_version else "-1"
    stored: dict[str, int] = {}
    fenced: dict[str, int] = {}
    for some in _divided(keys):
        listed = ", ".join(map(_text, some))
        cursor.execute(
            f"select 0, {key}, {version} from {name} where {quote(table.id)} in ({listed}) union all "
            "select 1, convert(record_key using utf8mb4), version from tongbu_fence "
            f"where table_name = {_text(table.name)} and record_key in ({listed})"
        )
        for is_fence, id_, found in cursor.fetchall():
            (fenced if is_fence else stored)[id_] = found
    if not table.keeps_version:
        stored = {id_: fenced.get(id_, -1) for id_ in stored}
    return stored, fenced


def _divided(keys: Sequence[str], most: int = 1000) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), most):
        yield keys[start : start + most]


def move_position(cursor: Any, move: Move) -> bool:
    """Move the position if it is where we left it and the epoch is still ours; False where it is moved already."""
    mine = f"{MINE} and epoch = %s and next_offset = %s"
    place, at, to = move.place, move.at, move.to
    key = [place.binding, place.topic, place.partition, at.epoch]
    cursor.execute(
        f"update tongbu_position set next_offset = %s, lane_offset = %s, moved_at = now(6) where {mine}",
        [to.next_offset, to.lane_offset, *key, at.next_offset],
    )
    if cursor.rowcount:
        return True
    cursor.execute(f"select 1 from tongbu_position where {mine}", [*key, to.next_offset])
    if cursor.fetchone():
        return False
    raise Fenced(place)


def _fence(cursor: Any, table: TargetTable, keys: Sequence[tuple[str, int]]) -> None:
    """Raise the fences of (id, version)."""
    if keys:
        cursor.executemany(
            "insert into tongbu_fence (table_name, record_key, version) values (%s, %s, %s) "
            "on duplicate key update fenced_at = if(values(version) > version, now(6), fenced_at), "
            "version = greatest(version, values(version))",
            [(table.name, *key) for key in keys],
        )


def _run(cursor: Any, statement: str, keys: Sequence[str]) -> None:
    for _ in inside(cursor, statement, keys):
        pass


def _assignments(table: TargetTable) -> list[str]:
    """Assign, to a root only from newer rows; assignments go from left to right, so the version comes last."""
    names = [quote(column.name) for column in table.values]
    if table.parent or not table.keeps_version:  # told by the owner, or by the fences, before
        return [f"{name} = values({name})" for name in names or [quote(table.id)]]
    version = quote(table.version)
    names.sort(key=version.__eq__)
    return [f"{name} = if(values({version}) > {version}, values({name}), {name})" for name in names]


def _update(cursor: Any, table: TargetTable, row: Row) -> None:
    """Overwrite one row that is there, found by the table's key alone; what is newer was told before."""
    spelled = {column.name: _spell(column, row) for column in table.columns}
    named = {name: f"{quote(name)} = {value}" for name, value in spelled.items()}
    key = " and ".join(named[name] for name in table.key)
    values = [named[column.name] for column in table.values] or [named[table.id]]
    cursor.execute(f"update {quote(table.name)} set {', '.join(values)} where {key}")


def _insert(
    cursor: Any, table: TargetTable, rows: Sequence[Row], assignments: Sequence[str] = ()
) -> None:
    names = ", ".join(quote(column.name) for column in table.columns)
    head = f"insert into {quote(table.name)} ({names}) values "
    tail = f" on duplicate key update {', '.join(assignments)}" if assignments else ""
    # A character takes four bytes at most.
    longest = min(_LONGEST, (cursor.connection.longest - 4 * len(head + tail)) // 4)
    for values in _values(table, rows, longest):
        cursor.execute(head + values + tail)


def _values(table: TargetTable, rows: Sequence[Row], longest: int) -> Iterator[str]:
    """Spell rows as lists of values, as many in one text as a statement may have; one may be longer than that alone."""
    spelled = [(each.name, _json if each.kind == "json" else None) for each in table.columns]
    some: list[str] = []
    size = 0
    for row in rows:
        values = [
            (spell or _SPELLED.get(type(row[name]), _other))(row[name]) for name, spell in spelled
        ]
        one = f"({','.join(values)})"
        if some and size + len(one) > longest:
            yield ",".join(some)
            some, size = [], 0
        some.append(one)
        size += len(one) + 1
    if some:
        yield ",".join(some)


def _spell(column: Column, row: Row) -> str:
    value = row[column.name]
    return _json(value) if column.kind == "json" else _SPELLED.get(type(value), _other)(value)


def _text(value: str) -> str:
    return f"'{escape_string(value) if _SPECIAL(value) else value}'"


def _json(value: Any) -> str:
    return "null" if value is None else _text(orjson.dumps(value, default=str).decode())


def _decimal(value: Decimal) -> str:
    return format(value, "f")  # an exponent would make it a double


def _moment(value: datetime) -> str:
    return f"'{value.astimezone(UTC).replace(tzinfo=None).isoformat(' ')}'"


def _other(value: Any) -> str:
    return str(escape_item(value, "utf8mb4"))


#: Type of a value -> how it is spelled in a statement.
_SPELLED: dict[type, Callable[[Any], str]] = {
    str: _text,
    int: str,
    bool: lambda value: "1" if value else "0",
    Decimal: _decimal,
    type(None): lambda _: "null",
    date: lambda value: f"'{value.isoformat()}'",
    datetime: _moment,
}


def _parents_first(rows: Sequence[Row], key: str, column: str) -> list[Row]:
    """Order the rows of a table that refers to itself; foreign keys are checked row by row."""
    waiting = {row[key]: row for row in rows}
    ordered: list[Row] = []
    for row in rows:
        chain: list[Row] = []
        above: Row | None = waiting.pop(row[key], None)
        while above is not None:
            chain.append(above)
            above = waiting.pop(above[column], None)
        ordered += reversed(chain)
    return ordered

"""Mirrored tables in MariaDB and MySQL: rows come as text, which the server reads by the column's type."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from sink_writers.mirror_types import target_type
from sink_writers.mirrors import Column, MirrorTable, Values


class MariadbMirror:
    """What a binding's mirrored tables need of MariaDB or MySQL; see MirrorDialect."""

    def __init__(self, kind: str, options: Callable[[], str]) -> None:
        self._kind, self._options = kind, options

    def resolve(self, cursor: Any, database: str, column_type: str, *, in_key: bool) -> str:  # noqa: ARG002
        """Give the type."""
        return target_type(database, self._kind, column_type, in_key=in_key)

    def waits(self, seconds: int) -> str:
        """Give the statement."""
        return f"set session lock_wait_timeout = {seconds}"

    def live(self, cursor: Any, name: str) -> list[str]:
        """Give the columns of a table; none where it is not there."""
        cursor.execute(
            "select column_name from information_schema.columns "
            "where table_schema = database() and table_name = %s",
            [name],
        )
        return [column for (column,) in cursor.fetchall()]

    def create(self, table: MirrorTable) -> str:
        """Give the statement that creates a table."""
        parts = [_define(each, in_key=each.name in table.key) for each in table.columns]
        parts.append(f"primary key ({', '.join(map(quote, table.key))})")
        body = ",\n  ".join(parts)
        return f"create table {quote(table.name)} (\n  {body}) {self._options()}"

    def add(self, table: MirrorTable, column: Column) -> str:
        """Give the statement that adds a column."""
        return f"alter table {quote(table.name)} add column {_define(column)}"

    def drop(self, table: MirrorTable, column: str) -> str:
        """Give the statement that drops a column."""
        return f"alter table {quote(table.name)} drop column {quote(column)}"

    def change(self, table: MirrorTable, column: Column) -> str:
        """Give the statement that changes a column's type."""
        return (
            f"alter table {quote(table.name)} modify column "
            f"{_define(column, in_key=column.name in table.key)}"
        )

    def rekey(self, cursor: Any, before: MirrorTable, table: MirrorTable) -> str:  # noqa: ARG002
        """Give the statement; columns have other definitions in a key and outside of it."""
        moved = [
            f"modify column {_define(each, in_key=each.name in table.key)}"
            for each in table.columns
            if (each.name in before.key) != (each.name in table.key)
        ]
        steps = ["drop primary key", *moved]
        steps.append(f"add primary key ({', '.join(map(quote, table.key))})")
        return f"alter table {quote(table.name)} {', '.join(steps)}"

    def truncate(self, cursor: Any, table: MirrorTable) -> None:
        """Empty a table; TRUNCATE would commit."""
        self.unhurried(cursor, f"delete from {quote(table.name)}")

    def put(
        self, cursor: Any, table: MirrorTable, columns: Sequence[Column], rows: Sequence[Values]
    ) -> None:
        """Insert or overwrite rows, whose values stand in the order of `columns`; the key is the only unique one."""
        names = [each.name for each in columns]
        others = [each for each in names if each not in table.key] or [names[0]]
        update = ", ".join(f"{_q(name)} = values({_q(name)})" for name in others)
        cursor.executemany(
            f"insert into {_q(table.name)} ({', '.join(map(_q, names))}) "
            f"values ({', '.join(['%s'] * len(names))}) on duplicate key update {update}",
            _converted(columns, rows),
        )

    def delete(self, cursor: Any, table: MirrorTable, keys: Sequence[Values]) -> None:
        """Delete rows by key."""
        cursor.executemany(f"delete from {_q(table.name)} where {_same(table)}", _keys(table, keys))

    def mark(
        self, cursor: Any, seen: str, binding: str, table: MirrorTable, keys: Sequence[Values]
    ) -> None:
        """Note rows by a digest of their key as the database spells it."""
        cursor.executemany(
            f"insert ignore into {seen} select %s, %s, {_digest(table)} from {_q(table.name)} where {_same(table)}",
            [[binding, table.name, *row] for row in _keys(table, keys)],
        )

    def delete_unmarked(self, cursor: Any, seen: str, binding: str, table: MirrorTable) -> int:
        """Delete what is not noted."""
        return self.unhurried(
            cursor,
            f"delete from {_q(table.name)} where {_digest(table)} not in "
            f"(select digest from {seen} where binding = %s and table_name = %s)",
            [binding, table.name],
        )

    def unhurried(self, cursor: Any, statement: str, values: Sequence[str] | None = None) -> int:
        """Lift MariaDB's limit for one statement; MySQL has none for those that write."""
        lifted = "set statement max_statement_time = 0 for " if self._kind == "mariadb" else ""
        cursor.execute(lifted + statement, values)
        return int(cursor.rowcount)


def quote(name: str) -> str:
    """Quote an identifier."""
    return "`" + name.replace("`", "``") + "`"


def _q(name: str) -> str:
    """Quote an identifier for a statement with parameters."""
    return quote(name).replace("%", "%%")


def _digest(table: MirrorTable) -> str:
    key = ", ".join(_hex(table.column(name)) for name in table.key)
    return f"sha2(concat_ws(',', {key}), 256)"


def _hex(column: Column) -> str:
    """Spell a value by its bytes; as text, bytes that are no UTF-8 are NULL in MariaDB, and all such keys alike."""
    name = _q(column.name)
    return f"hex({name})" if _BYTES.match(column.target) else f"hex(cast({name} as char))"


def _same(table: MirrorTable) -> str:
    """Compare the key of a row with a given one."""
    return " and ".join(f"{_q(name)} = %s" for name in table.key)


def _keys(table: MirrorTable, keys: Sequence[Values]) -> list[list[Any]]:
    return _converted([table.column(name) for name in table.key], keys)


def _define(column: Column, *, in_key: bool = False) -> str:
    return f"{quote(column.name)} {column.target}{'' if in_key else ' null'}"


def _converted(columns: Sequence[Column], rows: Sequence[Values]) -> list[list[Any]]:
    convert = [_converter(each.target) for each in columns]
    return [
        [None if value is None else make(value) for make, value in zip(convert, row, strict=True)]
        for row in rows
    ]


def _converter(column_type: str) -> Callable[[str], Any]:
    return next((make for pattern, make in _CONVERTERS if pattern.match(column_type)), str)


def _geometry(text: str) -> bytes:
    """Give the server's own form: SRID, then WKB."""
    srid, _, wkb = text.partition(";")
    return struct.pack("<I", int(srid)) + bytes.fromhex(wkb)


_BYTES = re.compile(r"\w*(binary|blob)")
#: Types whose text the server would read otherwise: a bit's as characters, a year's 0 as 2000.
_CONVERTERS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"bit"), lambda text: int(text, 2)),
    (re.compile(r"year"), int),
    (_BYTES, lambda text: bytes.fromhex(text[2:])),
    (
        re.compile(r"geometry|point|linestring|polygon|multi(point|linestring|polygon)"),
        _geometry,
    ),
)

"""Mirrored tables in PostgreSQL: rows come as text, and every value is cast to its column's type, of any length."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from sink_writers.dialects.postgresql_apply import quote
from sink_writers.mirror_types import target_type
from sink_writers.mirrors import Column, MirrorTable, Values

#: A cast to one of these cuts what is too long, without a word; an assignment refuses it.
_CUTS = re.compile(r"(character varying|character|bit varying|bit)\(\d+\)")
_OF_ANY_LENGTH = {"character": "bpchar", "bit": "bit varying"}


class PostgresqlMirror:
    """What a binding's mirrored tables need of PostgreSQL; see MirrorDialect."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def resolve(self, cursor: Any, database: str, column_type: str, *, in_key: bool) -> str:
        """Give the type; text where the target lacks it (an extension's)."""
        wanted = target_type(database, "postgresql", column_type, in_key=in_key)
        cursor.execute("select to_regtype(%s)", [wanted.partition("(")[0]])
        return wanted if cursor.fetchone()[0] else "text"

    def waits(self, seconds: int) -> str:
        """Give the statement."""
        return f"set lock_timeout = '{seconds}s'"

    def live(self, cursor: Any, name: str) -> list[str]:
        """Give the columns of a table; none where it is not there."""
        cursor.execute(
            "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
            [self._name(name)],
        )
        return [column for (column,) in cursor.fetchall()]

    def create(self, table: MirrorTable) -> str:
        """Give the statement that creates a table."""
        parts = [f"{quote(each.name)} {each.target}" for each in table.columns]
        parts.append(f"primary key ({', '.join(map(quote, table.key))})")
        return f"create table {self._name(table.name)} (\n  " + ",\n  ".join(parts) + ")"

    def add(self, table: MirrorTable, column: Column) -> str:
        """Give the statement that adds a column."""
        return (
            f"alter table {self._name(table.name)} add column {quote(column.name)} {column.target}"
        )

    def drop(self, table: MirrorTable, column: str) -> str:
        """Give the statement that drops a column."""
        return f"alter table {self._name(table.name)} drop column {quote(column)}"

    def change(self, table: MirrorTable, column: Column) -> str:
        """Give the statement that changes a column's type."""
        name = quote(column.name)
        return (
            f"alter table {self._name(table.name)} alter column {name} type {column.target} "
            f"using {name}::text::{column.target}"
        )

    def rekey(self, cursor: Any, before: MirrorTable, table: MirrorTable) -> str:
        """Give the statement; columns outside of the key may be null."""
        name = self._name(table.name)
        cursor.execute(
            "select conname from pg_constraint where conrelid = to_regclass(%s) and contype = 'p'",
            [name],
        )
        steps = [f"drop constraint {quote(constraint)}" for (constraint,) in cursor.fetchall()]
        steps += [
            f"alter column {quote(each.name)} drop not null"
            for each in table.columns
            if each.name in before.key and each.name not in table.key
        ]
        steps.append(f"add primary key ({', '.join(map(quote, table.key))})")
        return f"alter table {name} {', '.join(steps)}"

    def truncate(self, cursor: Any, table: MirrorTable) -> None:
        """Empty a table. Readers of an older snapshot still see it: TRUNCATE would not let them."""
        self.unhurried(cursor, f"delete from {self._name(table.name)}")

    def put(
        self, cursor: Any, table: MirrorTable, columns: Sequence[Column], rows: Sequence[Values]
    ) -> None:
        """Insert or overwrite rows, whose values stand in the order of `columns`."""
        names = [each.name for each in columns]
        values = [each for each in names if each not in table.key]
        update = (
            "update set " + ", ".join(f"{_q(name)} = excluded.{_q(name)}" for name in values)
            if values
            else "nothing"
        )
        cursor.execute(
            f"insert into {_p(self._name(table.name))} ({', '.join(map(_q, names))}) "
            f"select {_cast(columns)} from {_rows(len(columns))} "
            f"on conflict ({', '.join(map(_q, table.key))}) do {update}",
            [_json(rows)],
        )

    def delete(self, cursor: Any, table: MirrorTable, keys: Sequence[Values]) -> None:
        """Delete rows by key."""
        cursor.execute(
            f"delete from {_p(self._name(table.name))} t using {_rows(len(table.key))} where {_same(table)}",
            [_json(_there(keys))],
        )

    def mark(
        self, cursor: Any, seen: str, binding: str, table: MirrorTable, keys: Sequence[Values]
    ) -> None:
        """Note rows by a digest of their key as the database spells it."""
        cursor.execute(
            f"insert into {seen} select %s, %s, {_digest(table)} from {_p(self._name(table.name))} t "
            f"join {_rows(len(table.key))} on {_same(table)} on conflict do nothing",
            [binding, table.name, _json(_there(keys))],
        )

    def delete_unmarked(self, cursor: Any, seen: str, binding: str, table: MirrorTable) -> int:
        """Delete what is not noted."""
        return self.unhurried(
            cursor,
            f"delete from {_p(self._name(table.name))} t where not exists (select from {seen} s "
            f"where s.binding = %s and s.table_name = %s and s.digest = {_digest(table)})",
            [binding, table.name],
        )

    def unhurried(self, cursor: Any, statement: str, values: Sequence[str] | None = None) -> int:
        """Lift the session's limit for one statement of the transaction."""
        cursor.execute("set local statement_timeout = 0")
        cursor.execute(statement, values)
        rows = int(cursor.rowcount)
        cursor.execute("set local statement_timeout to default")
        return rows

    def _name(self, name: str) -> str:
        return f"{quote(self._schema)}.{quote(name)}"


def _digest(table: MirrorTable) -> str:
    key = ", ".join(f"t.{_q(name)}::text" for name in table.key)
    return f"encode(sha256(convert_to(jsonb_build_array({key})::text, 'UTF8')), 'hex')"


def _same(table: MirrorTable) -> str:
    """Compare the key of a row `t` with that of a given one `x`."""
    return " and ".join(
        f"t.{_q(name)} = x.c{number}::{_whole(table.column(name).target)}"
        for number, name in enumerate(table.key)
    )


def _rows(columns: int) -> str:
    return f"jsonb_to_recordset(%s::jsonb) x({', '.join(f'c{number} text' for number in range(columns))})"


def _cast(columns: Sequence[Column]) -> str:
    return ", ".join(f"x.c{number}::{_whole(each.target)}" for number, each in enumerate(columns))


def _whole(column_type: str) -> str:
    """Give the type without the length that a cast would cut at."""
    return _p(_CUTS.sub(lambda cuts: _OF_ANY_LENGTH.get(cuts[1], cuts[1]), column_type))


def _there(keys: Sequence[Values]) -> list[Values]:
    """Leave out keys with a NUL, which no row can have."""
    return [key for key in keys if not any("\0" in (value or "") for value in key)]


def _json(rows: Sequence[Values]) -> str:
    return orjson.dumps(
        [{f"c{number}": value for number, value in enumerate(row)} for row in rows]
    ).decode()


def _p(text: str) -> str:
    """Keep the driver from reading a percent sign of a name as a parameter."""
    return text.replace("%", "%%")


def _q(name: str) -> str:
    return _p(quote(name))

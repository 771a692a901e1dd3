"""
MariaDB and MySQL as targets: multi-row statements inside one transaction.

The owner reads the versions and fences of a batch's keys first (it holds the position's row lock, so nobody else
writes them). New rows are inserted and known ones updated by different statements: INSERT … ON DUPLICATE KEY UPDATE
of a new row may meet another row's unique value, and would then overwrite that row without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pymysql
from pymysql.constants import ER

from schemas.declarations import RelationalBinding
from sink_writers.changes import Changes, Row
from sink_writers.dialects.mariadb import Mariadb, explain, is_data_error
from sink_writers.dialects.mariadb_mirror import quote
from sink_writers.dialects.mysql import Mysql
from sink_writers.sink import Fenced, Move, OtherTopic, Place, Position, Refused
from sink_writers.sql import inside
from sink_writers.tables import VERSION, Column, TargetTable

_MINE = "binding = %s and topic = %s and partition_no = %s"

_KINDS = {number: name for name, number in vars(ER).items() if isinstance(number, int)}
_NAMED = re.compile(r"(column|key|constraint) [`']([\w.`]+)[`']", re.IGNORECASE)

_UNIQUE = """select distinct s.column_name from information_schema.statistics s
    join information_schema.columns c using (table_schema, table_name, column_name)
   where s.table_schema = database() and s.table_name = %s and s.non_unique = 0
     and s.index_name <> 'PRIMARY' and c.is_nullable = 'YES'"""


class MariadbDatabase(Mariadb):
    """The target while it is written; see Database in relational.py. MySQL differs in its dialect only."""

    def __init__(self, binding: RelationalBinding) -> None:
        super().__init__(binding)
        self._connection: pymysql.Connection[Any] | None = None
        self._epochs: dict[Place, int] = {}
        self._unique: dict[str, list[str]] = {}
        self._roots: list[TargetTable] = []
        self._children: dict[str, list[TargetTable]] = {}
        self._referring: dict[str, list[tuple[str, str]]] = {}

    def learn(self, tables: list[TargetTable]) -> None:
        """Learn which tables belong together."""
        self._roots = [table for table in tables if table.parent is None]
        self._children = {
            root.name: [table for table in tables if table.parent == root.name]
            for root in self._roots
        }
        for table in tables:
            for reference in table.references:
                self._referring.setdefault(reference.table, []).append(
                    (table.name, reference.column)
                )

    @contextmanager
    def transaction(self, place: Place) -> Iterator[Any]:
        """Give a cursor of a transaction, on a connection that is opened if need be."""
        connection = self._connection or self._open(place)
        try:
            with _data_errors():
                with connection.cursor() as cursor:
                    yield cursor
                connection.commit()
        except pymysql.Error as error:
            self.close()
            raise explain(place.binding, error) from None
        except BaseException:
            with suppress(pymysql.Error):
                connection.rollback()
            raise

    single = transaction

    @contextmanager
    def savepoint(self, cursor: Any) -> Iterator[None]:
        """Undo what was done inside when it is left by an error."""
        cursor.execute("savepoint tongbu")
        try:
            with _data_errors():
                yield
        except Refused:
            cursor.execute("rollback to savepoint tongbu")
            raise

    def claim(self, cursor: Any, place: Place) -> Position:
        """End the last owner's connection, raise the epoch and read the position."""
        key = [place.binding, place.topic, place.partition]
        _end_last_owner(cursor, key)
        cursor.execute(
            "insert into tongbu_position "
            "(binding, topic, partition_no, topic_id, epoch, connection_id, next_offset, lane_offset) "
            "values (%s, %s, %s, %s, 1, connection_id(), 0, 0) "
            "on duplicate key update epoch = epoch + 1, connection_id = connection_id()",
            [*key, place.topic_id],
        )
        cursor.execute(
            f"select topic_id, next_offset, lane_offset, epoch from tongbu_position where {_MINE}",
            key,
        )
        topic_id, next_offset, lane_offset, epoch = cursor.fetchone()
        if topic_id != place.topic_id:
            raise OtherTopic(place, topic_id)
        self._epochs[place] = epoch
        return Position(next_offset, lane_offset, epoch)

    def write(self, cursor: Any, changes: Changes, move: Move | None) -> str | None:
        """Put parents first, follow moves, remove children first."""
        if move is not None and not _move(cursor, move):
            return None
        for table in self._roots:
            if table.name in changes.puts:
                self._put(cursor, table, changes.puts)
        for name, moved in changes.moves.items():
            self._follow(cursor, name, moved)
        for table in reversed(self._roots):
            if table.name in changes.removals:
                self._remove(cursor, table, changes.removals[table.name])
        return ""

    def unique_columns(self, cursor: Any, table: TargetTable) -> list[str]:
        """Ask the catalog once per table."""
        if table.name not in self._unique:
            cursor.execute(_UNIQUE, [table.name])
            self._unique[table.name] = [quote(name) for (name,) in cursor.fetchall()]
        return self._unique[table.name]

    def bytewise(self, column: str) -> str:
        """The tables' own collation does."""
        return column

    def days_ago(self, days: int) -> str:
        """Give the expression."""
        return f"now() - interval {days} day"

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            with suppress(pymysql.Error):
                self._connection.close()
            self._connection = None

    def _open(self, place: Place) -> pymysql.Connection[Any]:
        """Open the connection, and let a successor know which it is before it holds any lock."""
        self._connection = self.connect(init_command=self.session)
        try:
            with self._connection.cursor() as cursor:
                for owned, epoch in self._epochs.items():
                    cursor.execute(
                        f"update tongbu_position set connection_id = connection_id() where {_MINE} and epoch = %s",
                        [owned.binding, owned.topic, owned.partition, epoch],
                    )
            self._connection.autocommit(False)
        except pymysql.Error as error:
            self.close()
            raise explain(place.binding, error) from None
        return self._connection

    def _put(self, cursor: Any, table: TargetTable, puts: dict[str, list[Row]]) -> None:
        rows = puts[table.name]
        stored = _versions(cursor, table, [row["id"] for row in rows])
        fenced = _fences(cursor, table, [row["id"] for row in rows])
        taken = {
            row["id"]: row
            for row in rows
            if row[VERSION] > max(stored.get(row["id"], -1), fenced.get(row["id"], -1))
        }
        new = [row for key, row in taken.items() if key not in stored]
        known = [row for key, row in taken.items() if key in stored]
        for column in table.to_itself:
            new = _parents_first(new, column)
        _insert(cursor, table, new)
        _insert(cursor, table, known, _guarded_assignments(table))
        for child in self._children[table.name]:
            owner = child.key[0]
            mine = [row for row in puts.get(child.name, ()) if row[owner] in taken]
            _difference(cursor, child, [row["id"] for row in known], mine)

    def _follow(self, cursor: Any, name: str, moved: list[Row]) -> None:
        """Let the rows that refer to an id that has moved follow it."""
        for table, column in self._referring.get(name, ()):
            cursor.executemany(
                f"update {quote(table)} set {quote(column)} = %s where {quote(column)} = %s",
                [(each["to"], each["from"]) for each in moved],
            )

    def _remove(self, cursor: Any, table: TargetTable, rows: list[Row]) -> None:
        keys = [(row["id"], row[VERSION]) for row in rows]
        cursor.executemany(
            "insert into tongbu_fence (table_name, record_key, version) values (%s, %s, %s) "
            "on duplicate key update fenced_at = if(values(version) > version, now(6), fenced_at), "
            "version = greatest(version, values(version))",
            [(table.name, *key) for key in keys],
        )
        stored = _versions(cursor, table, [key for key, _ in keys])
        gone = [key for key, version in keys if stored.get(key, version) < version]
        for child in self._children[table.name]:
            _run(cursor, f"delete from {quote(child.name)} where {quote(child.key[0])} in ", gone)
        for column in table.to_itself:
            _run(
                cursor, f"update {quote(table.name)} set {quote(column)} = null where id in ", gone
            )
        _run(cursor, f"delete from {quote(table.name)} where id in ", gone)


@contextmanager
def _data_errors() -> Iterator[None]:
    try:
        yield
    except pymysql.Error as error:
        if is_data_error(error):
            raise Refused(_said(error)) from None
        raise


def _end_last_owner(cursor: Any, key: list[Any]) -> None:
    """A stopped owner may hold the position's lock; not every version ends an idle transaction by itself."""
    cursor.execute(
        "select p.id from tongbu_position t join information_schema.processlist p on p.id = t.connection_id "
        "where t.binding = %s and t.topic = %s and t.partition_no = %s "
        "and p.id <> connection_id() and p.db = database() and p.user = substring_index(user(), '@', 1)",
        key,
    )
    for (connection,) in cursor.fetchall():
        with suppress(pymysql.Error):  # it has just ended by itself
            cursor.execute(f"kill {int(connection)}")


def _move(cursor: Any, move: Move) -> bool:
    """Move the position if it is where we left it and the epoch is still ours; False where it is moved already."""
    mine = f"{_MINE} and epoch = %s and next_offset = %s"
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


def _versions(cursor: Any, table: TargetTable, keys: Sequence[str]) -> dict[str, int]:
    query = f"select id, {VERSION} from {quote(table.name)} where id in "
    return dict(inside(cursor, query, keys))


def _fences(cursor: Any, table: TargetTable, keys: Sequence[str]) -> dict[str, int]:
    query = "select record_key, version from tongbu_fence where table_name = %s and record_key in "
    return dict(inside(cursor, query, keys, [table.name]))


def _run(cursor: Any, statement: str, keys: Sequence[str]) -> None:
    for _ in inside(cursor, statement, keys):
        pass


def _insert(
    cursor: Any, table: TargetTable, rows: Sequence[Row], assignments: Sequence[str] = ()
) -> None:
    names = ", ".join(quote(column.name) for column in table.columns)
    places = ", ".join(["%s"] * len(table.columns))
    update = f" on duplicate key update {', '.join(assignments)}" if assignments else ""
    if rows:
        cursor.executemany(
            f"insert into {quote(table.name)} ({names}) values ({places}){update}",
            [[_value(column, row[column.name]) for column in table.columns] for row in rows],
        )


def _guarded_assignments(table: TargetTable) -> list[str]:
    """Assign only from newer rows; assignments go from left to right, so the version comes last."""
    columns = [column.name for column in table.values if column.name != VERSION]
    return [
        f"{quote(name)} = if(values({VERSION}) > {VERSION}, values({quote(name)}), {quote(name)})"
        for name in [*columns, VERSION]
    ]


def _difference(cursor: Any, child: TargetTable, known: Sequence[str], rows: Sequence[Row]) -> None:
    """Make the children what came; `known` are the owners that may have some. The server leaves equal ones alone."""
    owner, key = child.key
    query = f"select {quote(owner)}, {quote(key)} from {quote(child.name)} where {quote(owner)} in "
    there = set(inside(cursor, query, known))
    gone = there - {(row[owner], row[key]) for row in rows}
    if gone:
        cursor.executemany(
            f"delete from {quote(child.name)} where {quote(owner)} = %s and {quote(key)} = %s",
            sorted(gone),
        )
    _insert(cursor, child, [row for row in rows if (row[owner], row[key]) not in there])
    _insert(
        cursor,
        child,
        [row for row in rows if (row[owner], row[key]) in there],
        [f"{quote(each.name)} = values({quote(each.name)})" for each in child.values]
        or [f"{quote(owner)} = {quote(owner)}"],
    )


def _parents_first(rows: Sequence[Row], column: str) -> list[Row]:
    """Order the rows of a table that refers to itself; foreign keys are checked row by row."""
    waiting = {row["id"]: row for row in rows}
    ordered: list[Row] = []
    for row in rows:
        chain: list[Row] = []
        above: Row | None = waiting.pop(row["id"], None)
        while above is not None:
            chain.append(above)
            above = waiting.pop(above[column], None)
        ordered += reversed(chain)
    return ordered


def _value(column: Column, value: Any) -> Any:
    if value is not None and column.kind == "json":
        return orjson.dumps(value, default=str).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _said(error: pymysql.Error) -> str:
    """Say what is wrong and with which column, key or constraint; the server's own words quote the value."""
    number, words = error.args[0], str(error.args[-1])
    names = " ".join(f"{what.lower()} {name}" for what, name in _NAMED.findall(words))
    kind = _KINDS.get(number, "refused").lower().replace("_", " ")
    return f"{kind} {names} ({number})".replace("  ", " ")


class MysqlDatabase(Mysql, MariadbDatabase):
    """The same for MySQL."""

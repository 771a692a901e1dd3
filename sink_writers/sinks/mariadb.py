"""
Relational sink for MariaDB: multi-row statements inside one transaction.

The owner reads the versions and fences of a batch's keys first (it holds the position's row lock, so
nobody else writes them), writes what is newer, and every statement guards by version all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
import pymysql

from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import RelationalBinding
from sink_writers.changes import Changes, Row, Rows, divide
from sink_writers.dialects.mariadb import Mariadb, explain, is_data_error, quote
from sink_writers.messages import Message, Record
from sink_writers.sink import Fenced, OtherTopic, Place, Position, Refused
from sink_writers.tables import VERSION, Column, TargetTable

T = TypeVar("T")

#: A stopped owner lets go of its locks before the consumer group gives its partition to another.
_SESSION = (
    "set session sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', "
    "transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 4, "
    "idle_transaction_timeout = 4, max_statement_time = 60"
)
_FENCE_DAYS = 8
_SWEEP_EVERY_S = 3600.0
#: Keys per IN list.
_CHUNK = 1000


class MariadbSink:
    """Tables of a database; see the contract in sink.py."""

    def __init__(self, binding: RelationalBinding, catalog: Catalog, decoder: Decoder) -> None:
        self._target = Mariadb(binding)
        tables = self._target.tables(catalog)
        self._rows = Rows(tables, decoder)
        self._roots = [table for table in tables if table.parent is None]
        self._children = {
            root.name: [table for table in tables if table.parent == root.name]
            for root in self._roots
        }
        self._connection: pymysql.Connection[Any] | None = None
        self._swept = time.monotonic()

    def claim(self, place: Place) -> Position:
        """Raise the epoch and read the position."""
        return self._guarded(place, lambda cursor: _claim(cursor, place))

    def apply(
        self, place: Place, at: Position, messages: Sequence[Message], to: Position
    ) -> str | None:
        """One transaction; record by record only where the target refuses one."""
        records = self._rows.net(messages)

        def whole(cursor: Any) -> None:
            if _move(cursor, place, at, to):
                self._write(cursor, place.binding, records)

        def apart(cursor: Any) -> None:
            if _move(cursor, place, at, to):
                self._divide(cursor, place.binding, records)

        try:
            self._guarded(place, whole)
        except Refused:
            self._guarded(place, apart)
        self._sweep(place)
        return None

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _write(self, cursor: Any, binding: str, records: list[Record]) -> None:
        changes = self._rows.changes(records)
        for table in self._roots:
            if table.name in changes.puts:
                self._put(cursor, binding, table, changes)
        for table in reversed(self._roots):
            if table.name in changes.removals:
                self._remove(cursor, binding, table, changes.removals[table.name])

    def _put(self, cursor: Any, binding: str, table: TargetTable, changes: Changes) -> None:
        rows = changes.puts[table.name]
        stored = _versions(cursor, table, [row["id"] for row in rows])
        taken = {row["id"]: row for row in rows if row[VERSION] > stored.get(row["id"], -1)}
        if not taken:
            return
        _upsert(cursor, table, taken.values(), _guarded_assignments(table))
        for child in self._children[table.name]:
            owner = child.key[0]
            mine = [row for row in changes.puts[child.name] if row[owner] in taken]
            self._difference(cursor, child, list(taken), mine)
        _close_set_aside(
            cursor, binding, table, [(key, row[VERSION]) for key, row in taken.items()]
        )

    def _difference(
        self, cursor: Any, child: TargetTable, owners: list[str], rows: list[Row]
    ) -> None:
        """Make the children of these owners the ones that came: equal ones are left alone by the server."""
        owner, key = child.key
        there: set[tuple[Any, ...]] = set()
        for some in _chunks(owners):
            cursor.execute(
                f"select {quote(owner)}, {quote(key)} from {quote(child.name)} where {quote(owner)} in %s",
                [some],
            )
            there.update(cursor.fetchall())
        if rows:
            _upsert(
                cursor,
                child,
                rows,
                [f"{quote(c.name)} = values({quote(c.name)})" for c in child.values],
            )
        if gone := there - {(row[owner], row[key]) for row in rows}:
            cursor.executemany(
                f"delete from {quote(child.name)} where {quote(owner)} = %s and {quote(key)} = %s",
                sorted(gone),
            )

    def _remove(self, cursor: Any, binding: str, table: TargetTable, rows: list[Row]) -> None:
        keys = [(row["id"], row[VERSION]) for row in rows]
        cursor.executemany(
            "insert into tongbu_fence (table_name, record_key, version) values (%s, %s, %s) "
            "on duplicate key update fenced_at = if(values(version) > version, now(6), fenced_at), "
            "version = greatest(version, values(version))",
            [(table.name, *key) for key in keys],
        )
        stored = _versions(cursor, table, [row["id"] for row in rows], fenced=False)
        gone = [key for key, version in keys if stored.get(key, version) < version]
        for some in _chunks(gone):
            for child in self._children[table.name]:
                cursor.execute(
                    f"delete from {quote(child.name)} where {quote(child.key[0])} in %s", [some]
                )
            cursor.execute(f"delete from {quote(table.name)} where id in %s", [some])
        _close_set_aside(cursor, binding, table, keys)

    def _divide(self, cursor: Any, binding: str, records: list[Record]) -> None:
        def put(some: list[Record]) -> None:
            cursor.execute("savepoint tongbu")
            try:
                with _data_errors():
                    self._write(cursor, binding, some)
            except Refused:
                cursor.execute("rollback to savepoint tongbu")
                raise

        def set_aside(record: Record, reason: str) -> None:
            table = self._rows.root(record)
            if _versions(cursor, table, [record.key]).get(record.key, -1) < record.version:
                _set_aside(cursor, binding, table, record, reason)

        divide(records, put, set_aside)

    def _sweep(self, place: Place) -> None:
        if time.monotonic() - self._swept < _SWEEP_EVERY_S:
            return
        self._swept = time.monotonic()
        sweep = f"delete from tongbu_fence where fenced_at < now() - interval {_FENCE_DAYS} day"
        self._guarded(place, lambda cursor: cursor.execute(sweep))

    def _guarded(self, place: Place, work: Callable[[Any], T]) -> T:
        """Run work in a transaction of a connection that lives; say every error in the words of the contract."""
        if self._connection is None:
            self._connection = self._target.connect(init_command=_SESSION, autocommit=False)
        connection = self._connection
        try:
            with _data_errors():
                with connection.cursor() as cursor:
                    done = work(cursor)
                connection.commit()
                return done
        except pymysql.Error as error:
            self.close()
            raise explain(place.binding, error) from None
        except Exception:
            connection.rollback()
            raise


@contextmanager
def _data_errors() -> Iterator[None]:
    try:
        yield
    except pymysql.Error as error:
        if is_data_error(error):
            raise Refused(f"{error.args[1]} ({error.args[0]})") from None
        raise


def _claim(cursor: Any, place: Place) -> Position:
    values = [place.binding, place.topic, place.partition]
    cursor.execute(
        "insert into tongbu_position (binding, topic, partition_no, topic_id, epoch, next_offset, lane_offset) "
        "values (%s, %s, %s, %s, 1, 0, 0) on duplicate key update epoch = epoch + 1",
        [*values, place.topic_id],
    )
    cursor.execute(
        "select topic_id, next_offset, lane_offset, epoch from tongbu_position "
        "where binding = %s and topic = %s and partition_no = %s",
        values,
    )
    topic_id, next_offset, lane_offset, epoch = cursor.fetchone()
    if topic_id != place.topic_id:
        raise OtherTopic(place, topic_id)
    return Position(next_offset, lane_offset, epoch)


def _move(cursor: Any, place: Place, at: Position, to: Position) -> bool:
    """Move the position if it is where we left it and the epoch is still ours; False where it is moved already."""
    mine = "binding = %s and topic = %s and partition_no = %s and epoch = %s and next_offset = %s"
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


def _versions(
    cursor: Any, table: TargetTable, keys: list[str], *, fenced: bool = True
) -> dict[str, int]:
    """Give the versions that the target has of these keys, of rows and of fences."""
    query = f"select id, {VERSION} from {quote(table.name)} where id in %s"
    if fenced:
        query += " union all select record_key, version from tongbu_fence where table_name = %s and record_key in %s"
    found: dict[str, int] = {}
    for some in _chunks(keys):
        cursor.execute(query, [some, table.name, some] if fenced else [some])
        for key, version in cursor.fetchall():
            found[key] = max(version, found.get(key, -1))
    return found


def _upsert(cursor: Any, table: TargetTable, rows: Iterable[Row], assignments: list[str]) -> None:
    names = ", ".join(quote(column.name) for column in table.columns)
    places = ", ".join(["%s"] * len(table.columns))
    update = ", ".join(assignments) or f"{quote(table.key[0])} = {quote(table.key[0])}"
    cursor.executemany(
        f"insert into {quote(table.name)} ({names}) values ({places}) on duplicate key update {update}",
        [[_value(column, row[column.name]) for column in table.columns] for row in rows],
    )


def _guarded_assignments(table: TargetTable) -> list[str]:
    """Assign only from newer rows; MariaDB assigns from left to right, so the version comes last."""
    columns = [column.name for column in table.values if column.name != VERSION]
    return [
        f"{quote(name)} = if(values({VERSION}) > {VERSION}, values({quote(name)}), {quote(name)})"
        for name in [*columns, VERSION]
    ]


def _close_set_aside(
    cursor: Any, binding: str, table: TargetTable, keys: list[tuple[str, int]]
) -> None:
    cursor.execute("select 1 from tongbu_set_aside where binding = %s limit 1", [binding])
    if cursor.fetchone():
        cursor.executemany(
            "delete from tongbu_set_aside "
            "where binding = %s and table_name = %s and record_key = %s and version <= %s",
            [(binding, table.name, *key) for key in keys],
        )


def _set_aside(cursor: Any, binding: str, table: TargetTable, record: Record, reason: str) -> None:
    newer = "if(values(version) > version, values({0}), {0})"
    assign = ", ".join(f"{name} = {newer.format(name)}" for name in ("reason", "value", "version"))
    cursor.execute(
        "insert into tongbu_set_aside (binding, table_name, record_key, version, reason, value) "
        f"values (%s, %s, %s, %s, %s, %s) on duplicate key update {assign}",
        [binding, table.name, record.key[:255], record.version, reason, record.value],
    )


def _value(column: Column, value: Any) -> Any:
    if value is not None and column.kind == "json":
        return orjson.dumps(value, default=str).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _chunks(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]

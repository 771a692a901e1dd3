"""PostgreSQL as a target: one call of the binding's apply function writes everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg

from schemas.declarations import RelationalBinding
from sink_writers import fills
from sink_writers.changes import Changes, Row
from sink_writers.dialects.postgresql import Postgresql, explain, is_fenced, is_read_only, refusal
from sink_writers.dialects.postgresql_apply import apply_function, brought, quote, stage
from sink_writers.position import claim
from sink_writers.sink import Fenced, Move, Place, Position, Refused
from sink_writers.tables import TargetTable

#: From so many rows on COPY is quicker than JSON (`python -m bench writes`).
COPY_ROWS = 200
#: Plans are made once, while tables are small, and then kept, so they must not be sequential scans: left to choose, the
#: server plans for the few ids of a small transaction each time, which takes longer than to run the plan. A stopped
#: owner lets go of its locks before the consumer group gives its partition to another.
_OPTIONS = (
    "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off -c timezone=UTC -c synchronous_commit=on "
    "-c lock_timeout=4s -c idle_in_transaction_session_timeout=4s -c statement_timeout=60s"
)

#: A text of PostgreSQL holds every character but this one.
_NUL = "\0"

_UNIQUE = """select distinct quote_ident(a.attname) from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
   where i.indrelid = %s::regclass and i.indisunique and not i.indisprimary and not a.attnotnull and a.attname <> %s"""


class PostgresqlDatabase(Postgresql):
    """The target while it is written; see Database in relational.py."""

    def __init__(self, binding: RelationalBinding) -> None:
        super().__init__(binding)
        self._connection: psycopg.Connection[Any] | None = None
        self._unique: dict[str, list[str]] = {}
        self.copy_rows = COPY_ROWS
        self._calls: dict[bool, str] = {}
        self._tables: dict[str, TargetTable] = {}

    def learn(self, tables: list[TargetTable]) -> None:
        """Name the apply functions."""
        self._tables = {table.name: table for table in tables}
        for staged in (False, True):
            function, _ = apply_function(self.name, self.schema, tables, staged=staged)
            self._calls[staged] = f"select {quote(self.schema)}.{quote(function)}(%s::jsonb)"

    @contextmanager
    def single(self, place: Place) -> Iterator[psycopg.Cursor[Any]]:
        """Give a cursor in autocommit mode, on a connection that is opened if need be."""
        if self._connection is None or self._connection.broken or self._connection.closed:
            self._connection = super().connect(options=_OPTIONS)
        try:
            with self._connection.cursor() as cursor:
                yield cursor
        except psycopg.Error as error:
            if is_read_only(error):
                self.close()
            if is_fenced(error):
                raise Fenced(place) from None
            if reason := refusal(error):
                raise Refused(reason) from None
            raise explain(place.binding, error) from None

    @contextmanager
    def transaction(self, place: Place) -> Iterator[psycopg.Cursor[Any]]:
        """Give a cursor of a transaction."""
        with self.single(place) as cursor, cursor.connection.transaction():
            yield cursor

    @contextmanager
    def savepoint(self, cursor: psycopg.Cursor[Any]) -> Iterator[None]:
        """Undo what was done inside when it is left by an error."""
        try:
            with cursor.connection.transaction():
                yield
        except psycopg.Error as error:
            if reason := refusal(error):
                raise Refused(reason) from None
            raise

    def claim(self, cursor: psycopg.Cursor[Any], place: Place) -> Position:
        """Raise the epoch and read the position."""
        return claim(cursor, self.table("tongbu_position"), place)

    def write(self, cursor: psycopg.Cursor[Any], changes: Changes, move: Move | None) -> str | None:
        """Call the apply function; many rows are copied into temporary tables before."""
        rows = sum(map(len, changes.puts.values()))
        if rows < self.copy_rows:
            return self._apply(cursor, changes.puts, changes, move, staged=False)
        with cursor.connection.transaction():
            self._copy(cursor, changes.puts)
            names: dict[str, list[Row]] = {name: [] for name in changes.puts}
            return self._apply(cursor, names, changes, move, staged=True)

    def _copy(self, cursor: psycopg.Cursor[Any], puts: dict[str, list[Row]]) -> None:
        for name, rows in puts.items():
            table = self._tables[name]
            stored, definition = stage(table)
            cursor.execute(definition)
            columns = [(each.name, each.kind == "json") for each in brought(table)]
            names = ", ".join(quote(each) for each, _ in columns)
            cursor.execute(f"delete from {stored}")  # an earlier write of the same transaction
            with cursor.copy(f"copy {stored} ({names}) from stdin") as copy:
                for row in rows:
                    copy.write_row(
                        [_text(row[each]) if is_json else row[each] for each, is_json in columns]
                    )

    def _apply(
        self,
        cursor: psycopg.Cursor[Any],
        puts: dict[str, list[Row]],
        changes: Changes,
        move: Move | None,
        *,
        staged: bool,
    ) -> str | None:
        batch: dict[str, Any] = dict(puts)
        batch |= {f"{table}~": _there(moved, "from") for table, moved in changes.moves.items()}
        batch |= {f"{table}-": _there(gone, "id") for table, gone in changes.removals.items()}
        if move is not None:
            batch |= {
                "binding": move.place.binding,
                "topic": move.place.topic,
                "partition": move.place.partition,
                "epoch": move.at.epoch,
                "from": move.at.next_offset,
                "to": move.to.next_offset,
                "lane_offset": move.to.lane_offset,
            }
        cursor.execute(self._calls[staged], [_json(batch)], prepare=True)
        row = cursor.fetchone()
        return row[0] if row else None

    def unique_columns(self, cursor: psycopg.Cursor[Any], table: TargetTable) -> list[str]:
        """Ask the catalog once per table."""
        if table.name not in self._unique:
            cursor.execute(_UNIQUE, [self.table(table.name), table.id])
            self._unique[table.name] = [name for (name,) in cursor.fetchall()]
        return self._unique[table.name]

    def bytewise(self, column: str) -> str:
        """Compare in the C collation."""
        return f'{column} collate "C"'

    def foreign(self, column: str) -> str:
        """Another collation than the default one decides by itself."""
        return column

    def letter_key(self, key: str) -> str:
        """Give a digest in place of a key that no text can hold; it may have any length."""
        return fills.digest(key) if _NUL in key else key

    def keeps(self, cursor: Any, value: bytes) -> bool:  # noqa: ARG002
        """A value may have 1 GB."""
        return True

    def comparable(self, id_: str) -> str:
        """Give what stands before a NUL, which no text has: every other one is as much above or below."""
        return id_.partition(_NUL)[0]

    def seconds(self, begin: str, end: str) -> str:
        """Give the expression."""
        return f"extract(epoch from {end} - {begin})"

    def days_ago(self, days: int) -> str:
        """Give the expression."""
        return f"now() - interval '{days} days'"

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None


def _there(rows: list[Row], id_: str) -> list[Row]:
    """Leave out what is about an id that no row can have."""
    return [row for row in rows if _NUL not in row[id_]]


def _text(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value, default=str).decode()


def _json(batch: dict[str, Any]) -> str:
    return orjson.dumps(batch, default=str).decode()

"""Relational sink for PostgreSQL: one call of the binding's apply function per target transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson
import psycopg

from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import RelationalBinding
from sink_writers.changes import Rows, divide
from sink_writers.dialects.postgresql import Postgresql, explain, is_data_error, is_fenced
from sink_writers.dialects.postgresql_apply import apply_function, quote
from sink_writers.messages import Message, Record
from sink_writers.position import claim
from sink_writers.sink import Fenced, Place, Position, Refused

T = TypeVar("T")

#: Plans are made while tables are small and then kept, so they must not be sequential scans. A stopped
#: owner lets go of its locks before the consumer group gives its partition to another.
_OPTIONS = (
    "-c enable_seqscan=off -c jit=off -c timezone=UTC -c synchronous_commit=on "
    "-c lock_timeout=4s -c idle_in_transaction_session_timeout=4s -c statement_timeout=60s"
)
#: Fences outlive every record that the transactions topic (7 days) can still bring.
_FENCE_DAYS = 8
_SWEEP_EVERY_S = 3600.0


class PostgresqlSink:
    """Tables of a schema; see the contract in sink.py."""

    def __init__(self, binding: RelationalBinding, catalog: Catalog, decoder: Decoder) -> None:
        self._target = Postgresql(binding)
        tables = self._target.tables(catalog)
        self._rows = Rows(tables, decoder)
        function, _ = apply_function(binding.binding, binding.schema_, tables)
        self._call = f"select {quote(binding.schema_)}.{quote(function)}(%s::jsonb)"
        self._connection: psycopg.Connection[Any] | None = None
        self._swept = time.monotonic()

    def claim(self, place: Place) -> Position:
        """Raise the epoch and read the position."""
        return self._guarded(
            place,
            lambda connection: claim(connection, self._target.table("tongbu_position"), place),
        )

    def apply(
        self, place: Place, at: Position, messages: Sequence[Message], to: Position
    ) -> str | None:
        """Everything in one round trip; record by record only where the target refuses one."""
        move = {
            "binding": place.binding,
            "topic": place.topic,
            "partition": place.partition,
            "epoch": at.epoch,
            "from": at.next_offset,
            "to": to.next_offset,
            "lane_offset": to.lane_offset,
        }
        records = self._rows.net(messages)
        try:
            done = self._guarded(place, lambda connection: self._write(connection, records, move))
        except Refused:
            done = self._guarded(place, lambda connection: self._apart(connection, records, move))
        self._sweep(place)
        return done

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _write(
        self, connection: psycopg.Connection[Any], records: list[Record], move: dict[str, Any]
    ) -> str | None:
        changes = self._rows.changes(records)
        batch = move | changes.puts
        batch |= {f"{table}-": gone for table, gone in changes.removals.items()}
        row = connection.execute(self._call, [_json(batch)], prepare=True).fetchone()
        return row[0] if row else None

    def _apart(
        self, connection: psycopg.Connection[Any], records: list[Record], move: dict[str, Any]
    ) -> str | None:
        """The same in one transaction with savepoints: what is refused is kept in tongbu_set_aside."""

        def put(some: list[Record]) -> None:
            try:
                with connection.transaction():
                    self._write(connection, some, {})
            except psycopg.Error as error:
                if is_data_error(error):
                    raise Refused(_said(error)) from None
                raise

        def set_aside(record: Record, reason: str) -> None:
            table = self._rows.root(record).name
            connection.execute(
                f"""insert into {self._target.table("tongbu_set_aside")} as s
                      (binding, table_name, record_key, version, reason, value)
                    select %(binding)s, %(table)s, %(key)s, %(version)s, %(reason)s, %(value)s
                     where not exists (select from {self._target.table(table)} t
                       where t.id = %(key)s and t.version >= %(version)s)
                    on conflict (binding, table_name, record_key) do update set version = excluded.version,
                      reason = excluded.reason, value = excluded.value, set_aside_at = now()
                    where s.version < excluded.version""",
                {
                    "binding": move["binding"],
                    "table": table,
                    "key": record.key,
                    "version": record.version,
                    "reason": reason,
                    "value": record.value,
                },
            )

        with connection.transaction():
            done = self._write(connection, [], move)
            if done is not None:
                divide(records, put, set_aside)
        return done

    def _sweep(self, place: Place) -> None:
        if time.monotonic() - self._swept < _SWEEP_EVERY_S:
            return
        self._swept = time.monotonic()
        sweep = (
            f"delete from {self._target.table('tongbu_fence')} "
            f"where fenced_at < now() - interval '{_FENCE_DAYS} days'"
        )
        self._guarded(place, lambda connection: connection.execute(sweep))

    def _guarded(self, place: Place, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Run work on the connection, opened if need be; say every error in the words of the contract."""
        if self._connection is None or self._connection.broken or self._connection.closed:
            self._connection = self._target.connect(options=_OPTIONS)
        try:
            return work(self._connection)
        except psycopg.Error as error:
            if is_fenced(error):
                raise Fenced(place) from None
            if is_data_error(error):
                raise Refused(_said(error)) from None
            raise explain(place.binding, error) from None


def _json(batch: dict[str, Any]) -> str:
    return orjson.dumps(batch, default=str).decode()


def _said(error: psycopg.Error) -> str:
    """The server's message without DETAIL and CONTEXT, which quote the row."""
    return f"{error.diag.message_primary or error} ({error.sqlstate})"

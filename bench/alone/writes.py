"""
How rows reach PostgreSQL: the apply function with JSON or with COPY before it, and unnest of arrays, by size.

All three do the same: upsert orders (without lines) where the version is newer and no fence stands against it, in one transaction.
Batches are interleaved, every row is an update; the medians are ms per batch.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from statistics import median
from typing import Any

import orjson
import psycopg

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding
from sink_writers import targets
from sink_writers.changes import Changes, Row
from sink_writers.dialects.postgresql_apply import quote
from sink_writers.sinks.postgresql import PostgresqlDatabase
from sink_writers.tables import VERSION, Column, TargetTable

SIZES = (1, 10, 50, 100, 200, 1000, 5000)
_SAMPLES: dict[str, Any] = {
    "text": "贴片电容 C1",
    "key": "erp:C0001",
    "integer": 17,
    "bigint": 1 << 40,
    "boolean": True,
    "date": datetime(2026, 1, 5, tzinfo=UTC).date(),
    "timestamp": datetime(2026, 1, 5, 12, 30, tzinfo=UTC),
    "json": {},
}


def compare(dsn: str, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure each size for so long; give size -> way -> ms per batch, and the way that is quickest."""
    schema = f"bench_{uuid.uuid4().hex[:8]}"
    spec = {
        "binding": "bench",
        "kind": "postgresql",
        "dsn": dsn,
        "schema": schema,
        "sources": ["x"],
    }
    binding = RelationalBinding.model_validate({**spec, "entities": {"sales_order": {}}})
    catalog = Catalog.load()
    targets.apply(binding, targets.plan(binding, catalog))
    (table,) = targets.tables(binding, catalog)
    ways = _Ways(binding, table, schema)
    try:
        report = {str(size): _size(ways, table, size, seconds, tell) for size in SIZES}
    finally:
        ways.connection.execute(f"drop schema {schema} cascade")
        ways.connection.close()
    return report


def _size(
    ways: _Ways, table: TargetTable, size: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    found: dict[str, list[float]] = {name: [] for name in ways.all}
    end, version = time.monotonic() + seconds, 0
    while time.monotonic() < end or len(found["json"]) < 4:
        for name, write in ways.all.items():
            version += 1
            rows = [_row(table, number, version) for number in range(size)]
            began = time.perf_counter()
            with ways.connection.transaction(), ways.connection.cursor() as cursor:
                write(cursor, rows)
            found[name].append((time.perf_counter() - began) * 1000)
    result: dict[str, Any] = {name: round(median(some[1:]), 2) for name, some in found.items()}
    quickest = min(result, key=lambda name: result[name])
    tell(f"{size} rows: {result}, quickest {quickest}")
    return {**result, "quickest": quickest}


def _row(table: TargetTable, number: int, version: int) -> Row:
    row = {each.name: _SAMPLES.get(each.kind, Decimal("1234.56")) for each in table.columns}
    return row | {"id": f"erp:SO{number:08d}", VERSION: version}


class _Ways:
    def __init__(self, binding: RelationalBinding, table: TargetTable, schema: str) -> None:
        self._table = table
        self._json, self._copied = PostgresqlDatabase(binding), PostgresqlDatabase(binding)
        self._json.copy_rows, self._copied.copy_rows = 1 << 31, 1
        for each in (self._json, self._copied):
            each.learn([table])
        self.connection: psycopg.Connection[Any] = self._json.connect()
        update = ", ".join(
            f"{quote(each.name)} = excluded.{quote(each.name)}" for each in table.values
        )
        names = ", ".join(quote(each.name) for each in table.columns)
        arrays = ", ".join(f"%s::{each.sql_type}[]" for each in table.columns)
        self._query = (
            f"insert into {schema}.{table.name} as t ({names}) select {names} from unnest({arrays}) x({names}) "
            f"where not exists (select from {schema}.tongbu_fence f where f.table_name = '{table.name}' "
            f"and f.record_key = x.id and f.version >= x.{VERSION}) "
            f"on conflict (id) do update set {update} where t.{VERSION} < excluded.{VERSION}"
        )
        self.all: dict[str, Callable[[Any, Sequence[Row]], None]] = {
            "json": partial(self._shipped, self._json),
            "unnest": self._unnest,
            "copy": partial(self._shipped, self._copied),
        }

    def _shipped(self, database: PostgresqlDatabase, cursor: Any, rows: Sequence[Row]) -> None:
        database.write(cursor, Changes({self._table.name: list(rows)}), None)

    def _unnest(self, cursor: Any, rows: Sequence[Row]) -> None:
        columns = [[_plain(each, row[each.name]) for row in rows] for each in self._table.columns]
        cursor.execute(self._query, columns, prepare=True)


def _plain(column: Column, value: Any) -> Any:
    return orjson.dumps(value).decode() if column.kind == "json" else value

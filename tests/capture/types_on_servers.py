"""Tables with a column per type, filled before the snapshot and while streaming, and what SELECT says of them."""

from __future__ import annotations

import struct
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from capturing import SCHEMA, SHIPPED, Captured
from type_table import DECODED, POSTGRESQL_TYPES, REFUSED_TYPES, REFUSED_VALUES

from schemas.captured import Table
from schemas.declarations import Source
from streams.stages.source_types import family, reader
from tongbu.deploy import captured as catalog

Values = dict[tuple[str, int], Any]


def columns(database: str) -> dict[str, str]:
    """Give column name -> type, decoded ones first; the names are Chinese, as a customer's may be."""
    types = [*DECODED[database], *REFUSED_TYPES[database]]
    return {f"列{number}": column_type for number, column_type in enumerate(types)}


def make_tables(captured: Captured) -> None:
    """Make `类型_snapshot`, filled, and `类型_streamed`, empty."""
    database = captured.database
    quote = '"' if database == "postgresql" else "`"
    own = ", ".join(f"{quote}{name}{quote} {kind} NULL" for name, kind in columns(database).items())
    if database == "postgresql":
        captured.run(*POSTGRESQL_TYPES)
    for table in ("snapshot", "streamed"):
        captured.run(f"CREATE TABLE {SCHEMA}.类型_{table} (id int PRIMARY KEY, {own})")
        if database == "postgresql":  # else most arrays are refused (test_toasted.py)
            captured.run(f"ALTER TABLE {SCHEMA}.类型_{table} REPLICA IDENTITY FULL")
    fill(captured, "snapshot")


def fill(captured: Captured, table: str) -> None:
    """Write the fixed table's values, the n-th of each type into the n-th row; refused ones into rows from 100 on. Once."""
    if captured.select(f"SELECT 1 FROM {SCHEMA}.类型_{table}"):
        return
    decoded, refused = DECODED[captured.database], REFUSED_VALUES[captured.database]
    lone = REFUSED_TYPES[captured.database]
    rows: dict[int, dict[str, str]] = {}
    for name, kind in columns(captured.database).items():
        for row, literal in enumerate(decoded.get(kind) or [lone[kind]]):
            rows.setdefault(row, {})[name] = literal
        for row, literal in enumerate(refused.get(kind, []), 100):
            rows.setdefault(row, {})[name] = literal
    quote = '"' if captured.database == "postgresql" else "`"
    statements = [
        f"INSERT INTO {SCHEMA}.类型_{table} (id, {', '.join(quote + name + quote for name in values)}) "
        f"VALUES ({row}, {', '.join(values.values())})"
        for row, values in rows.items()
    ]
    if captured.database != "postgresql":
        statements.insert(0, "SET sql_mode = 'ALLOW_INVALID_DATES'")
    captured.run(*statements)


def live_table(captured: Captured, table: str) -> Table:
    """Give a table as `tongbu apply` reads it from the catalog."""
    connector = f"sources/{SHIPPED[captured.database]}"
    source = Source(
        system="x",
        database=captured.database,  # type: ignore[arg-type]
        partition=0,
        zone="UTC",
        connector=connector,
    )
    name = f"{SCHEMA}.{table}"
    return catalog.read("test", source, captured.dsn, [name]).tables[0]


def selected(captured: Captured, table: Table, where: str = "id < 100") -> Values:
    """Give (column, id) -> value as SELECT returns it, in the form that docs/types.md documents."""
    asked = [each for each in table.columns if each.name != "id" and reader(each.type)]
    form = _postgresql if captured.database == "postgresql" else _mysql
    rows = captured.select(
        f"SELECT id, {', '.join(form(each.name, each.type) for each in asked)} "
        f"FROM {table.schema}.{table.name} WHERE {where}"
    )
    return {
        (column.name, row[0]): _plain(value, column.type)
        for row in rows
        for column, value in zip(asked, row[1:], strict=True)
    }


def _postgresql(name: str, kind: str) -> str:
    found, column = family(kind), f'"{name}"'
    form = {
        "date": "{} - date '1970-01-01'",
        "timestamp": "(extract(epoch from {}) * 1000000)::bigint",
        "timestamptz": "(extract(epoch from {}) * 1000000)::bigint",
        "time": "(extract(epoch from {}) * 1000000)::bigint",
        "text": "{}::text",
        "json": "{}::text",
        "interval": "{}::text",
    }.get(found.name if found else "", "{}")
    form = {"inet": "abbrev({})", "money": "{}::numeric", "hstore": "hstore_to_json({})::text"}.get(
        kind, form
    )
    if kind in ("enum[]", "json[]", "jsonb[]"):
        form = "{}::text[]"
    elif kind.startswith("character("):
        form = "{}"
    return form.format(column)


def _mysql(name: str, kind: str) -> str:
    column = f"`{name}`"
    if kind.startswith(("date", "timestamp")) and kind != "date":
        return f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {column})"
    if kind == "date":
        return f"DATEDIFF({column}, '1970-01-01')"
    if kind == "geometry":
        return f"CONCAT(ST_SRID({column}), ':', HEX(ST_AsWKB({column})))"
    return column


def _plain(value: Any, kind: str) -> Any:
    """Bring a driver's value into the documented form."""
    found = family(kind)
    name = found.name if found else ""
    if isinstance(value, list):
        return [_plain(each, kind.removesuffix("[]")) for each in value]
    if value is None:
        return None
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    if name == "boolean":
        return value in ("1", b"\1", True, 1)
    if kind.startswith("bit("):
        return int(value, 2) if isinstance(value, str) else int.from_bytes(value, "big")
    if name == "geometry":
        srid, _, wkb = (value if isinstance(value, str) else value.decode()).partition(":")
        return int(srid), bytes.fromhex(wkb)
    return value


def comparable(value: Any, kind: str, database: str) -> Any:
    """Make values comparable: NaN equals NaN, and JSON that a database spells anew is compared as JSON."""
    if value is not None and (kind == "hstore" or (kind == "json" and database == "mysql")):
        return orjson.loads(value)
    if isinstance(value, list):
        return [comparable(each, kind.removesuffix("[]"), database) for each in value]
    if (
        kind == "real" and isinstance(value, float) and value == value
    ):  # its shortest spelling is not Java's
        return struct.pack("f", value)
    if isinstance(value, Decimal | float) and value != value:  # NaN
        return "NaN"
    return value

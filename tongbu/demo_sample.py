"""One order's way, to look at: its rows in the ERP, its canonical record, its rows in the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from rich.console import Console
from rich.json import JSON
from rich.table import Table

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding
from sink_writers import targets
from streams.in_force import EntityPlan

_COLUMNS = 9
_ROWS = 4


def show(
    console: Console,
    plan: EntityPlan,
    dsn: str,
    record: Mapping[str, Any],
    bindings: Sequence[RelationalBinding],
) -> None:
    """Print the way of one order; `record` is its canonical record, `dsn` its source (PostgreSQL)."""
    _, _, code = record["id"].partition(":")
    console.print(f"\n[bold]In the ERP[/] ({plan.root})")
    for name, rows in _source_rows(plan, dsn, code).items():
        _print_rows(console, name, rows)
    console.print(f"\n[bold]As canonical record[/] ({plan.writer.topic})")
    console.print(JSON.from_data(_abridged(record), default=str, ensure_ascii=False))
    catalog = Catalog.load()
    for binding in bindings:
        for table in targets.tables(binding, catalog):
            if table.entity == plan.entity:
                if table.parent is None:
                    console.print(f"\n[bold]In the target[/] {binding.binding}")
                found = targets.read_rows(binding, catalog, table.name)
                own = [row for row in found if row[table.key[0]] == record["id"]]
                _print_rows(console, table.name, own)


def _source_rows(plan: EntityPlan, dsn: str, code: str) -> dict[str, list[dict[str, Any]]]:
    found = {}
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        (id_column,) = plan.declared.id_columns
        roots = connection.execute(_select(plan.root, [id_column]), [code]).fetchall()
        found[plan.root] = roots
        for part in plan.parts:
            joins = plan.declared.parts[part.alias].join
            keys = [roots[0][joins[column]] for column in part.parent_key] if roots else []
            if keys:
                query = _select(part.table, part.parent_key)
                found[part.table] = connection.execute(query, keys).fetchall()
    return found


def _select(table: str, columns: Sequence[str]) -> sql.Composed:
    wanted = sql.SQL(" and ").join(
        sql.SQL("{} = %s").format(sql.Identifier(column)) for column in columns
    )
    return sql.SQL("select * from {} where {}").format(sql.Identifier(*table.split(".")), wanted)


def _abridged(record: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is empty, and all lines but the first."""
    short = {}
    for name, value in record.items():
        if isinstance(value, list) and len(value) > 1:
            short[name] = [value[0], f"… {len(value) - 1} more"]
        elif value not in (None, {}, []):
            short[name] = value
    return short


def _print_rows(console: Console, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the first rows with their first columns that have a value."""
    if not rows:
        console.print(f"{name}: no row")
        return
    columns = [column for column, value in rows[0].items() if value not in (None, "")]
    table = Table(
        *columns[:_COLUMNS], box=None, header_style="dim", title=name, title_justify="left"
    )
    for row in rows[:_ROWS]:
        table.add_row(*(_cell(row[column]) for column in columns[:_COLUMNS]))
    console.print(table)
    more = [f"{len(rows) - _ROWS} more rows"] if len(rows) > _ROWS else []
    more += [f"{len(columns) - _COLUMNS} more columns"] if len(columns) > _COLUMNS else []
    if more:
        console.print(f"[dim]… {', '.join(more)}[/]")


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 24 else text[:23] + "…"

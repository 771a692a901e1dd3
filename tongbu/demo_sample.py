"""One order's way, to look at: its rows in the ERP, its canonical record, its rows in the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from rich.console import Console
from rich.json import JSON
from rich.text import Text

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding
from sink_writers import targets
from streams.in_force import EntityPlan

_COLUMNS = 10
_ROWS = 2


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
    console.print(JSON.from_data(_abridged(record), default=_cell, indent=None, ensure_ascii=False))
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
    """Print the first rows, each as its first columns that have a value."""
    if not rows:
        console.print(f"  {name}: no row")
    for row in rows[:_ROWS]:
        filled = [(column, value) for column, value in row.items() if value not in (None, "")]
        cells = [("  ", ""), (f"{name}  ", "bold cyan")]
        for column, value in filled[:_COLUMNS]:
            cells += [(f"{column} ", "dim"), (f"{_cell(value)}  ", "")]
        console.print(Text.assemble(*cells))
    if len(rows) > _ROWS:
        console.print(f"  [dim]… {len(rows) - _ROWS} more[/]", highlight=False)


def _cell(value: Any) -> str:
    """Spell a value in a few characters; decimals without the zeros that their column adds."""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    text = str(value)
    return text if len(text) <= 24 else text[:23] + "…"

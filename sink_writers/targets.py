"""Target tables as code: what is missing on a live target, making it, and reading tables back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pymysql

from schemas.catalog import Catalog
from schemas.declarations import Binding
from schemas.errors import TongbuError
from sink_writers.dialects.mariadb import Mariadb
from sink_writers.dialects.postgresql import Ledger, Postgresql
from sink_writers.tables import TargetTable

#: The database of each kind of binding.
_DIALECTS: dict[str, Any] = {"postgresql": Postgresql, "mariadb": Mariadb, "webhook": Ledger}


def dialect(binding: Binding) -> Any:
    """Give the database side of a binding."""
    return _DIALECTS[binding.kind](binding)


def tables(binding: Binding, catalog: Catalog) -> list[TargetTable]:
    """Give the target tables of a binding, parents before children; none for effects."""
    found: list[TargetTable] = dialect(binding).tables(catalog)
    return found


def plan(binding: Binding, catalog: Catalog) -> list[str]:
    """
    Give the statements that the live target still needs, in order; empty when it is up to date.

    Only additions. Raise TongbuError, with the statement to run, where a column has another type; TryLater
    where the target does not answer.
    """
    target = dialect(binding)
    found = target.tables(catalog)
    with closing(target.connect()) as connection:
        live = target.live(connection)
        statements = target.prepare(connection)
        statements += [sql for name, sql in target.own_tables().items() if name not in live]
        for table in found:
            statements += _missing(target, table, live.get(table.name))
        return [*statements, *target.routines(connection, found)]


def apply(binding: Binding, catalog: Catalog, statements: list[str]) -> None:  # noqa: ARG001 - says what for
    """Run the statements that `plan` gave; raise TongbuError with the one that the target refuses."""
    target = dialect(binding)
    with closing(target.connect()) as connection, connection.cursor() as cursor:
        for statement in statements:
            try:
                cursor.execute(statement)
            except (psycopg.Error, pymysql.Error) as error:
                raise TongbuError(
                    f"{binding.binding}: the target refuses `{statement.splitlines()[0]} …`: {error}",
                    "Grant the binding's user what it lacks, or run the statement as its owner.",
                ) from None


def read_rows(binding: Binding, catalog: Catalog, table: str) -> Iterator[dict[str, Any]]:
    """
    Read a table of the target (an entity's or a child's, see `tables`) in the byte order of its key.

    Values: str, int, bool, Decimal, date, aware datetime, and plain lists and dicts where the column is JSON.
    """
    target = dialect(binding)
    known = {each.name: each for each in target.tables(catalog)}
    if table not in known:
        raise TongbuError(
            f"binding {binding.binding} has no table {table}", f"Known: {', '.join(known)}."
        )
    yield from target.rows(known[table])


def _missing(target: Any, table: TargetTable, live: dict[str, str] | None) -> list[str]:
    if live is None:
        return [target.create(table)]
    for column in table.columns:
        if live.get(column.name, column.sql_type) != column.sql_type:
            raise TongbuError(
                f"{table.name}.{column.name} is {live[column.name]}, needed is {column.sql_type}",
                f"Tongbu only adds. If the change is right, run: {target.change(table, column)}",
            )
    return [target.add(table, column) for column in table.columns if column.name not in live]

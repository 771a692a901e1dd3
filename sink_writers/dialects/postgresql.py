"""PostgreSQL: types, table definitions, what the live database has, and reading rows back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
from psycopg import errors as pg

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding, WebhookBinding
from schemas.errors import TongbuError
from sink_writers.binding_tables import tables
from sink_writers.bindings import resolve
from sink_writers.dialects.postgresql_apply import apply_function, quote
from sink_writers.dialects.postgresql_mirror import PostgresqlMirror
from sink_writers.sink import TryLater
from sink_writers.sql import grouped
from sink_writers.tables import Column, Reference, TargetTable

_TYPES = {
    "key": "text",
    "text": "text",
    "integer": "integer",
    "bigint": "bigint",
    "double": "double precision",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp with time zone",
    "json": "jsonb",
}

#: The sink's own tables: ownership and position, fences of deleted rows, records that were refused.
POSITION = """binding text, topic text, partition_no integer, topic_id text not null, epoch bigint not null,
  next_offset bigint not null, lane_offset bigint not null, moved_at timestamptz not null default now(),
  primary key (binding, topic, partition_no)"""
FENCE = """table_name text, record_key text, version bigint not null,
  fenced_at timestamptz not null default now(), primary key (table_name, record_key)"""
SET_ASIDE = """binding text, table_name text, record_key text collate "C", partition_no integer not null,
  operation text not null, version bigint not null, reason text not null, waits_table text, waits_key text collate "C",
  value bytea not null, set_aside_at timestamptz not null default now(), tried_at timestamptz not null default now(),
  primary key (binding, table_name, record_key)"""
FILL = """binding text, source text, entity text, fill_id text not null, reached text not null default '',
  records bigint not null default 0, deleted bigint not null default 0, is_done smallint not null default 0,
  started_at timestamptz not null default now(), moved_at timestamptz not null default now(),
  primary key (binding, source, entity)"""
MIRROR = """binding text, table_name text, version bigint not null, description text not null,
  primary key (binding, table_name)"""
SEEN = """binding text, table_name text, digest text collate "C", primary key (binding, table_name, digest)"""
LEDGER = """binding text, id text, entity text not null, entity_id text not null,
  version bigint not null, attempts integer not null, outcome text, status integer,
  first_at timestamptz not null default now(), last_at timestamptz not null default now(),
  primary key (binding, id)"""


#: A refused login has no SQLSTATE at the client, only words.
_REFUSALS = ("authentication failed", "no pg_hba.conf entry", "permission denied", 'role "')


def sql_type(kind: str) -> str:
    """Spell a kind of value as format_type() does, so that what is asked and what is there compare as text."""
    return _TYPES.get(kind) or kind.replace("decimal", "numeric")


def connect(dsn: str, name: str, **options: Any) -> psycopg.Connection[Any]:
    """Open a connection in autocommit mode; raise TryLater where nobody answers, TongbuError where we are refused."""
    try:
        return psycopg.connect(
            dsn, autocommit=True, connect_timeout=5, application_name=f"tongbu {name}", **options
        )
    except psycopg.OperationalError as error:
        raise _unreachable(name, error) from None


def _unreachable(name: str, error: psycopg.OperationalError) -> TongbuError:
    said = " ".join(str(error).split())
    if any(words in said for words in _REFUSALS):
        return TongbuError(f"{name}: {said}", "Check user and password of the target.")
    return TryLater(f"{name}: PostgreSQL does not answer: {said}")


#: SQLSTATE classes that pass by themselves: connection, rollback (deadlock), resources, object in use, intervention.
_PASSING = {"08", "40", "53", "55", "57"}


class Postgresql:
    """The target tables of a relational binding in a schema of a PostgreSQL database."""

    def __init__(self, binding: RelationalBinding) -> None:
        self.name = binding.binding
        self.schema = binding.schema_
        self._binding = binding
        self._dsn = resolve(binding.dsn)
        self.mirror = PostgresqlMirror(self.schema)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """Open a connection to the target."""
        return connect(self._dsn, self.name, **options)

    def tables(self, catalog: Catalog) -> list[TargetTable]:
        """Give the tables, parents first."""
        return tables(self._binding, catalog, sql_type)

    def table(self, name: str) -> str:
        """Give the full, quoted name of a table."""
        return f"{quote(self.schema)}.{quote(name)}"

    def live(self, connection: Any) -> dict[str, dict[str, str]]:
        """Give table -> column -> type of the schema as it is."""
        return live(connection, self.schema)

    def required(self, connection: Any) -> dict[str, set[str]]:
        """Give table -> columns that must be given a value: not null and without a default."""
        rows = connection.execute(
            """select c.relname, a.attname from pg_class c
                 join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                where c.relnamespace = to_regnamespace(%s) and c.relkind in ('r', 'p')
                  and a.attnotnull and not a.atthasdef and a.attidentity = ''""",
            [quote(self.schema)],
        )
        return grouped(rows)

    def unique_keys(self, connection: Any) -> dict[str, set[str]]:
        """Give table -> unique keys, each as its column names, sorted and with commas between."""
        rows = connection.execute(
            """select c.relname, string_agg(a.attname, ',' order by a.attname collate "C")
                 from pg_index i join pg_class c on c.oid = i.indrelid
                 join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
                where c.relnamespace = to_regnamespace(%s) and i.indisunique and i.indpred is null
                  and i.indexprs is null group by c.relname, i.indexrelid""",
            [quote(self.schema)],
        )
        return grouped(rows)

    def loose(self, connection: Any) -> dict[str, set[str]]:
        """Give table -> text columns in which different texts may be equal."""
        rows = connection.execute(
            """select c.relname, a.attname from pg_class c
                 join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                 join pg_collation l on l.oid = a.attcollation and not l.collisdeterministic
                where c.relnamespace = to_regnamespace(%s)""",
            [quote(self.schema)],
        )
        return grouped(rows)

    def tighten(self, table: str, column: str) -> str:
        """Give the statement that makes a column compare by bytes."""
        return f'alter table {self.table(table)} alter column {quote(column)} type text collate "C"'

    def fits(self, column: Column, live_type: str) -> bool:
        """Tell whether a column that is there takes the values: as they are, or refuses one that is too long."""
        text = column.sql_type == "text" and re.fullmatch(r"character varying(\(\d+\))?", live_type)
        return bool(text) or live_type == column.sql_type

    def column(self, name: str) -> str:
        """Give the quoted name of a column."""
        return quote(name)

    def is_privilege(self, error: Exception) -> bool:
        """Tell whether the user lacks a privilege."""
        return isinstance(error, pg.InsufficientPrivilege)

    def prepare(self, connection: Any) -> list[str]:
        """Give what must be there before any table."""
        if connection.execute("select to_regnamespace(%s)", [quote(self.schema)]).fetchone()[0]:
            return []
        return [f"create schema {quote(self.schema)}"]

    def explain(self, error: psycopg.Error) -> TongbuError:
        """Say an error in the words of the contract."""
        return explain(self.name, error)

    def refusal(self, error: psycopg.Error) -> str | None:
        """Say a data error in the words of the contract."""
        return refusal(error)

    def passes(self, error: psycopg.Error) -> bool:
        """Tell whether what stands against a statement passes by itself."""
        return passes(error)

    def own_tables(self) -> dict[str, str]:
        """Give name -> definition of the tables that hold the sink's own state."""
        own = {
            "tongbu_position": POSITION,
            "tongbu_fence": FENCE,
            "tongbu_set_aside": SET_ASIDE,
            "tongbu_fill": FILL,
            "tongbu_mirror": MIRROR,
            "tongbu_seen": SEEN,
        }
        return {name: f"create table {self.table(name)} (\n  {body})" for name, body in own.items()}

    def create(self, table: TargetTable) -> str:
        """Give the statement that creates a table."""
        parts = [_define(column, table) for column in table.columns]
        parts.append(f"primary key ({', '.join(map(quote, table.key))})")
        if table.parent:
            parts.append(
                f"foreign key ({quote(table.id)}) references {self.table(table.parent)} ({quote(table.parent_id)})"
            )
        return f"create table {self.table(table.name)} (\n  " + ",\n  ".join(parts) + ")"

    def add(self, table: TargetTable, column: Column) -> str:
        """Give the statement that adds a column."""
        return f"alter table {self.table(table.name)} add column {_define(column, table)}"

    def foreign_keys(self, connection: Any) -> set[str]:
        """Give the names of the foreign keys that are there."""
        found = connection.execute(
            "select conname from pg_constraint where contype = 'f' and connamespace = to_regnamespace(%s)",
            [quote(self.schema)],
        )
        return {name for (name,) in found.fetchall()}

    def refer(self, table: TargetTable, reference: Reference) -> list[str]:
        """Give the statements that make a foreign key, and the index without which a delete of its parent crawls."""
        name, column = quote(reference.name(table)), quote(reference.column)
        return [
            f"create index if not exists {name} on {self.table(table.name)} ({column})",
            f"alter table {self.table(table.name)} add constraint {name} foreign key ({column}) "
            f"references {self.table(reference.table)} ({quote(reference.id)}) deferrable",
        ]

    def change(self, table: TargetTable, column: Column) -> str:
        """Give the statement that a person has to judge: another type for a column that is there."""
        return (
            f"alter table {self.table(table.name)} "
            f"alter column {quote(column.name)} type {column.sql_type}"
        )

    def routines(self, connection: Any, found: list[TargetTable]) -> list[str]:
        """Give the apply functions where they are missing. Names have a hash: a changed one never meets an old writer."""
        statements = []
        for staged in (False, True):
            name, statement = apply_function(self.name, self.schema, found, staged=staged)
            there = connection.execute(
                "select to_regproc(%s)", [f"{quote(self.schema)}.{quote(name)}"]
            ).fetchone()[0]
            statements += [] if there else [statement]
        return statements

    def rows(self, table: TargetTable) -> Iterator[dict[str, Any]]:
        """Read a table in the order of its key, by bytes; Decimal, aware datetime, date, and plain JSON values."""
        names = ", ".join(quote(column.name) for column in table.columns)
        order = ", ".join(_bytewise(column) for column in table.columns if column.name in table.key)
        with closing(self.connect()) as connection, connection.transaction():
            cursor = connection.cursor(f"read {table.name}")
            cursor.itersize = 5000
            cursor.execute(f"select {names} from {self.table(table.name)} order by {order}")
            for row in cursor:
                yield dict(zip((column.name for column in table.columns), row, strict=True))


class Ledger:
    """The tables of an effects binding: its position and its ledger, in the default schema of the hub database."""

    def __init__(self, binding: WebhookBinding) -> None:
        self.name = binding.binding
        self._dsn = resolve(binding.ledger)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """Open a connection to the ledger's database."""
        return connect(self._dsn, self.name, **options)

    def tables(self, catalog: Catalog) -> list[TargetTable]:  # noqa: ARG002 - the same shape as Postgresql
        """Effects have no target tables."""
        return []

    def live(self, connection: Any) -> dict[str, dict[str, str]]:
        """Give table -> column -> type as it is."""
        return live(connection, "public")

    def prepare(self, connection: Any) -> list[str]:  # noqa: ARG002
        """Nothing: the default schema is there."""
        return []

    def own_tables(self) -> dict[str, str]:
        """Give name -> definition of position and ledger."""
        own = {"tongbu_position": POSITION, "tongbu_effect_ledger": LEDGER}
        return {name: f"create table public.{name} (\n  {body})" for name, body in own.items()}

    def routines(self, connection: Any, found: list[TargetTable]) -> list[str]:  # noqa: ARG002
        """None."""
        return []


def live(connection: Any, schema: str) -> dict[str, dict[str, str]]:
    """Give table -> column -> type of a schema, as format_type() spells types."""
    found: dict[str, dict[str, str]] = {}
    rows = connection.execute(
        """select c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where n.nspname = %s and c.relkind in ('r', 'p')""",
        [schema],
    )
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


def is_fenced(error: psycopg.Error) -> bool:
    """Tell whether the compare-and-set of the position failed (raised by the apply function)."""
    return error.sqlstate == "TB001"


def is_read_only(error: psycopg.Error) -> bool:
    """Tell whether the server takes no writes: after a failover another one does, so another connection is needed."""
    return isinstance(error, pg.ReadOnlySqlTransaction)


def refusal(error: psycopg.Error) -> str | None:
    """
    Say why driver or target refuse a record as it is, without a value of it; None for any other error.

    By SQLSTATE class: 21 (a row twice in one statement), 22 (data), 23 (constraint), 44 (of a view), 54 (limits), and what a
    trigger raises. The words for 22 and a trigger's may quote the value, so the condition stands for them; DETAIL and
    CONTEXT of all quote the row.
    """
    if isinstance(error, psycopg.DataError | pg.RaiseException):
        said = re.sub(r"\B(?=[A-Z])", " ", type(error).__name__).lower()
    elif (error.sqlstate or "")[:2] in ("21", "23", "44", "54"):
        said = str(error.diag.message_primary)
    else:
        return None
    return f"{said} ({error.sqlstate})" if error.sqlstate else said


def passes(error: psycopg.Error) -> bool:
    """Tell whether what an error that is no refusal says passes by itself."""
    kinds = psycopg.OperationalError | psycopg.InterfaceError | pg.IdleInTransactionSessionTimeout
    return isinstance(error, kinds) or is_read_only(error) or (error.sqlstate or "")[:2] in _PASSING


def explain(name: str, error: psycopg.Error) -> TongbuError:
    """Sort any other error: what passes by itself is TryLater, the rest needs a person."""
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, pg.UndefinedTable | pg.UndefinedFunction | pg.InvalidSchemaName):
        return TryLater(
            f"{name}: the target tables are missing or older than the schemas",
            "`tongbu apply --only targets` makes them.",
        )
    if passes(error):
        return TryLater(f"{name}: PostgreSQL can't take it now: {said}")
    return TongbuError(
        f"{name}: PostgreSQL refuses to work: {said} ({error.sqlstate})",
        "Compare privileges and tables with what `tongbu plan` prints.",
    )


def _define(column: Column, table: TargetTable) -> str:
    required = " not null" if column.path == ("meta", "version") else ""
    # Ids compare as UTF-8 bytes everywhere, and a fill walks along them.
    bytewise = ' collate "C"' if column.kind == "key" else ""
    return f"{quote(column.name)} {column.sql_type}{bytewise}" + (
        "" if column.name in table.key else required
    )


def _bytewise(column: Column) -> str:
    return quote(column.name) + (' collate "C"' if column.sql_type == "text" else "")

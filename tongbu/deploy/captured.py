"""The captured schema, from the live catalog of a source."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pymysql

from schemas.captured import Column, Table
from schemas.control import CapturedSchema
from schemas.declarations import Source
from schemas.errors import ServiceUnavailable, TongbuError
from streams.stages.source_types import UNPARSEABLE, stopping
from tongbu.deploy.deployment import connector_settings

# Generated columns are not in the log, so they are none here. A type of one's own is spelt as what its values are: an enum as `enum`, a domain as its base type.
_PG_COLUMNS = """
WITH RECURSIVE base (type, oid, modifier) AS (
  SELECT oid, oid, NULL::int FROM pg_type
  UNION ALL
  SELECT base.type, t.typbasetype, t.typtypmod
  FROM base JOIN pg_type t ON t.oid = base.oid WHERE t.typtype = 'd'
)
SELECT n.nspname || '.' || c.relname, a.attname,
  CASE
    WHEN t.typtype = 'e' THEN 'enum'
    WHEN e.typtype = 'e' THEN 'enum[]'
    WHEN t.typnamespace <> 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typelem = 0 THEN t.typname
    ELSE format_type(b.oid, coalesce(b.modifier, a.atttypmod))
  END,
  NOT a.attnotnull, a.atttypid <> t.oid
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
JOIN base b ON b.type = a.atttypid JOIN pg_type t ON t.oid = b.oid LEFT JOIN pg_type e ON e.oid = t.typelem
WHERE t.typtype <> 'd' AND n.nspname || '.' || c.relname = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attgenerated = ''
ORDER BY c.oid, a.attnum"""
_PG_KEYS = """
SELECT n.nspname || '.' || c.relname, a.attname
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE i.indisprimary AND k.place <= i.indnkeyatts AND n.nspname || '.' || c.relname = ANY(%s)
ORDER BY c.oid, k.place"""
_PG_FULL = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relreplident = 'f' AND n.nspname || '.' || c.relname = ANY(%s) AND NOT EXISTS (
  SELECT FROM pg_partition_tree(c.oid) part JOIN pg_class each ON each.oid = part.relid
  WHERE part.isleaf AND each.relreplident <> 'f')"""
# Of a partitioned table the identity of each partition counts. A deferrable key is none.
_PG_UNTOLD = """
SELECT n.nspname || '.' || c.relname, min(CASE WHEN part.relreplident = 'i' THEN 'i' ELSE 'n' END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT c.oid WHERE c.relkind = 'r'
  UNION ALL SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf AND c.relkind = 'p'
) leaf (oid)
JOIN pg_class part ON part.oid = leaf.oid JOIN pg_index k ON k.indrelid = part.oid AND k.indisprimary
WHERE n.nspname || '.' || c.relname = ANY(%s) AND (
  part.relreplident = 'n' OR part.relreplident = 'd' AND NOT k.indimmediate
  OR part.relreplident = 'i' AND NOT EXISTS (
    SELECT FROM pg_index i WHERE i.indrelid = part.oid AND i.indisreplident
    AND (k.indkey::int2[])[0:k.indnkeyatts - 1] <@ (i.indkey::int2[])[0:i.indnkeyatts - 1]))
GROUP BY 1"""
#: REPLICA IDENTITY under which the log does not tell the primary key -> what comes of it.
_UNTOLD = {
    "n": "has no replica identity (NOTHING, or its primary key is DEFERRABLE): once published, its own UPDATEs would fail",
    "i": "has REPLICA IDENTITY USING INDEX of other columns than its primary key: its DELETEs don't tell which row is gone",
}
_PG_ROWS = """
SELECT c.reltuples::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = ANY(%s)"""
_MYSQL_ROWS = """
SELECT table_rows FROM information_schema.tables WHERE CONCAT(table_schema, '.', table_name) IN %s"""
_MYSQL_COLUMNS = """
SELECT CONCAT(table_schema, '.', table_name), column_name, column_type, is_nullable = 'YES', 0
FROM information_schema.columns WHERE CONCAT(table_schema, '.', table_name) IN %s
ORDER BY table_schema, table_name, ordinal_position"""
_MYSQL_KEYS = """
SELECT CONCAT(table_schema, '.', table_name), column_name
FROM information_schema.key_column_usage
WHERE constraint_name = 'PRIMARY' AND CONCAT(table_schema, '.', table_name) IN %s
ORDER BY table_schema, table_name, ordinal_position"""


_PG_TABLES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1"""
_MYSQL_TABLES = """
SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema = DATABASE() ORDER BY 1"""

#: What a driver raises where a source gives no answer (`unanswered`).
IN_VAIN = (
    psycopg.OperationalError,
    psycopg.errors.InsufficientPrivilege,
    pymysql.err.OperationalError,
)
#: MariaDB's and MySQL's errors of a user who may not do what is asked: with a database, table, column, or at all.
_DENIED = (1044, 1142, 1143, 1227)


def read(name: str, source: Source, dsn: str, tables: list[str]) -> CapturedSchema:
    """
    Read columns, types and keys of the tables.

    Raise ServiceUnavailable where the source does not answer, TongbuError for a table that is not there or
    can't be captured without harm.
    """
    found = []
    for each in examine(name, source, dsn, tables):
        if isinstance(each, TongbuError):
            raise each
        found.append(each)
    return CapturedSchema(source=name, database=source.database, tables=tuple(found))


def examine(name: str, source: Source, dsn: str, tables: list[str]) -> list[Table | TongbuError]:
    """Read each table as `read` does; where one can't be captured without harm, the error stands in its place."""
    columns, keys, identities = (_postgresql if source.database == "postgresql" else _mysql)(
        name, dsn, tables
    )
    own: dict[str, list[Any]] = {}
    for row in columns:
        own.setdefault(row[0], []).append(row)
    found: list[Table | TongbuError] = []
    for table in tables:
        try:
            found.append(_table(name, source, table, own.get(table, []), keys, identities))
        except TongbuError as error:
            found.append(error)
    return found


def listed(name: str, source: Source, dsn: str) -> list[str]:
    """Give all tables that a source's database has and the DSN's user sees; raise ServiceUnavailable."""
    try:
        if source.database == "postgresql":
            with psycopg.connect(dsn, connect_timeout=5) as connection:
                return [table for (table,) in connection.execute(_PG_TABLES)]
        with pymysql.connect(**mysql_arguments(dsn)) as mysql, mysql.cursor() as cursor:
            cursor.execute(_MYSQL_TABLES)
            return [table for (table,) in cursor.fetchall()]
    except IN_VAIN as error:
        raise unanswered(name, error) from error


def estimate(name: str, source: Source, dsn: str, tables: list[str]) -> int | None:
    """Give about how many rows tables have, as the server's statistics know it; None where they don't."""
    try:
        if source.database == "postgresql":
            with psycopg.connect(dsn, connect_timeout=5) as connection:
                found = connection.execute(_PG_ROWS, [tables]).fetchall()
        else:
            with pymysql.connect(**mysql_arguments(dsn)) as my, my.cursor() as cursor:
                found = _fetch(cursor, _MYSQL_ROWS, tables)
    except IN_VAIN as error:
        raise unanswered(name, error) from error
    counts = [int(count or 0) for (count,) in found]
    return sum(counts) if counts and all(count > 0 for count in counts) else None


def _table(
    name: str,
    source: Source,
    table: str,
    columns: list[Any],
    keys: list[Any],
    identities: dict[str, str],
) -> Table:
    is_whole = identities.get(table) == "f"
    own = [
        Column(name=column, type=type_, nullable=bool(null))
        for _, column, type_, null, _ in columns
    ]
    if not own:
        raise TongbuError(
            f"source {name}: there is no table `{table}`",
            "Correct the mapping that reads it (names are case-sensitive), or create the table.",
        )
    if source.database == "mariadb":
        _refuse_unparseable(name, table, own)
    if source.database == "postgresql":
        domains = {column for _, column, _, _, is_domain in columns if is_domain}
        own = _without_stopping(name, source, table, own, domains, is_whole)
    key = tuple(column for of, column in keys if of == table)
    schema, _, plain = table.partition(".")
    keyless = not key and is_whole
    if keyless:
        key = tuple(column.name for column in own)
    if not key:
        quote = '"' if source.database == "postgresql" else "`"
        quoted = ".".join(f"{quote}{part}{quote}" for part in (schema, plain))
        raise TongbuError(
            f"source {name}: table `{table}` has no primary key: once published, its own UPDATEs would fail",
            f"Ask its DBA for a primary key, e.g. ALTER TABLE {quoted} ADD PRIMARY KEY (...)"
            + (" (or REPLICA IDENTITY FULL)." if source.database == "postgresql" else "."),
        )
    if why := _UNTOLD.get(identities.get(table, "")):
        raise TongbuError(
            f"source {name}: table `{table}` {why}",
            f'Ask its DBA for ALTER TABLE "{schema}"."{plain}" REPLICA IDENTITY DEFAULT (each partition\'s, too; FULL where '
            "the primary key is DEFERRABLE).",
        )
    return Table(schema=schema, name=plain, columns=tuple(own), key=key, keyless=keyless)


def _refuse_unparseable(source: str, table: str, columns: list[Column]) -> None:
    for column in columns:
        if UNPARSEABLE.fullmatch(column.type):
            raise TongbuError(
                f"source {source}: column `{column.name}` of table `{table}` is {column.type}, which Debezium can't read",
                "Its connector would stop at this table: make it a text column, or don't map the table.",
            )


def _without_stopping(
    name: str, source: Source, table: str, columns: list[Column], domains: set[str], whole: bool
) -> list[Column]:
    """Give the columns that can be captured; raise TongbuError for one that would stop the connector and is not left out of it."""
    found = {
        column.name: f"{column.type}, which would stop the connector {why}"
        for column in columns
        if (why := stopping(column.type, domain=column.name in domains, whole=whole))
    }
    left_out = _left_out(source) if found else []
    for column, what in found.items():
        if not any(pattern.fullmatch(f"{table}.{column}") for pattern in left_out):
            quoted = ".".join(f'"{part}"' for part in table.split(".", 1))
            full = f"Have its DBA run ALTER TABLE {quoted} REPLICA IDENTITY FULL (each partition's, too), or leave"
            raise TongbuError(
                f"source {name}: column `{column}` of table `{table}` is {what}",
                f"{'Leave' if whole else full} the column out: `column.exclude.list` in connectors-config/{source.connector}.",
            )
    return [column for column in columns if column.name not in found]


def _left_out(source: Source) -> list[re.Pattern[str]]:
    """Give the patterns of columns that a source's connector is told to leave out."""
    own = connector_settings(source.connector)
    listed = own.get("column.exclude.list", "").split(",")
    return [re.compile(each.strip(), re.IGNORECASE) for each in listed if each.strip()]


#: Columns, keys, and the replica identities that matter: `f` (FULL), or one of `_UNTOLD`.
_Asked = tuple[list[Any], list[Any], dict[str, str]]


def _postgresql(source: str, dsn: str, tables: list[str]) -> _Asked:
    try:
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            columns = connection.execute(_PG_COLUMNS, [tables]).fetchall()
            keys = connection.execute(_PG_KEYS, [tables]).fetchall()
            identities = {row[0]: "f" for row in connection.execute(_PG_FULL, [tables])}
            identities |= dict(connection.execute(_PG_UNTOLD, [tables]).fetchall())
            return columns, keys, identities
    except IN_VAIN as error:
        raise unanswered(source, error) from error


def _mysql(source: str, dsn: str, tables: list[str]) -> _Asked:
    try:
        with pymysql.connect(**mysql_arguments(dsn)) as connection, connection.cursor() as cursor:
            return (
                _fetch(cursor, _MYSQL_COLUMNS, tables),
                _fetch(cursor, _MYSQL_KEYS, tables),
                {},
            )
    except IN_VAIN as error:
        raise unanswered(source, error) from error


def _fetch(cursor: Any, sql: str, tables: Iterable[str]) -> list[Any]:
    if not (listed := tuple(tables)):
        return []  # an empty list is no SQL
    cursor.execute(sql, [listed])
    return list(cursor.fetchall())


def mysql_arguments(dsn: str) -> dict[str, Any]:
    """Give PyMySQL's arguments for a DSN in URL form."""
    url = urlsplit(dsn)
    return {
        "host": url.hostname,
        "port": url.port or 3306,
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "database": url.path.lstrip("/") or None,
        "charset": "utf8mb4",
        "connect_timeout": 5,
    }


def unanswered(source: str, error: Exception) -> TongbuError:
    """Say why a source gave no answer: its server refuses the question, or is not there (ServiceUnavailable)."""
    why = str(error).splitlines()[0]
    if isinstance(error, psycopg.errors.InsufficientPrivilege) or error.args[0] in _DENIED:
        return TongbuError(
            f"source {source} refuses what it is asked: {why}",
            "Have its DBA give the user what connectors-config/grants says, and what the message names.",
        )
    return ServiceUnavailable(
        f"source {source} does not answer: {why}", "Is it up? `tongbu status` tells."
    )

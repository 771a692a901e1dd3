"""MariaDB: types, table definitions, what the live database has, and reading rows back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
import pymysql
from pymysql.constants import CLIENT, ER
from pymysql.cursors import SSCursor

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from sink_writers.binding_tables import cycle, tables
from sink_writers.bindings import resolve
from sink_writers.dialects.mariadb_connection import MeasuredConnection
from sink_writers.dialects.mariadb_mirror import MariadbMirror, quote
from sink_writers.sink import TryLater
from sink_writers.sql import grouped
from sink_writers.tables import Column, Reference, TargetTable

_TYPES = {
    "key": "varchar(255)",
    "text": "text",
    "integer": "int(11)",
    "bigint": "bigint(20)",
    "double": "double",
    "boolean": "tinyint(1)",
    "date": "date",
    "timestamp": "datetime(6)",
    "json": "longtext",
}

#: Ids compare as UTF-8 bytes everywhere; plain utf8mb4_bin would take 'C1' and 'C1 ' for the same key.
_OPTIONS = "engine=InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin"

_POSITION = """binding varchar(64), topic varchar(249), partition_no int, topic_id varchar(64) not null,
  epoch bigint not null, connection_id bigint not null, next_offset bigint not null, lane_offset bigint not null,
  moved_at datetime(6) not null default now(6), primary key (binding, topic, partition_no)"""
_FENCE = """table_name varchar(64), record_key varchar(255), version bigint not null,
  fenced_at datetime(6) not null default now(6), primary key (table_name, record_key)"""
_SET_ASIDE = """binding varchar(64), table_name varchar(64), record_key varchar(255), partition_no int not null,
  operation varchar(16) not null, version bigint not null, reason text not null,
  waits_table varchar(64), waits_key varchar(255), value longblob not null,
  set_aside_at datetime(6) not null default now(6), tried_at datetime(6) not null default now(6),
  primary key (binding, table_name, record_key)"""
_FILL = """binding varchar(64), source varchar(64), entity varchar(129), fill_id varchar(250) not null,
  reached varchar(255) not null default '', records bigint not null default 0, deleted bigint not null default 0,
  is_done smallint not null default 0, started_at datetime(6) not null default now(6),
  moved_at datetime(6) not null default now(6), primary key (binding, source, entity)"""

_MIRROR = """binding varchar(64), table_name varchar(64), version bigint not null, description longtext not null,
  primary key (binding, table_name)"""

_SEEN = """binding varchar(64), table_name varchar(64), digest char(64),
  primary key (binding, table_name, digest)"""

#: A stopped owner lets go of its locks before the consumer group gives its partition to another.
_SESSION = (
    "set session sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', "
    "transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 4, "
    "idle_transaction_timeout = 4, max_statement_time = 60"
)

#: Every server's default has been at least that; statements that can't be divided (1,000 keys) fit.
_LEAST_PACKET = 1 << 20

#: A text that is too long for one of these is refused, as the session is strict.
_TEXT = re.compile(r"varchar\(\d+\)|(medium|long)?text")

_MISSING = {ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR, ER.BAD_DB_ERROR}
_REFUSED_LOGIN = {ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR}
_DATA = {
    ER.DATA_TOO_LONG,
    ER.WARN_DATA_OUT_OF_RANGE,
    ER.TRUNCATED_WRONG_VALUE,
    ER.TRUNCATED_WRONG_VALUE_FOR_FIELD,
    ER.WARN_DATA_TRUNCATED,
    ER.BAD_NULL_ERROR,
    ER.INVALID_USE_OF_NULL,
    ER.NO_DEFAULT_FOR_FIELD,
    ER.NO_REFERENCED_ROW_2,
    ER.ROW_IS_REFERENCED_2,
    ER.DUP_ENTRY,
    ER.CONSTRAINT_FAILED,
    1644,  # what a trigger raises (SIGNAL)
    ER.VIEW_CHECK_FAILED,
    3819,  # MySQL: a CHECK constraint
}
_KINDS = {number: name for name, number in vars(ER).items() if isinstance(number, int)}
_NAMED = re.compile(r"(column|key|constraint) [`']([\w.`]+)[`']", re.IGNORECASE)
_LACKING = {ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR}
#: What a server says that passes by itself, or may; where its words have an errno, by that.
_PASSING = {
    # locks
    ER.LOCK_WAIT_TIMEOUT,
    ER.LOCK_DEADLOCK,
    ER.LOCK_TABLE_FULL,
    ER.CANT_LOCK,
    ER.CANT_UPDATE_WITH_READLOCK,
    ER.CHECKREAD,
    ER.TABLE_DEF_CHANGED,
    1637,  # too many transactions at once
    1799,  # too many changes while an index is made
    # room on disk and in memory
    3,  # MySQL: a file can't be written
    20,  # MySQL: no space
    28,  # no space
    ER.CANT_CREATE_FILE,
    ER.CANT_CREATE_TABLE,
    ER.DISK_FULL,
    ER.ERROR_ON_CLOSE,
    ER.ERROR_ON_READ,
    ER.ERROR_ON_RENAME,
    ER.ERROR_ON_WRITE,
    ER.GET_ERRNO,
    ER.RECORD_FILE_FULL,
    ER.ERROR_DURING_COMMIT,
    ER.OUTOFMEMORY,
    ER.OUT_OF_SORTMEMORY,
    ER.OUT_OF_RESOURCES,
    ER.CANT_CREATE_THREAD,
    1878,  # a temporary file can't be written
    # the connection, and limits of connections
    ER.CON_COUNT_ERROR,
    ER.TOO_MANY_USER_CONNECTIONS,
    ER.USER_LIMIT_REACHED,
    ER.ABORTING_CONNECTION,
    ER.NEW_ABORTING_CONNECTION,
    ER.NET_READ_ERROR,
    1927,  # MariaDB: the connection was killed
    4031,  # MySQL: it was idle for too long
    # a server that ends, or may not be written
    ER.SERVER_SHUTDOWN,
    ER.NORMAL_SHUTDOWN,
    ER.FORCING_CLOSE,
    ER.UNKNOWN_COM_ERROR,  # a node that is not in its cluster
    ER.OPTION_PREVENTS_STATEMENT,
    ER.READ_ONLY_TRANSACTION,
    1792,  # a transaction that may only read
    1836,  # read only
    3032,  # MySQL: offline
    # a statement that was ended
    ER.QUERY_INTERRUPTED,
    ER.STATEMENT_TIMEOUT,
    3024,  # MySQL: it took too long
}
#: Of the system and of storage engines: no room, too many files, memory, locks.
_PASSING_ERRNO = {11, 12, 23, 24, 28, 122, 135, 146, 149}
_ERRNO = re.compile(r"errno: (\d+)")
#: What the client itself finds, e.g. that the connection is lost; below them and above are the server's.
_CLIENT = range(2000, 3000)


def sql_type(kind: str) -> str:
    """Spell a kind of value as information_schema does, so that what is asked and what is there compare as text."""
    return _TYPES.get(kind, kind)


class Mariadb:
    """The target tables of a relational binding in a MariaDB database."""

    session = _SESSION
    options = _OPTIONS

    def __init__(self, binding: RelationalBinding) -> None:
        self.name = binding.binding
        self._binding = binding
        self._dsn = urlsplit(resolve(binding.dsn))
        self.mirror = MariadbMirror(binding.kind, lambda: self.options)

    def connect(self, **options: Any) -> pymysql.Connection[Any]:
        """Open a connection; raise TryLater where nobody answers, TongbuError where we are refused."""
        try:
            connection = MeasuredConnection(
                host=self._dsn.hostname,
                port=self._dsn.port or 3306,
                user=unquote(self._dsn.username or ""),
                password=unquote(self._dsn.password or ""),
                database=self._dsn.path.lstrip("/"),
                charset="utf8mb4",
                connect_timeout=5,
                # Matched rows count, not changed ones: the compare-and-set needs to know.
                client_flag=CLIENT.FOUND_ROWS,
                **{"autocommit": True} | options,
            )
        except pymysql.Error as error:
            raise explain(self.name, error) from None
        if connection.longest < _LEAST_PACKET - 2:
            connection.close()
            raise TongbuError(
                f"{self.name}: the target's max_allowed_packet is below 1 MiB, too small to work with",
                "Set it to 16 MiB or more, globally, and in the server's configuration.",
            )
        return connection

    def tables(self, catalog: Catalog) -> list[TargetTable]:
        """Give the tables, parents first."""
        found = tables(self._binding, catalog, sql_type)
        if circle := cycle(found):
            raise TongbuError(
                f"binding {self.name}: {' -> '.join(circle)} refer to each other in a circle",
                "MariaDB and MySQL check foreign keys row by row: drop one of these references from the binding.",
            )
        return found

    def table(self, name: str) -> str:
        """Give the quoted name of a table."""
        return quote(name)

    def live(self, connection: Any) -> dict[str, dict[str, str]]:
        """Give table -> column -> type of the database as it is."""
        found: dict[str, dict[str, str]] = {}
        with connection.cursor() as cursor:
            cursor.execute(
                "select table_name, column_name, column_type from information_schema.columns "
                "where table_schema = database()"
            )
            for table, column, kind in cursor.fetchall():
                found.setdefault(table, {})[column] = kind
        return found

    def required(self, connection: Any) -> dict[str, set[str]]:
        """Give table -> columns that must be given a value: not null and without a default."""
        with connection.cursor() as cursor:
            cursor.execute(
                "select table_name, column_name from information_schema.columns where table_schema = database() "
                "and is_nullable = 'NO' and column_default is null and extra not like '%auto_increment%'"
            )
            return grouped(cursor.fetchall())

    def unique_keys(self, connection: Any) -> dict[str, set[str]]:
        """Give table -> unique keys, each as its column names, sorted and with commas between."""
        with connection.cursor() as cursor:
            cursor.execute(
                "select table_name, group_concat(column_name order by binary column_name) "
                "from information_schema.statistics where table_schema = database() and non_unique = 0 "
                "and sub_part is null group by table_name, index_name"
            )
            return grouped(cursor.fetchall())

    def loose(self, connection: Any) -> dict[str, set[str]]:
        """Give table -> text columns in which different texts may be equal."""
        with connection.cursor() as cursor:
            cursor.execute(
                "select table_name, column_name from information_schema.columns where table_schema = database() "
                "and collation_name not like '%\\_bin'"
            )
            return grouped(cursor.fetchall())

    def tighten(self, table: str, column: str) -> str:
        """Give the statement that makes a column compare by bytes."""
        collation = self.options.rpartition(" ")[2]
        return (
            f"alter table {quote(table)} modify {quote(column)} varchar(255) "
            f"character set utf8mb4 collate {collation} not null"
        )

    def fits(self, column: Column, live_type: str) -> bool:
        """Tell whether a column that is there takes the values: as they are, or refuses one that is too long."""
        is_text = column.kind in ("text", "key")
        return live_type == column.sql_type or (is_text and bool(_TEXT.fullmatch(live_type)))

    def column(self, name: str) -> str:
        """Give the quoted name of a column."""
        return quote(name)

    def is_privilege(self, error: Exception) -> bool:
        """Tell whether the user lacks a privilege."""
        return isinstance(error, pymysql.Error) and _number(error) in _LACKING

    def prepare(self, connection: Any) -> list[str]:  # noqa: ARG002 - the same shape as Postgresql
        """Nothing: the database of the DSN must be there."""
        return []

    def explain(self, error: pymysql.Error) -> TongbuError:
        """Say an error in the words of the contract."""
        return explain(self.name, error)

    def refusal(self, error: pymysql.Error) -> str | None:
        """Say a data error in the words of the contract."""
        return refusal(error)

    def passes(self, error: pymysql.Error) -> bool:
        """Tell whether what stands against a statement passes by itself."""
        return passes(error)

    def own_tables(self) -> dict[str, str]:
        """Give name -> definition of the tables that hold the sink's own state."""
        own = {
            "tongbu_position": _POSITION,
            "tongbu_fence": _FENCE,
            "tongbu_set_aside": _SET_ASIDE,
            "tongbu_fill": _FILL,
            "tongbu_mirror": _MIRROR,
            "tongbu_seen": _SEEN,
        }
        return {
            name: f"create table {name} (\n  {body}) {self.options}" for name, body in own.items()
        }

    def create(self, table: TargetTable) -> str:
        """Give the statement that creates a table."""
        parts = [_define(column) for column in table.columns]
        parts.append(f"primary key ({', '.join(map(quote, table.key))})")
        if table.parent:
            parts.append(
                f"foreign key ({quote(table.id)}) references {quote(table.parent)} ({quote(table.parent_id)})"
            )
        return f"create table {quote(table.name)} (\n  " + ",\n  ".join(parts) + f") {self.options}"

    def add(self, table: TargetTable, column: Column) -> str:
        """Give the statement that adds a column."""
        return f"alter table {quote(table.name)} add column {_define(column)}"

    def foreign_keys(self, connection: Any) -> set[str]:
        """Give the names of the foreign keys that are there."""
        with connection.cursor() as cursor:
            cursor.execute(
                "select constraint_name from information_schema.referential_constraints "
                "where constraint_schema = database()"
            )
            return {name for (name,) in cursor.fetchall()}

    def refer(self, table: TargetTable, reference: Reference) -> list[str]:
        """Give the statement that makes a foreign key; the database adds the index."""
        return [
            f"alter table {quote(table.name)} add constraint {quote(reference.name(table))} "
            f"foreign key ({quote(reference.column)}) references {quote(reference.table)} ({quote(reference.id)})"
        ]

    def change(self, table: TargetTable, column: Column) -> str:
        """Give the statement that a person has to judge: another type for a column that is there."""
        return f"alter table {quote(table.name)} modify column {_define(column)}"

    def routines(self, connection: Any, found: list[TargetTable]) -> list[str]:  # noqa: ARG002
        """None."""
        return []

    def rows(self, table: TargetTable) -> Iterator[dict[str, Any]]:
        """Read a table in the order of its key, by bytes; Decimal, aware datetime, date, and plain JSON values."""
        names = ", ".join(quote(column.name) for column in table.columns)
        order = ", ".join(map(quote, table.key))
        readers = [_READERS.get(column.kind, _same) for column in table.columns]
        with closing(self.connect(cursorclass=SSCursor)) as connection:
            cursor = connection.cursor()
            cursor.execute(f"select {names} from {quote(table.name)} order by {order}")
            for row in cursor:
                yield {
                    column.name: None if value is None else read(value)
                    for column, value, read in zip(table.columns, row, readers, strict=True)
                }


def refusal(error: pymysql.Error) -> str | None:
    """
    Say why the target refuses a record as it is; None for any other error.

    By kind, and the column, key or constraint: the server's own words quote the value.
    """
    number, words = _number(error), str(error.args[-1])
    if not isinstance(error, pymysql.DataError) and number not in _DATA:
        return None
    if number == ER.NET_PACKET_TOO_LARGE:  # our own words: MeasuredConnection
        return words
    names = " ".join(f"{what.lower()} {name}" for what, name in _NAMED.findall(words))
    kind = _KINDS.get(number, "refused").lower().replace("_", " ")
    return f"{kind} {names} ({number})".replace("  ", " ")


def passes(error: pymysql.Error) -> bool:
    """
    Tell whether what an error that is no refusal says passes by itself.

    The driver's classes don't: what a server says of a definition is OperationalError, as is a lost connection.
    """
    number = _number(error)
    if number in _PASSING:
        told = _ERRNO.search(str(error.args[-1]))
        return told is None or int(told[1]) in _PASSING_ERRNO
    return not number or number in _CLIENT


def explain(name: str, error: pymysql.Error) -> TongbuError:
    """Sort any other error: what passes by itself is TryLater, the rest needs a person."""
    number = _number(error)
    said = error.args[1] if len(error.args) > 1 else str(error)
    if number in _MISSING:
        return TryLater(
            f"{name}: the target tables are missing or older than the schemas",
            "`tongbu apply --only targets` makes them.",
        )
    if number in _REFUSED_LOGIN:
        return TongbuError(f"{name}: {said}", "Check user and password of the target.")
    if number in _PASSING or isinstance(
        error, pymysql.OperationalError | pymysql.InterfaceError | pymysql.InternalError
    ):
        return TryLater(f"{name}: the target can't take it now: {said}")
    return TongbuError(
        f"{name}: the target refuses to work: {said} ({number})",
        "Compare privileges and tables with what `tongbu plan` prints.",
    )


def _number(error: pymysql.Error) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _define(column: Column) -> str:
    required = " not null" if column.path == ("meta", "version") else ""
    check = f" check (json_valid({quote(column.name)}))" if column.kind == "json" else ""
    return f"{quote(column.name)} {column.sql_type}{required}{check}"


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


def _same(value: Any) -> Any:
    return value


#: DATETIME has no zone and JSON no type of its own, so the driver needs help.
_READERS: dict[str, Callable[[Any], Any]] = {
    "timestamp": _utc,
    "json": orjson.loads,
    "boolean": bool,
}

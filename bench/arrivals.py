"""
Where the rows of transactions arrive: by which tables and columns they are found in a target, and when they were committed.

PostgreSQL tells the time of a commit itself. MariaDB keeps none, so its binary log is followed as a replica does: an
event is sent when its transaction has been committed.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
import pymysql
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import UpdateRowsEvent, WriteRowsEvent

from bench.source import Orders
from bench.system import wait
from tongbu.deploy.captured import mysql_arguments

#: A replica needs a number that no other has; from here on they follow from the database's name.
_SERVER_IDS = 918_000
#: It warns of a server that is gone, as every one is at the end.
logging.getLogger("pymysqlreplication").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a target: `key` is the column by which a transaction's rows are found, `of` and `number` convert it."""

    name: str
    key: str
    of: Callable[[int], Any]
    number: Callable[[Any], int]


class Arrivals(Protocol):
    """The tables of a target in which transactions arrive."""

    def count(self, orders: Orders) -> int:
        """Count their rows."""

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give when the last row of each was committed."""

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Give the rows of a query."""


class PostgresqlArrivals:
    """By the commit times that PostgreSQL keeps."""

    def __init__(self, connection: psycopg.Connection[Any], tables: Sequence[Table]) -> None:
        self._connection, self._tables = connection, tables

    def count(self, orders: Orders) -> int:
        """Count the rows of transactions."""
        return sum(
            self.rows(f"SELECT count(*) FROM {table.name} {_between(table, orders)}")[0][0]
            for table in self._tables
        )

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give when the last row of each was committed: seconds since 1970."""
        found: dict[int, float] = {}
        at = "extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8"
        for table in self._tables:
            for key, seconds in self.rows(
                f"SELECT {table.key}, {at} FROM {table.name} {_between(table, orders)}"
            ):
                number = table.number(key)
                found[number] = max(seconds, found.get(number, 0.0))
        return found

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Give the rows of a query."""
        return self._connection.execute(statement).fetchall()


class MariadbArrivals:
    """By following the binary log, in a thread that lives as long as the harness."""

    def __init__(self, admin_dsn: str, database: str, tables: Sequence[Table]) -> None:
        arguments = mysql_arguments(admin_dsn)
        self._connection = pymysql.connect(**(arguments | {"database": database}), autocommit=True)
        self._tables = {table.name: table for table in tables}
        self._seen: dict[int, float] = {}
        login = {name: arguments[name] for name in ("host", "port", "user", "password")}
        file, place = self.rows("SHOW MASTER STATUS")[0][:2]
        self._reader = BinLogStreamReader(
            connection_settings=login, server_id=_SERVER_IDS + zlib.crc32(database.encode()) % 1000, blocking=True, is_mariadb=True, resume_stream=True, log_file=file, log_pos=place,
            only_schemas=[database], only_tables=list(self._tables), only_events=[WriteRowsEvent, UpdateRowsEvent],
        )  # fmt: skip
        threading.Thread(target=self._follow, daemon=True).start()

    def count(self, orders: Orders) -> int:
        """Count the rows of transactions."""
        return sum(
            self.rows(f"SELECT count(*) FROM {table.name} {_between(table, orders)}")[0][0]
            for table in self._tables.values()
        )

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give when the last row of each had been committed: seconds since 1970; the follower may be behind."""
        numbers = range(orders.first, orders.last + 1)
        wait("the binary log is read", lambda: all(number in self._seen for number in numbers))
        return {number: self._seen[number] for number in numbers}

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Give the rows of a query."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _follow(self) -> None:
        with suppress(pymysql.OperationalError):  # the server is down: the harness ends
            for event in self._reader:
                now, table = time.time(), self._tables[event.table]
                for row in event.rows:
                    values = row.get("values") or row["after_values"]
                    self._seen[table.number(values[table.key])] = now


def _between(table: Table, orders: Orders) -> str:
    return f"WHERE {table.key} BETWEEN {table.of(orders.first)!r} AND {table.of(orders.last)!r}"

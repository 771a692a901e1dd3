"""The other source of the harness: the demo world's OA on MariaDB, in which approvals are written: a request and its form."""

from __future__ import annotations

from dataclasses import replace

import pymysql

from bench.load import approval
from bench.source import Orders, written
from tongbu.deploy.captured import mysql_arguments

_ROWS = 2
#: Numbers above have as many digits each, so that they sort as ids, too.
_FIRST_NUMBER = 1_000_000


class Oa:
    """Writes approvals; `next_number` grows over all of them."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connection = pymysql.connect(**mysql_arguments(dsn), autocommit=True)
        there = self._one("SELECT COALESCE(MAX(requestid), 0) FROM workflow_requestbase")
        self.next_number = max(there, _FIRST_NUMBER) + 1
        self._commits: dict[int, float] = {}

    def rows_of(self, _: int) -> int:
        """Give a request and its form."""
        return _ROWS

    def backlog(self, rows: int, lines: int) -> Orders:
        """Write so many rows as fast as can be, each approval in a transaction of its own."""
        del lines
        first = self.next_number
        self._connection.autocommit(False)
        with self._connection.cursor() as cursor:
            for number in range(first, first + rows // _ROWS):
                for statement, values in approval(number):
                    cursor.execute(statement, values)
                self._connection.commit()
        self._connection.autocommit(True)
        self.next_number = first + rows // _ROWS
        return self.since(first)

    def since(self, first: int) -> Orders:
        """Give all approvals from number `first` on."""
        last = self.next_number - 1
        return Orders(first, last, (last - first + 1) * _ROWS)

    def load(self, rate: float, lines: int, seconds: float, seed: int) -> Orders:
        """Write approvals at a rate, from a process of its own; raise TongbuError where it fails."""
        said = written(self.dsn, self.next_number, lines, rate, seconds, seed)
        self.next_number = said["last"] + 1
        self._commits = dict(said["commits"])
        return replace(self.since(said["first"]), late_ms=said["late_ms"])

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give when each commit of the last load had returned to the client: MariaDB keeps no times of commits."""
        return {n: at for n, at in self._commits.items() if orders.first <= n <= orders.last}

    def close(self) -> None:
        """Leave."""
        self._connection.close()

    def _one(self, statement: str) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.fetchall()[0][0])

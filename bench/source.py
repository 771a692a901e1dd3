"""The source of the harness: the demo world's ERP, in which orders are written at a rate or as a backlog."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import orjson
import psycopg

from schemas.errors import TongbuError

#: Numbers below are the demo's own.
_FIRST_NUMBER = 1000


class Source(Protocol):
    """A business system in which numbered transactions are written."""

    next_number: int

    def rows_of(self, lines: int) -> int:
        """Give how many rows a transaction with so many lines has."""

    def backlog(self, rows: int, lines: int) -> Orders:
        """Write so many rows as fast as can be."""

    def since(self, first: int) -> Orders:
        """Give all transactions from number `first` on."""

    def load(self, rate: float, lines: int, seconds: float, seed: int) -> Orders:
        """Write transactions at a rate."""

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give when each was committed: seconds since 1970."""

    def close(self) -> None:
        """Leave."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The orders `first` to `last`, with `rows` headers and lines; `late_ms` is how late the latest transaction began."""

    first: int
    last: int
    rows: int
    late_ms: float = 0.0

    @property
    def count(self) -> int:
        """Transactions."""
        return self.last - self.first + 1


class Erp:
    """Writes orders; `next_number` grows over all of them."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute(Path(__file__).with_name("orders.sql").read_text(encoding="utf-8"))
        found = self._connection.execute('SELECT max("ID") FROM "SO_SOMain"').fetchone()
        self.next_number = max((found and found[0]) or 0, _FIRST_NUMBER) + 1

    def rows_of(self, lines: int) -> int:
        """Give header and lines."""
        return 1 + lines

    def backlog(self, rows: int, lines: int) -> Orders:
        """Write so many rows as fast as can be, each order in a transaction of its own."""
        first, last = self.next_number, self.next_number + rows // (1 + lines)
        self._connection.execute("SET synchronous_commit = off")
        self._connection.execute(
            f"DO $$ BEGIN FOR number IN {first}..{last} LOOP "
            f"PERFORM bench_order(number, {lines}); COMMIT; END LOOP; END $$"
        )
        self._connection.execute("SET synchronous_commit = on")
        self.next_number = last + 1
        return self.since(first)

    def since(self, first: int) -> Orders:
        """Give all orders from number `first` on."""
        last = self.next_number - 1
        rows = self._connection.execute(
            """SELECT (SELECT count(*) FROM "SO_SOMain" WHERE "ID" BETWEEN %s AND %s)
                + (SELECT count(*) FROM "SO_SODetails" WHERE "ID" BETWEEN %s AND %s)""",
            [first, last, first, last],
        ).fetchone()
        return Orders(first, last, rows[0] if rows else 0)

    def load(self, rate: float, lines: int, seconds: float, seed: int) -> Orders:
        """Write orders at a rate, from a process of its own; raise TongbuError where it fails."""
        said = written(self.dsn, self.next_number, lines, rate, seconds, seed)
        self.next_number = said["last"] + 1
        return replace(self.since(said["first"]), late_ms=said["late_ms"])

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give when each order was committed, by number: seconds since 1970, as the WAL has it."""
        rows = self._connection.execute(
            """SELECT "ID", extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM "SO_SOMain"
                WHERE "ID" BETWEEN %s AND %s""",
            [orders.first, orders.last],
        )
        return dict(rows.fetchall())

    def close(self) -> None:
        """Leave."""
        self._connection.close()


def written(
    dsn: str, first: int, lines: int, rate: float, seconds: float, seed: int
) -> dict[str, Any]:
    """Write transactions at a rate in a process of its own; give what it says. Raise TongbuError where it fails."""
    options = (first, lines, rate, seconds, seed)
    process = subprocess.run(
        [sys.executable, "-m", "bench.load", *map(str, options)],
        env={"LOAD_DSN": dsn},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        last = process.stderr.strip().rpartition("\n")[2] or f"code {process.returncode}"
        raise TongbuError(f"the load ended: {last}")
    said: dict[str, Any] = orjson.loads(process.stdout)
    return said

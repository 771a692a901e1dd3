"""
The load: transactions at a given rate, open loop, in a process of its own, so that the harness does not share its interpreter with it.

    LOAD_DSN=... python -m bench.load FIRST LINES RATE SECONDS SEED

Transactions are due at random times (Poisson) whatever the database does; several connections share the rate, so
that a slow commit delays no other one. Latency is taken from the commits themselves (bench/figures.py), so a late start
hides nothing; how late the latest was is told, because a load that could not keep its rate measured something else.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import psycopg
import pymysql

from tongbu.deploy.captured import mysql_arguments

_CONNECTIONS = 4


class _Orders:
    """Orders in the ERP: a header and lines."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0)

    def write(self, number: int, lines: int) -> None:
        self._connection.execute("SELECT bench_order(%s, %s)", [number, lines], prepare=True)


class _Approvals:
    """Approvals in the OA: a request and its form."""

    def __init__(self, dsn: str) -> None:
        self._connection = pymysql.connect(**mysql_arguments(dsn))
        self._cursor = self._connection.cursor()

    def write(self, number: int, _: int) -> None:
        for statement, values in approval(number):
            self._cursor.execute(statement, values)
        self._connection.commit()


def approval(number: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Give the statements of one approval; all values follow from the number."""
    request = """INSERT INTO workflow_requestbase (requestid, workflowid, requestname, creater, createdate, createtime,
        currentnodeid, currentnodetype, status, requestlevel, deleted)
        VALUES (%s, 17, %s, 1, '2026-01-05', '09:00:00', 1, '0', '创建', 0, 0)"""
    form = """INSERT INTO formtable_main_17 (requestId, ddbh, khmc, ddje, bz, sqr, sqrq)
        VALUES (%s, %s, %s, %s, '人民币', %s, '2026-01-05')"""
    order = f"SO{number % 5000:08d}"
    return [
        (request, (number, f"销售订单审批-{order}")),
        (form, (number, order, f"客户 {number % 200}", f"{number % 4999}.25", number % 60 + 1)),
    ]


class _Player(threading.Thread):
    """One connection: takes the next number whenever a transaction is due."""

    def __init__(
        self, dsn: str, numbers: Iterator[int], lines: int, rate: float, seconds: float, seed: int
    ) -> None:
        super().__init__(daemon=True)
        self.late = 0.0
        #: number -> when its commit had returned, by this machine's clock.
        self.commits: dict[int, float] = {}
        self.failure: Exception | None = None
        self._writer = _Orders(dsn) if dsn.startswith("postgresql") else _Approvals(dsn)
        self._numbers, self._lines = numbers, lines
        self._rate, self._seconds, self._random = rate, seconds, Random(seed)

    def run(self) -> None:
        began = due = time.perf_counter()
        try:
            while (due := due + self._random.expovariate(self._rate)) - began < self._seconds:
                time.sleep(max(0.0, due - time.perf_counter()))
                self.late = max(self.late, time.perf_counter() - due)
                number = next(self._numbers)
                self._writer.write(number, self._lines)
                self.commits[number] = time.time()
        except Exception as error:
            self.failure = error


def play(dsn: str, first: int, lines: int, rate: float, seconds: float, seed: int) -> None:
    """Write from number `first` on; print {"first", "last", "late_ms", "commits"} as JSON. Raise what a connection raised."""
    numbers = itertools.count(first)
    players = [
        _Player(dsn, numbers, lines, rate / _CONNECTIONS, seconds, seed + place)
        for place in range(_CONNECTIONS)
    ]
    for player in players:
        player.start()
    for player in players:
        player.join()
        if player.failure is not None:
            raise player.failure
    late = max(player.late for player in players)
    commits = [pair for player in players for pair in player.commits.items()]
    said = {"first": first, "last": next(numbers) - 1, "late_ms": late * 1000, "commits": commits}
    print(json.dumps(said))


if __name__ == "__main__":
    first, lines, rate, seconds, seed = sys.argv[1:]
    play(os.environ["LOAD_DSN"], int(first), int(lines), float(rate), float(seconds), int(seed))

"""
The load: orders at a given rate, open loop, in a process of its own.

Transactions are due at random times (Poisson) whatever the database does; several connections share the rate, so
that a slow commit delays no other one. Latency is taken from the commits themselves (bench/commits.py), so a late start
hides nothing; how late the latest was is told, because a load that could not keep its rate measured something else.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from random import Random

import psycopg

_CONNECTIONS = 4
_ORDER = "SELECT bench_order(%s, %s)"


class _Player(threading.Thread):
    """One connection: takes the next number whenever a transaction is due."""

    def __init__(
        self, dsn: str, numbers: Iterator[int], lines: int, rate: float, seconds: float, seed: int
    ) -> None:
        super().__init__(daemon=True)
        self.late = 0.0
        self.failure: Exception | None = None
        self._connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0)
        self._numbers, self._lines = numbers, lines
        self._rate, self._seconds, self._random = rate, seconds, Random(seed)

    def run(self) -> None:
        began = due = time.perf_counter()
        try:
            while (due := due + self._random.expovariate(self._rate)) - began < self._seconds:
                time.sleep(max(0.0, due - time.perf_counter()))
                self.late = max(self.late, time.perf_counter() - due)
                self._connection.execute(_ORDER, [next(self._numbers), self._lines], prepare=True)
        except Exception as error:
            self.failure = error
        self._connection.close()


def play(dsn: str, first: int, lines: int, rate: float, seconds: float, seed: int) -> None:
    """Write orders from number `first` on; print {"first", "last", "late_ms"} as JSON. Raise what a connection raised."""
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
    print(json.dumps({"first": first, "last": next(numbers) - 1, "late_ms": late * 1000}))

"""`kill -9` of the Connect worker under load: every transaction comes once, whole and in order.

One round a database in `make test`; TONGBU_ROUNDS=20 makes it the long form, with -s it shows what was filtered.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from capturing import SCHEMA, Captured
from test_operations import COLUMNS, assemble

from streams.records import SourceTransaction
from tongbu.instance import Instance
from tongbu.stack.supervision import Supervisor

ROUNDS = int(os.environ.get("TONGBU_ROUNDS", "1"))
RATE, SECONDS, ROWS = 200, 4, 3
#: In so many rounds capture repeats something, or the kills came while it stood still.
MANY = 5


class Load(threading.Thread):
    """Commits transactions of three rows, one after the other; `committed` counts them."""

    def __init__(self, captured: Captured, first: int) -> None:
        super().__init__()
        self.captured, self.committed, self.stop = captured, first, False

    def run(self) -> None:
        with self.captured.session() as cursor:
            while not self.stop:
                self._transaction(cursor)
                time.sleep(1 / RATE)

    def _transaction(self, cursor: object) -> None:
        rows = (f"({self.committed * ROWS + each}, {self.committed}, 'x')" for each in range(ROWS))
        for statement in (
            "BEGIN",
            *(f"INSERT INTO {SCHEMA}.loaded VALUES {row}" for row in rows),
            "COMMIT",
        ):
            cursor.execute(statement)  # type: ignore[attr-defined]
        self.committed += 1


def _kill(instance: Instance) -> int:
    pid = int(Supervisor(instance).processes()["connect"]["pid"])
    assert pid  # a signal to 0 would end this test's own process group
    os.kill(pid, signal.SIGKILL)
    return pid


def _wait_until_it_captures(captured: Captured, instance: Instance, killed: int) -> None:
    """Wait until a row written now is captured: the worker's REST answers RUNNING long before that."""
    end = time.monotonic() + 120
    while Supervisor(instance).processes()["connect"]["pid"] in (0, killed):
        assert time.monotonic() < end
        time.sleep(0.1)
    captured.until_now(captured.end)


def _of(table: str, found: list[SourceTransaction]) -> list[SourceTransaction]:
    """
    Give the transactions that changed a table.

    The log is assembled from its beginning, as a lane does: a killed worker also repeats what came before the
    test, and only who has seen it end knows it as a repeat.
    """
    return [one for one in found if any(each.table == f"{SCHEMA}.{table}" for each in one.changes)]


def test_nothing_is_lost_or_doubled_or_torn(captured: Captured, stack_instance: Instance) -> None:
    captured.run(f"CREATE TABLE {SCHEMA}.loaded ({COLUMNS})")
    committed = 0
    for _ in range(ROUNDS):
        load = Load(captured, committed)
        load.start()
        time.sleep(SECONDS / 2)
        killed = _kill(stack_instance)
        time.sleep(SECONDS / 2)
        load.stop = True
        load.join()
        committed = load.committed
        _wait_until_it_captures(captured, stack_instance, killed)

    found, repeats, lost = assemble(captured.until_now())

    numbers = [[(each.after or {})["a"] for each in one.changes] for one in _of("loaded", found)]
    assert committed, "the load has done nothing"
    assert numbers == [[number] * ROWS for number in range(committed)]
    assert lost == []
    assert repeats or ROUNDS < MANY, "no kill hit a worker that was capturing"
    print(f"{captured.database}: {committed} transactions, {repeats} repeats filtered")


def test_a_large_transaction_that_is_cut_comes_whole(
    captured: Captured, stack_instance: Instance
) -> None:
    captured.run(f"CREATE TABLE {SCHEMA}.large ({COLUMNS})")
    since = captured.end
    with captured.session() as cursor:
        cursor.execute("BEGIN")
        for start in range(0, 30_000, 1000):
            rows = ", ".join(f"({number}, 1, 'x')" for number in range(start, start + 1000))
            cursor.execute(f"INSERT INTO {SCHEMA}.large VALUES {rows}")
        cursor.execute("COMMIT")
    _wait_for(captured, since + 5_000)
    killed = _kill(stack_instance)
    _wait_until_it_captures(captured, stack_instance, killed)

    found, _, lost = assemble(captured.until_now())

    (whole,) = _of("large", found)
    assert [(each.after or {})["id"] for each in whole.changes] == list(range(30_000))
    assert lost == []


def _wait_for(captured: Captured, offset: int) -> None:
    end = time.monotonic() + 120
    while captured.end < offset:
        assert time.monotonic() < end
        time.sleep(0.05)

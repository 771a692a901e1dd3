"""A database that restarts, a connector that moves to another worker, transactions that are cut several times: all come whole."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pymysql
from capturing import SCHEMA, Captured
from test_killed_worker import _kill, _of, _wait_for, _wait_until_it_captures
from test_operations import COLUMNS, assemble

from tongbu.deploy import connectors
from tongbu.deploy.deployment import Deployment
from tongbu.instance import HOST, Instance
from tongbu.stack import artifacts, services
from tongbu.stack.supervision import Supervisor

_SERVER = {"postgresql": "postgres", "mariadb": "mariadb", "mysql": "mysql"}
_SECONDS = 120


class StubbornLoad(threading.Thread):
    """Commits transactions of three rows, and goes on when the server is back; what was in doubt may be there or not."""

    def __init__(self, captured: Captured, table: str) -> None:
        super().__init__()
        self.captured, self.table, self.stop = captured, f"{SCHEMA}.{table}", False
        self.tried = 0

    def run(self) -> None:
        while not self.stop:
            try:
                self._commit()
            except (psycopg.OperationalError, pymysql.err.MySQLError):
                time.sleep(0.1)

    def _commit(self) -> None:
        with self.captured.session() as cursor:
            while not self.stop:
                self.tried += 1
                cursor.execute("BEGIN")
                for each in range(3):
                    row = f"({self.tried * 3 + each}, {self.tried}, 'x')"
                    cursor.execute(f"INSERT INTO {self.table} VALUES {row}")
                cursor.execute("COMMIT")
                time.sleep(0.005)


def _compare(captured: Captured, table: str) -> int:
    """Compare the captured transactions with the committed rows; give how many were repeats."""
    found, repeats, lost = assemble(captured.until_now())
    numbers = [[(each.after or {})["a"] for each in one.changes] for one in _of(table, found)]
    committed = captured.select(f"SELECT DISTINCT a FROM {SCHEMA}.{table} ORDER BY a")

    assert committed, "the load has done nothing"
    assert numbers == [[number] * 3 for (number,) in committed]
    assert lost == []
    return repeats


def test_a_database_that_restarts_in_mid_load_loses_and_doubles_nothing(
    captured: Captured, stack_instance: Instance
) -> None:
    captured.run(f"CREATE TABLE {SCHEMA}.restarted ({COLUMNS})")
    load, supervisor = StubbornLoad(captured, "restarted"), Supervisor(stack_instance)
    load.start()
    time.sleep(1)
    since, before = captured.end, load.tried
    supervisor.rpc.stopProcess(_SERVER[captured.database])
    supervisor.rpc.startProcess(_SERVER[captured.database])
    end = time.monotonic() + _SECONDS
    while load.tried < before + 50:
        assert time.monotonic() < end
        time.sleep(0.1)
    load.stop = True
    load.join()
    _revived(captured)
    captured.until_now(since)

    _compare(captured, "restarted")


def _revived(captured: Captured) -> None:
    """Wait until the connector runs; where it found its database away, `tongbu run watch` starts it again."""
    deployment = Deployment({"CONNECT_URL": str(captured.connect.base_url)})
    since = captured.end
    captured.mark()
    end = time.monotonic() + _SECONDS
    while captured.end <= since:
        if connectors.failure(deployment, captured.name):
            captured.connect.post(f"/connectors/{captured.name}/restart?includeTasks=true")
        assert time.monotonic() < end, captured.state()
        time.sleep(1)


@contextmanager
def _second_worker(instance: Instance) -> Iterator[str]:
    """Run another Connect worker of the same group; give its address."""
    connect = next(
        each for each in services.servers(instance, artifacts.folder()) if each.name == "connect"
    )
    address = f"http://{HOST}:{instance.ports.connect + 60}"
    environment = {**os.environ, **connect.environment, "TONGBU_CONNECT_LISTENER": address}
    with (instance.folder / "second-worker.log").open("wb") as log:
        process = subprocess.Popen(connect.command, cwd=connect.folder, env=environment, stdout=log, stderr=log)  # fmt: skip
        try:
            end = time.monotonic() + _SECONDS
            while not _answers(address):
                assert time.monotonic() < end
                time.sleep(0.3)
            yield address
        finally:
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/connectors", timeout=5).is_success
    except httpx.TransportError:
        return False


def test_a_connector_that_moves_to_another_worker_and_back_loses_and_doubles_nothing(
    captured: Captured, stack_instance: Instance
) -> None:
    captured.run(f"CREATE TABLE {SCHEMA}.moving ({COLUMNS})")
    supervisor, usual = Supervisor(stack_instance), captured.connect
    with _second_worker(stack_instance) as address, httpx.Client(base_url=address, timeout=20) as other:  # fmt: skip
        load = StubbornLoad(captured, "moving")
        load.start()
        since = captured.end
        supervisor.rpc.stopProcess("connect")
        captured.connect = other
        try:
            captured.until_now(since)
            _worker_is(other, captured.name, address)
        finally:
            captured.connect = usual
            load.stop = True
            load.join()
            supervisor.rpc.startProcess("connect")
    captured.until_now(captured.end)

    _compare(captured, "moving")


def _worker_is(connect: httpx.Client, connector: str, address: str) -> None:
    status = connect.get(f"/connectors/{connector}/status").json()
    assert status["tasks"][0]["worker_id"] in address


def test_transactions_that_are_cut_several_times_come_whole(
    captured: Captured, stack_instance: Instance
) -> None:
    captured.run(f"CREATE TABLE {SCHEMA}.cut ({COLUMNS})")
    since = captured.end
    for half in range(2):
        with captured.session() as cursor:
            cursor.execute("BEGIN")
            for start in range(half * 20_000, (half + 1) * 20_000, 1000):
                rows = ", ".join(f"({number}, 1, 'x')" for number in range(start, start + 1000))
                cursor.execute(f"INSERT INTO {SCHEMA}.cut VALUES {rows}")
            cursor.execute("COMMIT")
    for further in (4_000, 7_000, 20_000):
        _wait_for(captured, since + further)
        killed = _kill(stack_instance)
        since = captured.end
        end = time.monotonic() + _SECONDS
        while Supervisor(stack_instance).processes()["connect"]["pid"] in (0, killed):
            assert time.monotonic() < end
            time.sleep(0.1)
    _wait_until_it_captures(captured, stack_instance, killed)

    found, _, lost = assemble(captured.until_now())

    assert [[(each.after or {})["id"] for each in one.changes] for one in _of("cut", found)] == [
        list(range(20_000)),
        list(range(20_000, 40_000)),
    ]
    assert lost == []


#: What a connector captures last before it is stopped; {number} is the round's.
_LAST = (
    ["INSERT INTO {other} VALUES ({number}, 1, 'x')"],
    ["TRUNCATE {other}"],
    ["CREATE TABLE {other}_{number} (id int PRIMARY KEY)"],
    ["BEGIN", "INSERT INTO {other} VALUES ({number}, 1, 'x')", "ROLLBACK"],
)


def test_what_is_written_while_a_connector_is_stopped_comes_whole_whatever_came_last(
    captured: Captured,
) -> None:
    """
    Debezium drops a row that begins at the LSN of a stored logical message: hence heartbeats are transactions.

    They have three rounds, since the server now and then writes something of its own in between, which hides it.
    """
    table, other = f"{SCHEMA}.stopped", f"{SCHEMA}.stopped_other"
    captured.run(f"CREATE TABLE {table} ({COLUMNS})", f"CREATE TABLE {other} ({COLUMNS})")
    heartbeat = captured.settings().get("heartbeat.action.query")
    rounds = [*_LAST, *([[heartbeat]] * 3 if heartbeat else [])]
    for number, last in enumerate(rounds):
        captured.until_now()
        captured.run(*(each.format(other=other, number=number) for each in last))
        time.sleep(1)  # until it is captured: some of these leave no trace to wait for
        _stopped(captured)
        captured.transaction(
            f"INSERT INTO {table} VALUES ({2 * number}, {number}, 'x')",
            f"INSERT INTO {table} VALUES ({2 * number + 1}, {number}, 'x')",
        )
        captured.connect.put(f"/connectors/{captured.name}/resume").raise_for_status()

    found, _, lost = assemble(captured.until_now())

    ids = [[(each.after or {})["id"] for each in one.changes] for one in _of("stopped", found)]
    assert ids == [[2 * number, 2 * number + 1] for number in range(len(rounds))]
    assert lost == []


def _stopped(captured: Captured) -> None:
    """Stop a connector; its offset is stored then."""
    captured.connect.put(f"/connectors/{captured.name}/stop").raise_for_status()
    end = time.monotonic() + _SECONDS
    while captured.connect.get(f"/connectors/{captured.name}/status").json()["tasks"]:
        assert time.monotonic() < end
        time.sleep(0.1)

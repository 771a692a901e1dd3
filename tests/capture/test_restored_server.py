"""A server that was restored from a backup: what it lacks is a named loss, and what it reuses is not taken for a repeat."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pymysql
import pytest
from capturing import SCHEMA, USER, Captured
from test_restarts import _SERVER, _revived

from streams.errors import OtherIncarnationError
from streams.records import SnapshotNotice
from streams.stages.decode import decode
from streams.transactions import Assembler
from tongbu.deploy import connectors
from tongbu.deploy.deployment import Deployment
from tongbu.instance import Instance
from tongbu.recapture import drop_slot
from tongbu.sources import mysql, postgresql
from tongbu.sources.findings import Finding
from tongbu.sources.offsets import stored_offset
from tongbu.stack.data_folders import server_home
from tongbu.stack.supervision import Supervisor

DATABASE, TABLE = "restored", "restored.thing"


def test_a_transaction_with_the_gtid_of_an_earlier_one_is_not_taken_for_its_repeat(
    captured: Captured,
) -> None:
    """MariaDB lets a session choose the number of its next GTID: what it writes is what a restored server would."""
    if captured.database != "mariadb":
        pytest.skip("MariaDB only: MySQL runs no transaction with a GTID that it has run")
    captured.run(
        f"CREATE DATABASE {DATABASE}",
        f"GRANT SELECT ON {DATABASE}.* TO {USER}@'%'",
        f"CREATE TABLE {TABLE} (id int PRIMARY KEY)",
    )
    own = replace(captured, name=f"{captured.name}-restored")
    own.make_topics()
    own.start(
        **{
            "table.include.list": TABLE.replace(".", "\\."),
            "database.include.list": DATABASE,
            "database.server.id": "48471",
        }
    )
    restored_at = ("SET SESSION gtid_domain_id = 9", "SET SESSION gtid_seq_no = 5")
    own.run("SET GLOBAL gtid_strict_mode = 0")  # it has no memory of what a backup does not have
    try:
        own.run(*restored_at, f"INSERT INTO {TABLE} VALUES (1)")
        time.sleep(2)  # a server is not restored within the second of its last commit
        own.run(*restored_at, f"INSERT INTO {TABLE} VALUES (2)")
    finally:
        own.run("SET GLOBAL gtid_strict_mode = 1")

    assembler, ids, waited = Assembler(), [], False
    for record in own.records(0, lambda _: False):
        event = decode(record)
        if event is None or isinstance(event, SnapshotNotice):
            continue
        try:
            closed = assembler.feed(event)
        except OtherIncarnationError:  # the lane keeps it, and waits for `tongbu incarnation`
            waited = True
            assembler.renew()
            closed = assembler.feed(event)
        if closed is not None and closed.transaction is not None:
            ids += [change.after["id"] for change in closed.transaction.changes if change.after]
        if 2 in ids:
            break

    assert ids == [1, 2]
    assert waited
    own.remove()


def _wait(true: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.3)


@contextmanager
def _all_stopped(captured: Captured) -> Iterator[None]:
    """Stop every connector, for what happens to the server in between must not reach them."""
    connect = captured.connect
    names = connect.get("/connectors").raise_for_status().json()
    for name in names:
        connect.put(f"/connectors/{name}/stop").raise_for_status()
    _wait(lambda: all(not connect.get(f"/connectors/{name}/status").json()["tasks"] for name in names))  # fmt: skip
    yield
    for name in names:
        connect.put(f"/connectors/{name}/resume").raise_for_status()
    _wait(lambda: captured.state() == "RUNNING")


@contextmanager
def _stopped(captured: Captured, supervisor: Supervisor) -> Iterator[None]:
    """Stop the database server."""
    supervisor.rpc.stopProcess(_SERVER[captured.database])
    yield
    supervisor.rpc.startProcess(_SERVER[captured.database])
    _wait(lambda: _answers(captured))


def _answers(captured: Captured) -> bool:
    try:
        return bool(captured.select("SELECT 1"))
    except (psycopg.OperationalError, pymysql.err.OperationalError):
        return False


def _finding(own: Captured, stored: dict[str, Any]) -> Finding:
    if own.database == "postgresql":
        slot = own.settings()["slot.name"]
        with psycopg.connect(own.dsn) as pg:
            return postgresql.slot_finding(own.name, pg, lambda: stored, slot)
    with own.session() as cursor:
        return mysql.binlog_finding(own.name, cursor, stored)


def _drop_slot(captured: Captured, own: Captured) -> None:
    if own.database == "postgresql":
        with psycopg.connect(captured.dsn, autocommit=True) as pg:
            drop_slot(pg, own.settings()["slot.name"])


def test_a_server_restored_to_before_what_was_captured_is_a_loss_and_a_recapture_heals_it(
    captured: Captured, stack_instance: Instance
) -> None:
    supervisor, table = Supervisor(stack_instance), f"{SCHEMA}.restored"
    data = server_home(stack_instance, _SERVER[captured.database]) / "data"
    backup, newer = data.with_name("backup"), data.with_name("newer")
    captured.run(
        f"CREATE TABLE {table} (id int PRIMARY KEY)", f"INSERT INTO {table} VALUES (1), (2)"
    )
    own = replace(captured, name=f"{captured.name}-put-back", _marks=2_000_000)
    own.make_topics()
    more = {"table.include.list": rf"{SCHEMA}\.(restored|mark)", "database.server.id": "58471"}
    with _all_stopped(captured):
        own.start(**more)
        with _stopped(captured, supervisor):
            subprocess.run(["cp", "-a", data, backup], check=True)  # with its owner
        _revived(own)
        captured.run(f"DELETE FROM {table} WHERE id = 1", f"INSERT INTO {table} VALUES (3)")
        own.until_now(0)
        own.connect.put(f"/connectors/{own.name}/stop").raise_for_status()
        _wait(lambda: not own.connect.get(f"/connectors/{own.name}/status").json()["tasks"])
        stored = stored_offset(own.bootstrap, own.name)
        assert stored is not None
        with _stopped(captured, supervisor):
            data.rename(newer)
            backup.rename(data)
        try:
            captured.run(f"INSERT INTO {table} VALUES (4)")
            found = _finding(own, stored)
            assert (found.check, found.level) == ("loss", "alarm")
            assert ("was restored" if "lsn" in stored else "is another one") in found.what

            since, url = own.end, str(own.connect.base_url)
            deployment = Deployment({"CONNECT_URL": url, "KAFKA_BOOTSTRAP": own.bootstrap})
            connectors.reset(deployment, own.name)
            _drop_slot(captured, own)
            connectors.resume(deployment, own.name)
            list(own.records(since, own.is_snapshot_end))
            read = [each.after for each in own.changes(since) if each.table == table]
            assert read == [{"id": 1}, {"id": 2}, {"id": 4}]
        finally:
            own.remove()
            with _stopped(captured, supervisor):
                shutil.rmtree(data)
                newer.rename(data)
    _drop_slot(captured, own)

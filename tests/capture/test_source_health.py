"""What `tongbu doctor` says of real servers, and that a lost slot or a purged binlog is never resumed silently."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest
from capturing import PASSWORD, SCHEMA, USER, Captured

from schemas.errors import TongbuError
from tongbu.deploy import connectors
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import Deployment
from tongbu.recapture import drop_slot
from tongbu.sources import mysql, offsets, postgresql
from tongbu.sources.findings import Finding
from tongbu.sources.offsets import stored_offset


def _wait(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.3)


def _server(captured: Captured) -> list[Finding]:
    offset = stored_offset(captured.bootstrap, captured.name)
    with pymysql.connect(**mysql_arguments(captured.dsn)) as my, my.cursor() as cursor:
        return list(mysql.inspect(captured.name, captured.database, cursor, lambda: offset))


@pytest.fixture
def with_binlog(captured: Captured) -> Captured:
    if captured.database == "postgresql":
        pytest.skip("MariaDB and MySQL only")
    return captured


def test_a_well_kept_server_has_nothing_to_mend(with_binlog: Captured) -> None:
    with_binlog.until_now(with_binlog.end)
    _wait(lambda: stored_offset(with_binlog.bootstrap, with_binlog.name) is not None)

    assert {finding.level for finding in _server(with_binlog)} == {"ok"}


def test_a_purged_binlog_is_a_loss_with_its_place(with_binlog: Captured) -> None:
    _wait(lambda: stored_offset(with_binlog.bootstrap, with_binlog.name) is not None)
    offset = stored_offset(with_binlog.bootstrap, with_binlog.name)
    assert offset is not None
    with pymysql.connect(**mysql_arguments(with_binlog.dsn)) as my, my.cursor() as cursor:
        gone = offset | {"file": "binlog.000000"}
        found = list(mysql.inspect("x", with_binlog.database, cursor, lambda: gone))

    (loss,) = [finding for finding in found if finding.check == "loss"]
    assert loss.level == "alarm"
    assert f"binlog.000000, pos {offset['pos']}" in loss.what


def test_rows_that_could_not_be_ordered_are_an_alarm(with_binlog: Captured) -> None:
    if with_binlog.database != "mariadb":
        pytest.skip("MariaDB only")
    with_binlog.run("SET GLOBAL binlog_legacy_event_pos = 0")
    try:
        alarms = [each for each in _server(with_binlog) if each.level == "alarm"]
    finally:
        with_binlog.run("SET GLOBAL binlog_legacy_event_pos = 1")

    assert [each.remedy for each in alarms] == ["Set binlog_legacy_event_pos=ON."]


def test_the_capture_user_can_not_write(captured: Captured) -> None:
    captured.run(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.guarded (id int PRIMARY KEY)")
    writes = [
        f"INSERT INTO {SCHEMA}.guarded VALUES (1)",
        f"DELETE FROM {SCHEMA}.guarded",
        f"CREATE TABLE {SCHEMA}.mine (id int)",
        f"DROP TABLE {SCHEMA}.guarded",
        f"ALTER TABLE {SCHEMA}.guarded ADD x int",
    ]
    for statement in writes:
        if captured.database == "postgresql":
            with (
                psycopg.connect(captured.dsn, user=USER, password=PASSWORD) as pg,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                pg.execute(statement)
        else:
            arguments = mysql_arguments(captured.dsn) | {"user": USER, "password": PASSWORD}
            with (
                pymysql.connect(**arguments | {"database": SCHEMA}) as my,
                my.cursor() as cursor,
                pytest.raises(pymysql.err.OperationalError, match="denied"),
            ):
                cursor.execute(statement)


def test_a_connector_that_goes_on_between_the_two_looks_has_lost_nothing(
    captured: Captured,
) -> None:
    if captured.database != "postgresql":
        pytest.skip("PostgreSQL only")
    captured.until_now(captured.end)
    slot = captured.settings()["slot.name"]
    place = f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'"
    before = captured.select(place)

    def goes_on() -> dict[str, Any] | None:
        _wait(lambda: captured.select(place) != before)  # a heartbeat, or what came before it
        return stored_offset(captured.bootstrap, captured.name)

    with psycopg.connect(captured.dsn) as pg:
        found = postgresql.slot_finding(captured.name, pg, goes_on, slot)
    assert (found.check, found.level) == ("slot", "ok")


def test_a_lost_slot_stops_the_connector_and_a_reset_heals_it(captured: Captured) -> None:
    if captured.database != "postgresql":
        pytest.skip("PostgreSQL only")
    captured.until_now(captured.end)
    slot, connector = captured.settings()["slot.name"], f"/connectors/{captured.name}"
    captured.connect.put(f"{connector}/stop").raise_for_status()
    active = f"SELECT FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
    _wait(lambda: not captured.select(active))
    captured.run(
        f"SELECT pg_drop_replication_slot('{slot}')",
        f"CREATE TABLE {SCHEMA}.missed (id int PRIMARY KEY)",
        f"INSERT INTO {SCHEMA}.missed VALUES (1)",
    )

    stored = stored_offset(captured.bootstrap, captured.name)
    assert stored is not None
    with psycopg.connect(captured.dsn) as pg:
        found = postgresql.slot_finding(captured.name, pg, lambda: stored, slot)
    assert (found.check, found.level) == ("loss", "alarm")
    assert f"changes since lsn {postgresql.lsn(stored['lsn'])} (20" in found.what
    assert f"`tongbu recapture {captured.name}`" in found.remedy

    captured.connect.put(f"{connector}/resume").raise_for_status()
    _wait(lambda: "no longer available" in captured.state())
    captured.run(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    with psycopg.connect(captured.dsn) as pg:
        younger = postgresql.slot_finding(captured.name, pg, lambda: stored, slot)
    assert younger.check == "loss"
    assert "is younger than what was captured" in younger.what

    since, url = captured.end, str(captured.connect.base_url)
    deployment = Deployment({"CONNECT_URL": url, "KAFKA_BOOTSTRAP": captured.bootstrap})
    connectors.reset(deployment, captured.name)
    with psycopg.connect(captured.dsn, autocommit=True) as pg:
        drop_slot(pg, slot)
    connectors.resume(deployment, captured.name)
    list(captured.records(since, captured.is_snapshot_end))
    read = [each.after for each in captured.changes(since) if each.table == f"{SCHEMA}.missed"]
    assert read == [{"id": 1}]


def test_a_slot_that_capture_may_not_drop_is_a_refusal_with_its_remedy(captured: Captured) -> None:
    if captured.database != "postgresql":
        pytest.skip("PostgreSQL only")
    with psycopg.connect(captured.dsn, autocommit=True) as pg:
        pg.execute("SELECT pg_create_logical_replication_slot('kept', 'pgoutput')")
        pg.execute("CREATE ROLE plain LOGIN PASSWORD 'Plain-1'")
        try:
            dsn = psycopg.conninfo.make_conninfo(captured.dsn, user="plain", password="Plain-1")
            subject = Deployment({"ERP_CAPTURE_DSN": dsn})
            with (
                pytest.raises(TongbuError, match="erp refuses what it is asked") as refused,
                offsets.asking(subject, "erp") as mine,
            ):
                drop_slot(mine, "kept")
            assert "connectors-config/grants" in refused.value.remedy
        finally:
            pg.execute("DROP ROLE plain")
            drop_slot(pg, "kept")

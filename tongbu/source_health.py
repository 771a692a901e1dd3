"""
What may go wrong at a source before it does: its log settings, slot or binlog, publication, and what capture has stored.

`inspect` asks the live source as the capture user (least privilege is enough for all of it) and Kafka; each
finding says what it means and what to do. Limits are in `LIMITS`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import psycopg
import pymysql

from schemas.captured import Table
from schemas.errors import TongbuError
from tongbu import topics
from tongbu.deploy import captured
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import Deployment

OFFSETS = "_connect_offsets"
Level = Literal["ok", "warning", "alarm"]


@dataclass(frozen=True)
class Limits:
    """From where on a person is to look at it."""

    slot_lag_bytes: int = 256 * 1024 * 1024
    binlog_expiry_seconds: int = 3 * 24 * 3600
    heartbeat_seconds: float = 60


LIMITS = Limits()


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `what` in words, and the remedy where it is not well."""

    source: str
    check: str
    level: Level
    what: str
    remedy: str = ""


def inspect(deployment: Deployment) -> list[Finding]:
    """Look at every source. A source that does not answer is a finding, too."""
    return [finding for name in deployment.sources for finding in _source(deployment, name)]


def _source(deployment: Deployment, name: str) -> Iterator[Finding]:
    source = deployment.sources[name]
    environment = deployment.environment
    dsn = environment.get(f"{name.upper()}_CAPTURE_DSN") or environment[f"{name.upper()}_DSN"]
    try:
        found = captured.read(name, source, dsn, deployment.tables_of(name))
    except TongbuError as error:
        yield Finding(name, "tables", "alarm", error.message, error.remedy)
        return
    yield Finding(name, "tables", "ok", f"{len(found.tables)} mapped tables, each with a key")
    offset = stored_offset(deployment.bootstrap, name)
    if source.database == "postgresql":
        with psycopg.connect(dsn, autocommit=True) as pg:
            yield from postgresql(name, pg, found.tables, offset)
    else:
        with pymysql.connect(**mysql_arguments(dsn)) as my, my.cursor() as cursor:
            yield from mysql(name, source.database, cursor, offset)
    yield _heartbeat(deployment, name)


def stored_offset(bootstrap: str, source: str) -> dict[str, Any] | None:
    """Give where capture will go on, as Connect has stored it; None where it never ran, or was reset."""
    if OFFSETS not in topics.names(bootstrap):
        return None
    start = topics.starts(bootstrap, [OFFSETS])[OFFSETS, 0]
    end = topics.ends(bootstrap, [OFFSETS])[OFFSETS, 0]
    found = None
    for message in topics.read(bootstrap, OFFSETS, 0, start, end):
        if orjson.loads(message.key())[0] == source:
            found = orjson.loads(message.value()) if message.value() else None
    return found


# -- PostgreSQL


def postgresql(
    name: str, pg: psycopg.Connection[Any], tables: tuple[Table, ...], offset: dict[str, Any] | None
) -> Iterator[Finding]:
    """Look at a PostgreSQL source: its settings, the slot and the publication that the shipped connector uses."""
    level = pg.execute("SHOW wal_level").fetchone()
    if level != ("logical",):
        yield Finding(
            name,
            "log",
            "alarm",
            f"wal_level is {level and level[0]}",
            "Set wal_level=logical, restart.",
        )
    yield from _publication(name, pg, tables)
    yield _slot(name, pg, offset)


def _publication(
    name: str, pg: psycopg.Connection[Any], tables: tuple[Table, ...]
) -> Iterator[Finding]:
    rows = pg.execute(
        "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'tongbu'"
    )
    published = {row[0] for row in rows}
    missing = sorted({table.qualified for table in tables} - published)
    if missing:
        yield Finding(
            name, "publication", "alarm", f"not published, so never captured: {', '.join(missing)}",
            "Have the owner run connectors-config/grants for these tables (ALTER PUBLICATION tongbu ADD TABLE …), "
            "then snapshot them: what changed meanwhile was not captured.",
        )  # fmt: skip
    else:
        yield Finding(name, "publication", "ok", f"all {len(tables)} mapped tables are published")
    harmed = pg.execute(
        """SELECT p.schemaname || '.' || p.tablename FROM pg_publication_tables p
        JOIN pg_namespace n ON n.nspname = p.schemaname
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
        WHERE p.pubname = 'tongbu' AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
          SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))"""
    ).fetchall()
    for (table,) in harmed:
        yield Finding(
            name, "replica identity", "alarm", f"UPDATE and DELETE of {table} fail: published, without an identity",
            f"ALTER TABLE {table} ADD PRIMARY KEY (…), or REPLICA IDENTITY FULL, or take it out of the publication.",
        )  # fmt: skip


def _slot(name: str, pg: psycopg.Connection[Any], offset: dict[str, Any] | None) -> Finding:
    row = pg.execute(
        """SELECT active, wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,
          pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
          pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint
        FROM pg_replication_slots WHERE slot_name = 'tongbu'"""
    ).fetchone()
    if row is None:
        if offset is None:
            return Finding(
                name, "slot", "warning", "no slot yet", "`tongbu apply` starts the connector."
            )
        return _lost(name, f"the slot is gone; changes since lsn {_lsn(offset['lsn'])} are lost")
    active, status, lag, retained, confirmed = row
    if status == "lost":
        return _lost(name, "the server dropped WAL that the slot needed (max_slot_wal_keep_size)")
    stored = offset and offset.get("lsn")
    if stored and confirmed > stored:
        gap = f"lsn {_lsn(stored)} to {_lsn(confirmed)}"
        return _lost(name, f"the slot is younger than what was captured: changes of {gap} are lost")
    shown = f"{lag:,} bytes behind, {retained:,} bytes of WAL retained, wal_status {status}"
    if not active:
        return Finding(
            name, "slot", "alarm", f"nobody reads it: {shown}", "`tongbu plan` tells why."
        )
    if lag > LIMITS.slot_lag_bytes or status == "unreserved":
        remedy = "Look at the Connect worker; raise max_slot_wal_keep_size before the slot is lost."
        return Finding(name, "slot", "alarm", shown, remedy)
    return Finding(name, "slot", "ok", shown)


def _lost(name: str, what: str) -> Finding:
    return Finding(
        name, "loss", "alarm", what,
        "Reset the connector (Connect: PUT /connectors/NAME/stop, DELETE /connectors/NAME/offsets, then `tongbu apply`): "
        "its new snapshot brings the current rows; `tongbu reconcile` names rows that were deleted meanwhile.",
    )  # fmt: skip


def _lsn(number: int) -> str:
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


# -- MariaDB and MySQL

#: variable -> value that capture needs.
_WANTED = {"log_bin": "ON", "binlog_format": "ROW", "binlog_row_image": "FULL"}


def mysql(
    name: str, database: str, cursor: Any, offset: dict[str, Any] | None
) -> Iterator[Finding]:
    """Look at a MariaDB or MySQL source: its settings, the expiry of its binlog, and whether it holds what comes next."""
    cursor.execute("SHOW GLOBAL VARIABLES")
    variables = dict(cursor.fetchall())
    wanted = dict(_WANTED)
    if database == "mariadb" and "binlog_legacy_event_pos" in variables:
        wanted["binlog_legacy_event_pos"] = "ON"
    wrong = {key: variables.get(key) for key in wanted if variables.get(key) != wanted[key]}
    for key, value in wrong.items():
        why = (
            "rows inside a transaction can't be ordered"
            if "legacy" in key
            else "rows are missing or not whole"
        )
        yield Finding(name, "log", "alarm", f"{key} is {value}: {why}", f"Set {key}={wanted[key]}.")
    if not wrong:
        yield Finding(name, "log", "ok", "whole rows are logged, in order")
    expiry = float(variables.get("binlog_expire_logs_seconds") or 0)
    if 0 < expiry < LIMITS.binlog_expiry_seconds:
        remedy = f"Raise binlog_expire_logs_seconds to {LIMITS.binlog_expiry_seconds} or more."
        yield Finding(name, "binlog", "warning", f"kept for {expiry / 3600:.1f} h only", remedy)
    yield _binlog(name, cursor, offset)


def _binlog(name: str, cursor: Any, offset: dict[str, Any] | None) -> Finding:
    cursor.execute("SHOW BINARY LOGS")
    files = [row[0] for row in cursor.fetchall()]
    if offset is None:
        return Finding(
            name,
            "binlog",
            "warning",
            "nothing captured yet",
            "`tongbu apply` starts the connector.",
        )
    if offset["file"] not in files:
        oldest = files[0] if files else "none"
        return _lost(
            name,
            f"the binlog is purged: capture stands at {offset['file']}, pos {offset['pos']}, the oldest is {oldest}",
        )
    behind = len(files) - 1 - files.index(offset["file"])
    return Finding(
        name,
        "binlog",
        "ok",
        f"capture stands at {offset['file']}, {behind} files before the newest",
    )


# -- Kafka


def _heartbeat(deployment: Deployment, name: str) -> Finding:
    topic = deployment.lane_topic(name)
    if topic not in topics.names(deployment.bootstrap):
        return Finding(name, "heartbeat", "warning", "no lane log yet", "Run `tongbu apply`.")
    start = topics.starts(deployment.bootstrap, [topic])[topic, 0]
    end = topics.ends(deployment.bootstrap, [topic])[topic, 0]
    last = None
    for message in topics.read(deployment.bootstrap, topic, 0, max(start, end - 1), end):
        last = message.timestamp()[1] / 1000
    if last is None:
        return Finding(name, "heartbeat", "warning", "the lane log is empty", "Run `tongbu apply`.")
    age = max(0.0, time.time() - last)
    level: Level = "alarm" if age > LIMITS.heartbeat_seconds else "ok"
    remedy = (
        "Heartbeats come every 5 s: look at the connector, `tongbu plan`." if level != "ok" else ""
    )
    return Finding(name, "heartbeat", level, f"the last record is {age:.0f} s old", remedy)

"""
What may go wrong at a source before it does: its log settings, slot or binlog, publication, and what capture has stored.

`inspect` asks the live source as the capture user (least privilege is enough for all of it) and Kafka; each
finding says what it means and what to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg
import pymysql

from schemas.captured import Table
from schemas.errors import ServiceUnavailable, TongbuError
from tongbu import topics
from tongbu.deploy import captured
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import Deployment
from tongbu.sources import mysql, postgresql
from tongbu.sources.findings import LIMITS, Finding, Level

OFFSETS = "_connect_offsets"


def inspect(deployment: Deployment) -> list[Finding]:
    """Look at every source. A source that does not answer is a finding, too."""
    return [finding for name in deployment.sources for finding in _source(deployment, name)]


def losses(deployment: Deployment, name: str) -> list[Finding]:
    """Compare what capture has stored of a source with its slot or binlog; give what is lost. For before a start."""
    offset = stored_offset(deployment.bootstrap, name)
    with _asking(deployment, name) as ask:
        if deployment.sources[name].database == "postgresql":
            found = postgresql.slot_finding(name, ask, offset)
        else:
            found = mysql.binlog_finding(name, ask, offset)
    return [found] if found.check == "loss" else []


def capture_dsn(deployment: Deployment, name: str) -> str:
    """Give the DSN of a source's capture user; of its owner where there is none."""
    environment = deployment.environment
    return environment.get(f"{name.upper()}_CAPTURE_DSN") or environment[f"{name.upper()}_DSN"]


@contextmanager
def _asking(deployment: Deployment, name: str) -> Iterator[Any]:
    """Give a connection (PostgreSQL) or a cursor (MariaDB, MySQL); raise ServiceUnavailable."""
    dsn = capture_dsn(deployment, name)
    try:
        if deployment.sources[name].database == "postgresql":
            with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as pg:
                yield pg
        else:
            with pymysql.connect(**mysql_arguments(dsn)) as my, my.cursor() as cursor:
                yield cursor
    except (psycopg.OperationalError, pymysql.err.OperationalError) as error:
        raise ServiceUnavailable(
            f"source {name} does not answer: {str(error).splitlines()[0]}", "Is it up?"
        ) from error


def _source(deployment: Deployment, name: str) -> Iterator[Finding]:
    source = deployment.sources[name]
    found: list[Table] = []
    try:
        each = captured.examine(
            name, source, capture_dsn(deployment, name), deployment.tables_of(name)
        )
        for table in each:
            if isinstance(table, TongbuError):
                yield Finding(name, "tables", "alarm", table.message, table.remedy)
            else:
                found.append(table)
        yield Finding(name, "tables", "ok", f"{len(found)} mapped tables, each with a key")
        offset = stored_offset(deployment.bootstrap, name)
        with _asking(deployment, name) as ask:
            if source.database == "postgresql":
                yield from postgresql.inspect(name, ask, tuple(found), offset)
            else:
                yield from mysql.inspect(name, source.database, ask, offset)
    except TongbuError as error:
        yield Finding(name, "source", "alarm", error.message, error.remedy)
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
    what, figures = f"the last record is {age:.0f} s old", {"heartbeat_age_seconds": round(age, 1)}
    return Finding(name, "heartbeat", level, what, remedy, figures)

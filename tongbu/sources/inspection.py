"""
What may go wrong at a source before it does: its log settings, slot or binlog, publication, and what capture has stored.

`inspect` asks the live source as the capture user (least privilege is enough for all of it) and Kafka; each
finding says what it means and what to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from schemas.captured import Table
from schemas.errors import TongbuError
from tongbu import topics
from tongbu.deploy import captured, connectors
from tongbu.deploy import topics as declared
from tongbu.deploy.deployment import Deployment
from tongbu.sources import mysql, postgresql
from tongbu.sources.findings import LIMITS, Finding, Level
from tongbu.sources.offsets import asking, capture_dsn, slot_name, stored_offset

#: Topics that are ours beside the declared ones: Connect's own, and schema histories that have followed the first.
_OURS = ("_connect_", "_schema_history.")


def inspect(deployment: Deployment) -> list[Finding]:
    """
    Look at every source. What does not answer is a finding, too.

    Without Kafka the sources are looked at all the same: it is then that their logs grow.
    """
    away = [*_broker(deployment)]
    found = away or [*_replicas(deployment)]
    return found + [
        finding
        for name in deployment.sources
        for finding in _source(deployment, name, has_kafka=not away)
    ]


def _broker(deployment: Deployment) -> Iterator[Finding]:
    try:
        topics.names(deployment.bootstrap)
    except TongbuError as error:
        what = f"{error.message}: what capture has stored is not known, so losses and heartbeats are not looked for"
        yield Finding("kafka", "broker", "alarm", what, error.remedy)


def _replicas(deployment: Deployment) -> Iterator[Finding]:
    """Look, where there are several brokers, for topics of ours that are lost with one of them."""
    lone = topics.lone(deployment.bootstrap)
    if lone is None:
        return
    ours = {each.name for each in declared.wanted(deployment)}
    found = sorted(each for each in lone if each in ours or each.startswith(_OURS))
    if found:
        what = f"one broker only has {', '.join(found)}: with it they would be lost"
        remedy = (
            "Set `default.replication.factor` of the brokers for topics to come; give these more replicas by "
            "`kafka-reassign-partitions.sh` (connectors-config/README.md)."
        )
        yield Finding("kafka", "replicas", "warning", what, remedy)
    else:
        yield Finding("kafka", "replicas", "ok", "every topic of ours has several")


def _source(deployment: Deployment, name: str, *, has_kafka: bool) -> Iterator[Finding]:
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
        stored = partial(stored_offset, deployment.bootstrap, name) if has_kafka else None
        with asking(deployment, name) as ask:
            if source.database == "postgresql":
                slot = slot_name(deployment, name)
                yield from postgresql.inspect(name, ask, tuple(found), stored, slot)
            else:
                yield from mysql.inspect(name, source.database, ask, stored)
    except TongbuError as error:
        yield Finding(name, "source", "alarm", error.message, error.remedy)
    if has_kafka:
        yield _heartbeat(deployment, name)
    yield _connector(deployment, name)


def _connector(deployment: Deployment, name: str) -> Finding:
    try:
        cause = connectors.failure(deployment, name)
    except TongbuError as error:
        return Finding(name, "connector", "alarm", error.message, error.remedy)
    if cause is None:
        return Finding(name, "connector", "ok", "has not failed")
    remedy = (
        "Mend the cause; the watch starts it again, with growing pauses, or `tongbu apply` does."
    )
    return Finding(name, "connector", "alarm", cause, remedy)


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

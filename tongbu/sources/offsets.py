"""What capture has stored of a source, compared with the source's slot or binlog: whether something is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson
import psycopg
import pymysql

from tongbu import topics
from tongbu.deploy import captured
from tongbu.deploy.deployment import Deployment, connector_settings
from tongbu.sources import mysql, postgresql
from tongbu.sources.findings import Finding

OFFSETS = "_connect_offsets"
#: What a stored offset has where it tells a place in the log.
_PLACES = ("lsn", "file")


def losses(deployment: Deployment, name: str) -> list[Finding]:
    """Compare what capture has stored of a source with its slot or binlog; give what is lost. For before a start."""
    stored = partial(stored_offset, deployment.bootstrap, name)
    with asking(deployment, name) as ask:
        if deployment.sources[name].database == "postgresql":
            found = postgresql.slot_finding(name, ask, stored, slot_name(deployment, name))
        else:
            found = mysql.binlog_finding(name, ask, stored())
    return [found] if found.check == "loss" else []


def stored_offset(bootstrap: str, source: str) -> dict[str, Any] | None:
    """
    Give where capture will go on, as Connect has stored it; None where it never ran, or was reset.

    What a first snapshot notes before it has a place in the log (`connectors.NO_PLACE`) counts as nothing.
    """
    if OFFSETS not in topics.names(bootstrap):
        return None
    start = topics.starts(bootstrap, [OFFSETS])[OFFSETS, 0]
    end = topics.ends(bootstrap, [OFFSETS])[OFFSETS, 0]
    found = None
    for message in topics.read(bootstrap, OFFSETS, 0, start, end):
        if orjson.loads(message.key())[0] == source:
            found = orjson.loads(message.value()) if message.value() else None
    return found if found and not found.keys().isdisjoint(_PLACES) else None


def capture_dsn(deployment: Deployment, name: str) -> str:
    """Give the DSN of a source's capture user; of its owner where there is none."""
    environment = deployment.environment
    return environment.get(f"{name.upper()}_CAPTURE_DSN") or environment[f"{name.upper()}_DSN"]


def slot_name(deployment: Deployment, name: str) -> str:
    """Give the replication slot of a source's connector, as it is declared."""
    return connector_settings(deployment.sources[name].connector).get("slot.name", "debezium")


@contextmanager
def asking(deployment: Deployment, name: str) -> Iterator[Any]:
    """Give a connection (PostgreSQL) or a cursor (MariaDB, MySQL); raise TongbuError where what it is asked gets no answer."""
    dsn = capture_dsn(deployment, name)
    try:
        if deployment.sources[name].database == "postgresql":
            with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as pg:
                yield pg
        else:
            with pymysql.connect(**captured.mysql_arguments(dsn)) as my, my.cursor() as cursor:
                yield cursor
    except captured.IN_VAIN as error:
        raise captured.unanswered(name, error) from error

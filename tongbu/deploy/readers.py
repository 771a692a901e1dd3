"""
Readers: short-lived connectors that read tables of a source once, into its lane log, while its own connector streams on.

Each has the id of the snapshot as its name and topic prefix. It needs no slot and reads no binlog; a killed worker lets it
start again from the beginning. Why not an incremental snapshot of the source's own connector: docs/capture.md.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import httpx

from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.deploy import connectors
from tongbu.deploy.deployment import Deployment, connector_settings

#: Of the source's own settings a reader has all but these: they are for its log.
_FOR_THE_LOG = ("heartbeat.", "schema.history.internal.", "slot.", "signal.")
#: Added to the source's server id, which MariaDB and MySQL want to be unique among all that connect as a replica.
_SERVER_IDS_APART = 10_000


#: A worker that was killed is back in that time.
_PATIENCE_SECONDS = 60.0

P = ParamSpec("P")
T = TypeVar("T")


def _patiently(ask: Callable[P, T]) -> Callable[P, T]:
    """Ask again while Kafka Connect is being started."""

    @wraps(ask)
    def asked(*args: P.args, **options: P.kwargs) -> T:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return ask(*args, **options)
            except ServiceUnavailable:
                if time.monotonic() > end:
                    raise
            time.sleep(0.5)

    return asked


def name_of(source: str, number: str) -> str:
    """Give the id of a snapshot."""
    return f"{source}-snapshot-{number}"


def settings(own: dict[str, str], snapshot: str, tables: Sequence[str]) -> dict[str, str]:
    """Give the whole configuration of a reader of a source whose connector has the settings `own`."""
    kept = {key: value for key, value in own.items() if not key.startswith(_FOR_THE_LOG)}
    shared = connector_settings("reader.json")
    if "database.server.id" in kept:
        kept["database.server.id"] = str(int(kept["database.server.id"]) + _SERVER_IDS_APART)
    return {
        **kept,
        **shared,
        "topic.prefix": snapshot,
        "notification.sink.topic.name": f"{snapshot}.notifications",
        "table.include.list": ",".join(re.escape(table) for table in tables),
    }


@_patiently
def start(deployment: Deployment, source: str, snapshot: str, tables: Sequence[str]) -> None:
    """Start a reader."""
    wanted = settings(connectors.settings(deployment, source), snapshot, tables)
    with connectors.client(deployment) as connect:
        _names(connect)
        connectors.send(connect, "PUT", f"/connectors/{snapshot}/config", wanted)


@_patiently
def running(deployment: Deployment, source: str) -> list[str]:
    """Give the readers of a source that Kafka Connect knows, be they done or not."""
    with connectors.client(deployment) as connect:
        return [name for name in _names(connect) if name.startswith(name_of(source, ""))]


def _names(connect: httpx.Client) -> list[str]:
    """Give all connectors; a worker that starts answers with errors until it knows them."""
    answer = connect.get("/connectors")
    if answer.is_error:
        raise ServiceUnavailable(
            f"Kafka Connect is not ready ({answer.status_code})", "`tongbu status` tells."
        )
    names: list[str] = answer.json()
    return names


@_patiently
def check(deployment: Deployment, snapshot: str) -> None:
    """
    Raise TongbuError with the cause where a reader has failed.

    One that was cut before it had a place in the log has nothing to go on from: it begins anew.
    """
    with connectors.client(deployment) as connect:
        state = connectors.state(connect, snapshot)
        if connectors.NO_PLACE in state:
            connectors.forget_place(connect, snapshot)
            state = connectors.STOPPED
        if state == connectors.STOPPED:  # also where the one who stopped it was killed
            connectors.send(connect, "PUT", f"/connectors/{snapshot}/resume")
    if state != "RUNNING" and state not in connectors.STARTING:
        raise TongbuError(
            f"{snapshot} can't read on: {state}", "Mend the cause, then run the command again."
        )


@_patiently
def remove(deployment: Deployment, snapshot: str) -> None:
    """Take a reader away, with what Kafka Connect has stored of it."""
    with connectors.client(deployment) as connect:
        if snapshot in _names(connect):
            connectors.forget(connect, snapshot)

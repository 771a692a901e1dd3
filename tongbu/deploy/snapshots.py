"""Snapshots of single tables: begun in the lane log, read by a connector of their own, followed to their end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.control import Snapshot
from schemas.errors import TongbuError
from tongbu import topics
from tongbu.deploy import captured, lanes, readers
from tongbu.deploy.deployment import Deployment
from tongbu.deploy.known import Known, snapshot_notice
from tongbu.progress import Steps

#: How often the reader is asked whether it has failed.
_CHECK_SECONDS = 2.0
_ROW = b'"op":"r"'
#: More tables are only counted, not named.
_NAMED = 3


@dataclass(frozen=True)
class Taken:
    """A snapshot that has ended: which tables it read, how many rows, and the entities that are published again."""

    source: str
    tables: list[str]
    snapshot: str
    rows: int
    seconds: float
    entities: list[str]


def take(subject: Deployment, source: str, tables: Sequence[str], steps: Steps) -> Taken:
    """
    Take a snapshot of tables, or follow the one that is under way, to its end.

    Raise TongbuError where a table is not captured, or the reader fails: the rows that it has read do no harm.
    """
    began = time.monotonic()
    known = _known(subject, source, tables)
    alive = readers.running(subject, source)
    under_way = {known.reading.get(table) for table in tables}
    joined = next(iter(under_way)) if len(under_way) == 1 else None
    if joined is None or joined[0] not in alive:
        joined = _begin(subject, source, tables)
    id_, offset = joined
    for name in alive:
        if name not in {id_, *(each for each, _ in known.reading.values())}:
            readers.remove(subject, name)  # it was done when nobody followed it any more
    rows = _follow(subject, source, id_, offset, tables, steps)
    readers.remove(subject, id_)
    entities = [
        each.value.entity
        for each in subject.mappings
        if each.value.source == source and not set(tables).isdisjoint(each.value.tables)
    ]
    seconds = round(time.monotonic() - began, 1)
    return Taken(source, list(tables), id_, rows, seconds, entities)


def _known(subject: Deployment, source: str, tables: Sequence[str]) -> Known:
    if source not in subject.sources:
        raise TongbuError(f"there is no source `{source}`", f"Known: {', '.join(subject.sources)}.")
    known = lanes.read(subject, source)
    for table in tables:
        if table not in known.tables:
            raise TongbuError(
                f"source {source}: `{table}` is not captured",
                f"Captured (names are case-sensitive): {', '.join(known.tables) or 'nothing yet, run `tongbu apply`'}.",
            )
    return known


def _begin(subject: Deployment, source: str, tables: Sequence[str]) -> tuple[str, int]:
    """Say in the lane log that tables are read from here on, then start the reader: never the other way round."""
    id_ = readers.name_of(source, uuid.uuid4().hex[:8])
    offset = lanes.append(subject, Snapshot(source=source, snapshot=id_, tables=tuple(tables)))
    readers.start(subject, source, id_, tables)
    return id_, offset


def _follow(
    subject: Deployment, source: str, id_: str, offset: int, tables: Sequence[str], steps: Steps
) -> int:
    """Read the lane log until the snapshot has ended; give how many rows it read."""
    dsn = subject.environment[f"{source.upper()}_DSN"]
    total = captured.estimate(source, subject.sources[source], dsn, list(tables))
    name, rows, checked = f'"name":"{id_}"'.encode(), 0, time.monotonic()
    log = topics.follow(subject.bootstrap, subject.lane_topic(source), 0, offset)
    what = ", ".join(tables) if len(tables) <= _NAMED else f"{len(tables)} tables"
    with steps.step(f"reading {what}", total) as advance:
        for message in log:
            if message is None:
                if time.monotonic() - checked > _CHECK_SECONDS:
                    readers.check(subject, id_)
                    checked = time.monotonic()
                continue
            value = message.value()
            if value is not None and name in value and _ROW in value:
                rows += 1
                advance(1)
            notice = snapshot_notice(message)
            if notice is None or notice.connector != id_:
                continue
            if notice.what == "STARTED":
                advance(-rows)
                rows = 0
            elif notice.what == "TABLE_SCAN_COMPLETED" and notice.status not in (
                "SUCCEEDED",
                "EMPTY",
            ):
                raise TongbuError(f"{id_}: reading {notice.table} ended with {notice.status}", _LOG)
            elif notice.what == "COMPLETED":
                return rows
            elif notice.what == "ABORTED":
                raise TongbuError(f"{id_} was aborted", _LOG)
    return rows


_LOG = "Kafka Connect's log says more; then run the command again."

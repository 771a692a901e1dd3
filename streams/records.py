"""The values that travel through the processor, one type per boundary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streams.errors import RecordError
from streams.stages.ddl import TableChange

Row = dict[str, Any]


class LaneRecord(msgspec.Struct, frozen=True):
    """A record of a lane log; `offset` is its place there, `timestamp` its append time in microseconds."""

    topic: str
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Position(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Where a row stands in its source's log: (PG: lsn; MariaDB/MySQL: file and pos), then row."""

    place: tuple[int, int]
    row: int


class Change(msgspec.Struct):
    """
    One row change decoded from a Debezium event.

    `operation` is Debezium's: c, u, d, r (snapshot read), t (truncate). Values of before and after are as
    in its JSON; `moved_from`/`moved_to` hold the other key of a primary-key change. `reader` is the connector that
    read a row of a snapshot, or `incremental`.
    """

    table: str
    operation: str
    before: Row | None
    after: Row | None
    transaction: str | None
    position: Position
    committed_at: int | None
    moved_from: Row | None = None
    moved_to: Row | None = None
    reader: str | None = None


class Begin(msgspec.Struct, frozen=True):
    """BEGIN of a source transaction."""

    transaction: str


class End(msgspec.Struct, frozen=True):
    """END of a source transaction; `identity` tells a repeat: PG xid and END lsn, or the GTID."""

    transaction: str
    identity: str
    place: int


class Ddl(msgspec.Struct, frozen=True):
    """
    A schema change that MariaDB/MySQL report inline; it closes the bracket it stands in. `tables` is what it changes.

    `identity` tells a repeat: a statement may come as several of them, one for each table.
    """

    tables: tuple[TableChange, ...] = ()
    identity: str | None = None


class SnapshotNotice(msgspec.Struct, frozen=True):
    """
    Debezium's notification about a snapshot.

    `what` is its type (STARTED, TABLE_SCAN_COMPLETED, COMPLETED, ABORTED, SKIPPED …), `connector` who takes it (its
    topic prefix); `table` and `status` say how the scan of a table ended.
    """

    what: str
    connector: str | None = None
    table: str | None = None
    status: str | None = None


Event = Change | Begin | End | Ddl | SnapshotNotice


class SourceTransaction(msgspec.Struct):
    """The changes of one source transaction, in order; `repeat` where capture sent it before."""

    id: str | None
    changes: Iterable[Change]
    committed_at: int | None


class RowChange(msgspec.Struct, frozen=True):
    """A change resolved against the row images: complete rows before and after."""

    table: str
    key: bytes
    before: Row | None
    after: Row | None
    before_key: bytes | None = None


class Output(msgspec.Struct):
    """
    A record to be produced; `partition` -1 lets the key decide.

    `captured` is the append time of the lane record that made it (microseconds): the app adds its own
    times and sends all as the header `stage-clock`.
    """

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = -1
    captured: int | None = None


class Letter(msgspec.Struct, frozen=True):
    """A dead letter before it is encoded."""

    id: str
    state: str
    error: RecordError
    entity: str | None = None
    entity_id: str | None = None
    sealed: bytes | None = None

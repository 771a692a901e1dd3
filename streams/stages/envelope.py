"""
What of Debezium's JSON is read, in its own names and in its order: msgspec looks for the next name where it found the last.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
"""

from __future__ import annotations

from typing import Any

import msgspec


class Source(msgspec.Struct):
    """Where a change stands in its source's log."""

    db: str | None = None
    ts_us: int | None = None
    schema: str | None = None
    table: str | None = None  # null for DDL of a whole database
    lsn: int | None = None
    file: str | None = None
    pos: int = 0
    row: int = 0
    change_lsn: str | None = None  # SQL Server
    event_serial_no: int | None = None
    scn: str | None = None  # Oracle


class Bracket(msgspec.Struct):
    """The transaction that a change belongs to."""

    id: str


class ReadFrom(msgspec.Struct):
    """Which connector made a record, and whether in a snapshot; where it stands in the log of MariaDB or MySQL."""

    name: str | None = None
    snapshot: str | None = None
    gtid: str | None = None
    file: str | None = None
    pos: int = 0

    @property
    def identity(self) -> str | None:
        """Give what tells a repeat, as capture names transactions; None where there is no such log."""
        return self.gtid or (f"file={self.file},pos={self.pos}" if self.file else None)


class FromSource(msgspec.Struct):
    """What of a record only snapshots, DDL and truncates are asked for."""

    source: ReadFrom | None = None


class Notice(msgspec.Struct):
    """What a notification tells about its table."""

    connector_name: str | None = None
    scanned_collection: str | None = None
    status: str | None = None


class Envelope(msgspec.Struct):
    """Any record: a change, a BEGIN or END, DDL, or a notification."""

    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    source: Source | None = None
    transaction: Bracket | None = None
    op: str | None = None
    status: str | None = None
    id: str | None = None
    ddl: str | None = None
    aggregate_type: str | None = None
    type: str | None = None
    additional_data: Notice | None = None

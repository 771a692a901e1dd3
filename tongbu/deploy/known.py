"""What a lane log tells of itself: its last control records, and which tables are read or still to be read."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from schemas import control
from streams.records import LaneRecord, SnapshotNotice
from streams.snapshots import Snapshots
from streams.spool import Spool
from streams.stages.decode import decode

_NOTICE = b'"aggregate_type":"Initial Snapshot"'


class _WithoutImages:
    """A state for `Snapshots` that knows no rows."""

    def __init__(self) -> None:
        self._values: dict[bytes, Any] = {}

    def get(self, key: bytes) -> Any:
        return self._values.get(key)

    def put(self, key: bytes, value: Any) -> None:
        self._values[key] = value

    def spool(self) -> Spool[Any]:
        raise NotImplementedError

    def iterate(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, Any]]:  # noqa: ARG002
        return iter(())

    def scan(
        self,
        prefix: bytes,  # noqa: ARG002
        after: bytes = b"",  # noqa: ARG002
        limit: int | None = None,  # noqa: ARG002
    ) -> list[tuple[bytes, Any]]:
        return []


class Known:
    """The last control records of a lane log; `begins` is the first offset that it still has."""

    def __init__(self) -> None:
        self.lane: control.Lane | None = None
        self.captured: control.CapturedSchema | None = None
        self.declarations: control.Declarations | None = None
        self.begins = 0
        self._snapshots = Snapshots(_WithoutImages())

    @property
    def tables(self) -> list[str]:
        """The captured tables."""
        return [table.qualified for table in self.captured.tables] if self.captured else []

    @property
    def incomplete(self) -> frozenset[str]:
        """The tables that are captured and not read yet."""
        return self._snapshots.incomplete

    @property
    def reading(self) -> dict[str, tuple[str, int]]:
        """The tables that are being read: by which snapshot, and the Kafka offset where it began."""
        return {table: (each.id, each.begun) for table, each in self._snapshots.active.items()}

    def take(self, message: Any, source: str) -> None:
        """Take the next message of the log, as the lane does."""
        if control.is_control(message.key()):
            self._control(control.decode(message.value()), message.offset())
        elif (notice := snapshot_notice(message)) is not None:
            own = self.tables if notice.connector in (None, source) else None
            for table in _ended(self._snapshots.follow(notice, own, message.offset())):
                _ended(self._snapshots.end(table, complete=True))

    def _control(self, record: control.ControlRecord, offset: int) -> None:
        if isinstance(record, control.Lane):
            self.lane = record
        elif isinstance(record, control.CapturedSchema):
            if self.captured is not None and self.declarations is not None:
                now = [table.qualified for table in record.tables]
                _ended(self._snapshots.recaptured(self.tables, now))
            self.captured = record
        elif isinstance(record, control.Declarations):
            self.declarations = record
        elif isinstance(record, control.Snapshot):
            _ended(self._snapshots.begin(record.snapshot, record.tables, offset))


def snapshot_notice(message: Any) -> SnapshotNotice | None:
    """Give capture's notice about a snapshot, if a record of a lane log is one."""
    value = message.value()
    if value is None or _NOTICE not in value:
        return None
    event = decode(LaneRecord(message.topic(), message.offset(), 0, message.key(), value))
    return event if isinstance(event, SnapshotNotice) else None


def _ended(steps: Generator[None, None, list[str]] | Iterator[None]) -> list[str]:
    """Go through work that pauses; give what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value or []

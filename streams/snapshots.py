"""
Snapshots beside the stream: which tables are being read, what was seen of them, and which are not complete yet.

A row that is read may be older than what the stream brought since the snapshot began, whatever capture does to keep
both in order; such a row is not taken. When all is read, a row that was neither read nor changed since then is gone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from schemas.captured import Table
from streams.in_force import EntityPlan
from streams.records import Change, Row, SnapshotNotice
from streams.stages.image import Store, image_key, row_key
from streams.stages.map import BROKEN

_ACTIVE, _INCOMPLETE, _MARKS = b"sys\0snapshots", b"sys\0incomplete", b"mrk\0"
_CHANGED = -1
#: The id of the snapshot that a source's own connector takes when it is new.
INITIAL = "initial"
#: How the scan of a table ends well.
_SCANNED = ("SUCCEEDED", "EMPTY")
#: So many marks are removed at a stretch.
_PAUSE = 500


@dataclass(slots=True)
class TableSnapshot:
    """
    The snapshot of one table, begun at the lane's Kafka offset `begun`.

    `run` counts how often its reading has started, `scanned` says that it was read to its end; `sweeps` where there
    were images before its reading (the last time) started; `changes` and `truncated` where the stream has brought some since.
    """

    id: str
    begun: int
    run: int = 0
    scanned: bool = False
    sweeps: bool = False
    changes: bool = False
    truncated: bool = False


class Snapshots:
    """What a lane's state knows of snapshots."""

    def __init__(self, store: Store) -> None:
        self._store = store
        stored: dict[str, Any] = store.get(_ACTIVE) or {}
        self.active = {table: TableSnapshot(**each) for table, each in stored.items()}
        #: Tables that were captured later than the initial snapshot, and are not read yet.
        self.incomplete: frozenset[str] = frozenset(store.get(_INCOMPLETE) or ())

    # -- their course

    def begin(self, id_: str, tables: Iterable[str], offset: int) -> Iterator[None]:
        """Begin to read tables; what was begun before of them is given up. Pauses now and then, as others here do."""
        for table in tables:
            yield from self._forget(table)
            self.active[table] = TableSnapshot(id_, offset, sweeps=self._has_images(table))
        self._keep()

    def follow(
        self, notice: SnapshotNotice, captured: list[str] | None, offset: int
    ) -> Generator[None, None, list[str]]:
        """
        Take capture's notice about a snapshot; give the tables that it has now read completely.

        `captured` are all captured tables where the notice is of the source's own connector, which reads all of them
        when it is new. They are given, too, where such a snapshot ends whose beginning the log does not tell.
        """
        id_ = notice.connector or "" if captured is None else INITIAL
        reading = [table for table, each in self.active.items() if each.id == id_]
        if notice.what == "STARTED":
            yield from self._started(id_, reading, captured, offset)
        elif notice.what == "TABLE_SCAN_COMPLETED" and notice.table in reading:
            self.active[notice.table].scanned = notice.status in _SCANNED
            self._keep()
        elif notice.what == "COMPLETED" and captured is not None and not reading:
            return [table for table in captured if table not in self.active]
        elif notice.what in ("COMPLETED", "ABORTED"):
            for table in reading:
                if not self.active[table].scanned:
                    yield from self.end(table, complete=False)
            return [table for table in reading if table in self.active]
        return []

    def _started(
        self, id_: str, reading: list[str], captured: list[str] | None, offset: int
    ) -> Iterator[None]:
        """Begin the initial snapshot. What is read anew, after a crash, counts anew: an earlier attempt saw nothing."""
        if captured is not None and not reading:
            # It may only look at the schema again: what a reader reads stays its own until rows come (`take_over`).
            free = [table for table in captured if table not in self.active]
            yield from self.begin(id_, free, offset)
        for table in reading:
            snapshot = self.active[table]
            if snapshot.run or id_ == INITIAL:  # what the last attempt read may be gone by now
                snapshot.sweeps = self._has_images(table)
            snapshot.run += 1
            snapshot.scanned = False
        self._keep()

    def _has_images(self, table: str) -> bool:
        return bool(self._store.scan(image_key(table, b""), limit=1))

    def take_over(self, table: str, offset: int) -> Iterator[None]:
        """Let the snapshot of the source's own connector have a table of which it sends rows while a reader reads it."""
        snapshot = self.active.get(table)
        if snapshot is not None and snapshot.id != INITIAL:
            yield from self.begin(INITIAL, [table], offset)

    def end(self, table: str, *, complete: bool) -> Iterator[None]:
        """End the snapshot of a table, after what it did not see is swept where it is complete."""
        yield from self._forget(table)
        if complete:
            self.incomplete -= {table}
        self._keep()

    def recaptured(self, before: Iterable[str], now: Iterable[str]) -> Iterator[None]:
        """Note which tables are captured from here on: new ones are incomplete until they are read."""
        added, gone = set(now) - set(before), set(before) - set(now)
        for table in gone:
            yield from self._forget(table)
        self.incomplete = (self.incomplete | added) - gone
        self._keep()

    def waits(self, plan: EntityPlan) -> bool:
        """Tell whether an entity can't be published yet, for a table that it reads is not complete."""
        return bool(self.incomplete) and not self.incomplete.isdisjoint(plan.declared.tables)

    # -- the rows

    def admit(self, change: Change, table: Table) -> Change | None:
        """Take notice of a change of a table that is being read; None for a row that is older than the stream."""
        snapshot = self.active[change.table]
        if change.operation == "r":
            return self._read(snapshot, change, table)
        if change.operation == "t":
            snapshot.truncated = True
            self._keep()
            return change
        if not snapshot.changes:
            snapshot.changes = True
            self._keep()
        for row in (change.before, change.after, change.moved_from):
            if row is not None:
                key = row_key(row, table.key)
                self._store.put(_mark(snapshot, change.table, key), _CHANGED)
        return change

    def set_aside(self, table: str) -> None:
        """Note that what a table's snapshot sees can't be told any more: rows are kept unread, or have other keys."""
        snapshot = self.active.get(table)
        if snapshot is not None and snapshot.sweeps:
            snapshot.sweeps = False
            self._keep()

    def _read(self, snapshot: TableSnapshot, change: Change, table: Table) -> Change | None:
        if snapshot.truncated or change.after is None:
            return None  # the stream has brought every row that is there since
        key = row_key(change.after, table.key)
        place = _mark(snapshot, change.table, key)
        if snapshot.changes and self._store.get(place) == _CHANGED:
            return self._complete(change, change.after, key)
        if snapshot.sweeps:
            self._store.put(place, snapshot.run)
        return change

    def _complete(self, change: Change, row: Row, key: bytes) -> Change | None:
        """Give a changed row the values that its change did not bring and nobody knew: they did not change."""
        image = self._store.get(image_key(change.table, key))
        if image is None or BROKEN not in image:
            return None
        known = {name: value for name, value in image.items() if name != BROKEN}
        return msgspec.structs.replace(change, after=row | known)

    def unseen(self, table: str) -> Iterator[tuple[bytes, Row]]:
        """Give the rows of a table that its snapshot neither read nor the stream changed since it began."""
        snapshot = self.active.get(table)
        if snapshot is None or not snapshot.sweeps or snapshot.truncated:
            return
        prefix = image_key(table, b"")
        for place, row in self._store.iterate(prefix):
            key = place[len(prefix) :]
            mark = self._store.get(_mark(snapshot, table, key))
            if mark is None or _CHANGED < mark < snapshot.run:
                yield key, row

    # -- the state

    def _forget(self, table: str) -> Iterator[None]:
        snapshot = self.active.pop(table, None)
        if snapshot is None:
            return
        prefix = _mark(snapshot, table, b"")
        for number, (place, _) in enumerate(self._store.iterate(prefix), 1):
            self._store.put(place, None)
            if number % _PAUSE == 0:
                yield

    def _keep(self) -> None:
        active = {table: asdict(each) for table, each in self.active.items()}
        self._store.put(_ACTIVE, active or None)
        self._store.put(_INCOMPLETE, sorted(self.incomplete) or None)


def _mark(snapshot: TableSnapshot, table: str, key: bytes) -> bytes:
    return _MARKS + snapshot.begun.to_bytes(8, "big") + table.encode() + b"\0" + key

"""
A target in memory: the contract in its plainest form, for tests and for trying a binding without a database.

It applies message by message and record by record, so it is what the relational sinks' batches must come out as.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from schemas.codec import Decoder
from sink_writers.changes import Entry, Row, Rows, orphans
from sink_writers.fills import is_fill
from sink_writers.messages import Message, Record
from sink_writers.sink import Fenced, OtherTopic, Place, Position, Refused
from sink_writers.tables import TargetTable

Key = tuple[str, str]


class MemorySink:
    """
    Keeps rows per table by key, children with the row that they belong to.

    Nothing is ever due: what was set aside is tried again with every message. `refuses` plays a target's constraints: a record with a row it says True to is a data error.
    """

    due = False

    def __init__(
        self,
        tables: list[TargetTable],
        decoder: Decoder,
        refuses: Callable[[Row], bool] = lambda row: False,  # noqa: ARG005
    ) -> None:
        self._rows = Rows(tables, decoder)
        self._refuses = refuses
        self._transactions = count(1)
        self.positions: dict[tuple[str, str, int], tuple[str, Position]] = {}
        #: (table, id) -> the rows of the entity, by table name.
        self.entities: dict[Key, dict[str, list[Row]]] = {}
        self.fence: dict[Key, int] = {}
        self.set_aside: dict[Key, tuple[Record, str]] = {}
        #: (source, entity) -> fill id and the id that it has reached; None when it is done.
        self.fills: dict[tuple[str, str], tuple[str, str | None]] = {}

    @property
    def tables(self) -> dict[str, dict[tuple[object, ...], Row]]:
        """Give table -> key -> row."""
        found: dict[str, dict[tuple[object, ...], Row]] = {
            each.name: {} for each in self._rows.tables
        }
        for rows in self.entities.values():
            for table in self._rows.tables:
                for row in rows.get(table.name, ()):
                    found[table.name][tuple(row[name] for name in table.key)] = row
        return found

    def claim(self, place: Place) -> Position:
        """Raise the epoch."""
        topic_id, stored = self.positions.get(_key(place), (place.topic_id, Position(0, 0, 0)))
        if topic_id != place.topic_id:
            raise OtherTopic(place, topic_id)
        position = replace(stored, epoch=stored.epoch + 1)
        self.positions[_key(place)] = place.topic_id, position
        return position

    def apply(
        self, place: Place, at: Position, messages: Sequence[Message], to: Position
    ) -> str | None:
        """Put what is newer, move the position."""
        _, stored = self.positions[_key(place)]
        if stored == to:
            return None
        if stored != at:
            raise Fenced(place)
        for message in messages:
            self._put(self._rows.net([message]))
            if is_fill(message):
                self._delete_left_over(message)
        self._retry()
        self.positions[_key(place)] = place.topic_id, to
        return str(next(self._transactions))

    def tend(self, place: Place, at: Position) -> None:
        """Try again what was set aside."""
        if self.positions[_key(place)][1] != at:
            raise Fenced(place)
        self._retry()

    def close(self) -> None:
        """Nothing to let go of."""

    def _retry(self) -> None:
        before = -1
        while self.set_aside and len(self.set_aside) != before:
            before = len(self.set_aside)
            self._put([record for record, _ in self.set_aside.values()])

    def _put(self, records: Sequence[Record]) -> None:
        entries = [entry for record in records if (entry := self._entry(record)) is not None]
        lost = orphans(entries, self._rows.tables, self._there)
        for entry in entries:
            if entry.key in lost:
                self._put_aside(entry.record, "its parent is not there yet")
        whole = [entry for entry in entries if entry.key not in lost]
        for entry in [entry for entry in whole if entry.rows]:
            self._put_rows(entry)
        gone = [entry for entry in whole if not entry.rows]
        for _ in gone:  # each pass may free the parents of what it removes
            gone = [entry for entry in gone if not self._remove(entry)]
        for entry in gone:
            self._put_aside(entry.record, "others refer to it")

    def _entry(self, record: Record) -> Entry | None:
        try:
            entry = self._rows.writable(record)
            if any(self._refuses(row) for rows in entry.rows.values() for row in rows):
                raise Refused("refused by the test")
        except Refused as refusal:
            self._put_aside(record, str(refusal))
            return None
        return entry

    def _there(self, table: str, ids: list[str]) -> set[str]:
        return {id_ for id_ in ids if (table, id_) in self.entities}

    def _version(self, key: Key) -> int:
        rows = self.entities.get(key)
        return max(self._stored(rows, key) if rows else -1, self.fence.get(key, -1))

    def _stored(self, rows: dict[str, list[Row]], key: Key) -> int:
        table = next(each for each in self._rows.roots if each.name == key[0])
        return int(rows[table.name][0][table.version])

    def _put_rows(self, entry: Entry) -> None:
        if entry.record.version > self._version(entry.key):
            self.entities[entry.key] = entry.rows
        if entry.previous_id is not None:
            moved = entry.table.name, entry.previous_id
            for row, column in self._referring(moved, older_than=entry.record.version):
                row[column] = entry.record.key
        self._close(entry)

    def _remove(self, entry: Entry) -> bool:
        """Tell whether it could be done; not while others refer to it."""
        if self._version(entry.key) < entry.record.version and self._referring(entry.key):
            return False
        rows = self.entities.get(entry.key)
        if rows and self._stored(rows, entry.key) < entry.record.version:
            del self.entities[entry.key]
        self.fence[entry.key] = max(entry.record.version, self.fence.get(entry.key, -1))
        self._close(entry)
        return True

    def _referring(self, key: Key, older_than: int | None = None) -> list[tuple[Row, str]]:
        """Give the rows that refer to an entity, with the column that does."""
        name, id_ = key
        return [
            (row, reference.column)
            for other, rows in self.entities.items()
            if other != key and (older_than is None or self._stored(rows, other) < older_than)
            for table in self._rows.tables
            for reference in table.references
            if reference.table == name
            for row in rows.get(table.name, ())
            if row[reference.column] == id_
        ]

    def _delete_left_over(self, message: Message) -> None:
        chunk = message.fill
        assert chunk is not None
        place = message.source, chunk.entity
        if self.fills.get(place) != (chunk.id, chunk.after):
            return
        self.fills[place] = chunk.id, None if chunk.last else chunk.to
        table = next(each for each in self._rows.roots if each.entity == chunk.entity)
        brought = {record.key for record in message.records}
        named = {id_ for entity, id_ in message.withheld if entity == chunk.entity}
        for name, id_ in sorted({*self.entities, *self.set_aside}):
            inside = chunk.after < id_ and (chunk.last or id_ <= chunk.to)
            mine = name == table.name and id_.startswith(f"{message.source}:")
            if mine and inside and id_ not in brought | named:
                gone = Record(table.topic, id_, "delete", message.lane_offset, b"")
                if not self._remove(Entry(gone, table, {})):
                    self._put_aside(gone, "others refer to it")

    def _put_aside(self, record: Record, reason: str) -> None:
        key = self._rows.root(record).name, record.key
        letter = self.set_aside.get(key)
        if record.version > self._version(key) and (
            not letter or letter[0].version <= record.version
        ):
            self.set_aside[key] = record, reason

    def _close(self, entry: Entry) -> None:
        letter = self.set_aside.get(entry.key)
        if letter and letter[0].version <= entry.record.version:
            del self.set_aside[entry.key]


def _key(place: Place) -> tuple[str, str, int]:
    return place.binding, place.topic, place.partition

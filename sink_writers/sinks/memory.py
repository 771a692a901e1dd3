"""A target in memory: the contract in its plainest form, for tests and for trying a binding without a database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from schemas.codec import Decoder
from sink_writers.changes import Changes, Row, Rows, divide
from sink_writers.messages import Message, Record
from sink_writers.sink import Fenced, OtherTopic, Place, Position, Refused
from sink_writers.tables import TargetTable


class MemorySink:
    """
    Keeps rows per table by key.

    `refuses` plays a target's constraints: a record with a row it says True to is a data error.
    """

    def __init__(
        self,
        tables: list[TargetTable],
        decoder: Decoder,
        refuses: Callable[[Row], bool] = lambda row: False,  # noqa: ARG005
    ) -> None:
        self._rows = Rows(tables, decoder)
        self._list = tables
        self._refuses = refuses
        self._transactions = count(1)
        self.positions: dict[tuple[str, str, int], tuple[str, Position]] = {}
        self.tables: dict[str, dict[tuple[object, ...], Row]] = {table.name: {} for table in tables}
        self.fence: dict[tuple[str, str], int] = {}
        self.set_aside: dict[tuple[str, str], tuple[Record, str]] = {}

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
        divide(self._rows.net(messages), self._put, self._put_aside)
        self.positions[_key(place)] = place.topic_id, to
        return str(next(self._transactions))

    def close(self) -> None:
        """Nothing to let go of."""

    def _put(self, records: list[Record]) -> None:
        changes = self._rows.changes(records)
        if any(self._refuses(row) for rows in changes.puts.values() for row in rows):
            raise Refused("refused by the test")
        for table in (table for table in self._list if table.parent is None):
            for row in changes.puts.get(table.name, ()):
                self._put_row(table, row, changes)
            for gone in changes.removals.get(table.name, ()):
                self._remove(table, gone["id"], gone["version"])

    def _put_row(self, table: TargetTable, row: Row, changes: Changes) -> None:
        known = self.tables[table.name].get((row["id"],))
        stored = known["version"] if known else -1
        if row["version"] > max(stored, self.fence.get((table.name, row["id"]), -1)):
            self._drop(table, row["id"])
            self.tables[table.name][(row["id"],)] = row
            for child in self._children(table):
                mine = (
                    each
                    for each in changes.puts.get(child.name, ())
                    if each[child.key[0]] == row["id"]
                )
                self.tables[child.name].update(
                    {tuple(each[key] for key in child.key): each for each in mine}
                )
            self._close_letter(table, row["id"], row["version"])

    def _remove(self, table: TargetTable, key: str, version: int) -> None:
        self.fence[table.name, key] = max(version, self.fence.get((table.name, key), -1))
        known = self.tables[table.name].get((key,))
        if known and known["version"] < version:
            self._drop(table, key)
        self._close_letter(table, key, version)

    def _drop(self, table: TargetTable, key: str) -> None:
        self.tables[table.name].pop((key,), None)
        for child in self._children(table):
            rows = self.tables[child.name]
            for each in [each for each in rows if each[0] == key]:
                del rows[each]

    def _children(self, table: TargetTable) -> list[TargetTable]:
        return [each for each in self._list if each.parent == table.name]

    def _put_aside(self, record: Record, reason: str) -> None:
        self.set_aside[self._rows.root(record).name, record.key] = record, reason

    def _close_letter(self, table: TargetTable, key: str, version: int) -> None:
        letter = self.set_aside.get((table.name, key))
        if letter and letter[0].version <= version:
            del self.set_aside[table.name, key]


def _key(place: Place) -> tuple[str, str, int]:
    return place.binding, place.topic, place.partition

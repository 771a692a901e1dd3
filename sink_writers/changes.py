"""From records to rows: what one batch of messages changes in which tables, shared by the relational sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.codec import Decoder
from schemas.errors import TongbuError
from sink_writers.messages import Message, Record, net_effect
from sink_writers.sink import Refused
from sink_writers.tables import TargetTable

Row = dict[str, Any]


@dataclass(slots=True)
class Changes:
    """Per table name: rows to put (children with those of their parents), and (id, version) to delete."""

    puts: dict[str, list[Row]] = field(default_factory=dict)
    removals: dict[str, list[Row]] = field(default_factory=dict)


class Rows:
    """Makes rows for the tables of one binding."""

    def __init__(self, tables: list[TargetTable], decoder: Decoder) -> None:
        self._decoder = decoder
        self._roots = {table.topic: table for table in tables if table.parent is None}
        self._children = {
            root.name: [table for table in tables if table.parent == root.name]
            for root in self._roots.values()
        }

    def net(self, messages: Iterable[Message]) -> list[Record]:
        """Give the records that count, of the entities that the binding has."""
        net = net_effect(messages)
        return [record for topic in self._roots if topic in net for record in net[topic].values()]

    def root(self, record: Record) -> TargetTable:
        """Give the table that a record belongs to."""
        return self._roots[record.topic]

    def changes(self, records: Iterable[Record]) -> Changes:
        """Make the rows of records; raise Refused where a value can't be decoded."""
        changes = Changes()
        for record in records:
            table = self._roots[record.topic]
            if record.operation == "delete":
                gone = {"id": record.key, "version": record.version}
                changes.removals.setdefault(table.name, []).append(gone)
            else:
                self._put(changes, table, self._decode(record))
        return changes

    def _put(self, changes: Changes, table: TargetTable, value: dict[str, Any]) -> None:
        changes.puts.setdefault(table.name, []).append(table.row(value))
        for child in self._children[table.name]:
            rows = changes.puts.setdefault(child.name, [])
            for item in value.get(child.array or "") or ():
                row = child.row(item)
                row[child.key[0]] = value["id"]
                rows.append(row)

    def _decode(self, record: Record) -> dict[str, Any]:
        try:
            return self._decoder.decode(record.value)
        except TongbuError:
            raise
        except Exception as error:
            # Whatever a damaged value makes the Avro reader raise, it is this record's trouble alone (I9).
            raise Refused(f"can't be decoded: {error!r}") from error


def divide(
    records: list[Record],
    put: Callable[[list[Record]], None],
    set_aside: Callable[[Record, str], None],
) -> None:
    """
    Put all records but those that the target refuses, found by halving; `put` is all or nothing.

    Each refused record goes to `set_aside` with the reason, so its neighbours arrive and it is not lost.
    """
    if not records:
        return
    try:
        put(records)
    except Refused as refusal:
        if len(records) == 1:
            set_aside(records[0], str(refusal))
            return
        middle = len(records) // 2
        divide(records[:middle], put, set_aside)
        divide(records[middle:], put, set_aside)

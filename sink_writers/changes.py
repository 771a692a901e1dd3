"""From records to rows: what messages change in which tables, shared by the relational sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from schemas.codec import Decoder
from schemas.errors import TongbuError
from sink_writers.fills import is_fill
from sink_writers.messages import Message, Record, net_effect
from sink_writers.sink import Refused
from sink_writers.tables import TargetTable

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(slots=True)
class Changes:
    """
    Per table name: rows to put (children with those of their parents), ids that moved, ids to delete.

    A move is {"from", "to", "version"}: rows that refer to the one and are older follow to the other; newer ones know of it.
    A removal is {"id", "version"}.
    """

    puts: dict[str, list[Row]] = field(default_factory=dict)
    moves: dict[str, list[Row]] = field(default_factory=dict)
    removals: dict[str, list[Row]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with the rows that it makes, by table name; none for a delete, or where it is routed elsewhere."""

    record: Record
    table: TargetTable
    rows: dict[str, list[Row]]
    previous_id: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is about: root table and id."""
        return self.table.name, self.record.key


class Rows:
    """Makes rows for the tables of one binding."""

    def __init__(self, tables: list[TargetTable], decoder: Decoder) -> None:
        self.tables = tables
        self._decoder = decoder
        self._roots = {table.topic: table for table in tables if table.parent is None}
        self._children = {
            root.name: [table for table in tables if table.parent == root.name]
            for root in self._roots.values()
        }

    @property
    def roots(self) -> list[TargetTable]:
        """The tables of entities, what others refer to first."""
        return list(self._roots.values())

    def root(self, record: Record) -> TargetTable:
        """Give the table that a record belongs to."""
        return self._roots[record.topic]

    def children(self, table: TargetTable) -> list[TargetTable]:
        """Give the tables whose rows belong to a row of this one."""
        return self._children[table.name]

    def net(self, messages: Iterable[Message]) -> list[Record]:
        """Give the records that count, of the entities that the binding has."""
        net = net_effect(messages)
        return [record for topic in self._roots if topic in net for record in net[topic].values()]

    def entry(self, record: Record) -> Entry:
        """Make the rows of a record; raise Refused where its value can't be decoded."""
        table = self._roots[record.topic]
        if record.operation == "delete":
            return Entry(record, table, {})
        value = self._decode(record)
        if not table.has(value):
            return Entry(record, table, {})
        rows = {table.name: [table.row(value)]}
        for child in self._children[table.name]:
            rows[child.name] = [
                child.row(item) | {child.id: value["id"]}
                for item in value.get(child.array or "") or ()
            ]
        return Entry(record, table, rows, value["meta"].get("previous_id"))

    def writable(self, record: Record) -> Entry:
        """Make the rows of a record for a target; raise Refused where keys of its children repeat, too."""
        entry = self.entry(record)
        for child in self._children[entry.table.name]:
            keys = [row[child.key[1]] for row in entry.rows.get(child.name, ())]
            if len(set(keys)) < len(keys):
                raise Refused(f"{child.name}: two rows have the same {child.key[1]}")
        return entry

    def _decode(self, record: Record) -> dict[str, Any]:
        try:
            return self._decoder.decode(record.value)
        except TongbuError:
            raise
        except Exception as error:
            # Whatever a damaged value makes the Avro reader raise, it is this record's trouble alone (I9).
            raise Refused(f"can't be decoded: {type(error).__name__}") from error


def merge(entries: Iterable[Entry]) -> Changes:
    """Put the rows of several records together."""
    changes = Changes()
    for entry in entries:
        for name, rows in entry.rows.items():
            changes.puts.setdefault(name, []).extend(rows)
        if not entry.rows:
            gone = {"id": entry.record.key, "version": entry.record.version}
            changes.removals.setdefault(entry.table.name, []).append(gone)
        if entry.previous_id is not None:
            move = {
                "from": entry.previous_id,
                "to": entry.record.key,
                "version": entry.record.version,
            }
            changes.moves.setdefault(entry.table.name, []).append(move)
    return changes


def runs(messages: Sequence[Message]) -> list[list[Message]]:
    """
    Divide messages into stretches that may be reduced to their net effect.

    A giant stands alone, and is taken part by part. So does a fill chunk, for it speaks of the target's rows at its place in the log. So does a message that
    brings and deletes records of one entity: one may have moved, and the next may move on from there.
    """
    found: list[list[Message]] = []
    open_ended = False
    for message in messages:
        alone = _stands_alone(message)
        if alone or not open_ended:
            found.append([])
        found[-1].append(message)
        open_ended = not alone
    return found


def _stands_alone(message: Message) -> bool:
    if message.is_giant or is_fill(message):
        return True
    gone = {record.topic for record in message.records if record.operation == "delete"}
    return bool(gone) and any(
        record.topic in gone and record.operation != "delete" for record in message.records
    )


def orphans(
    entries: Sequence[Entry],
    tables: Sequence[TargetTable],
    there: Callable[[str, list[str]], set[str]],
) -> dict[tuple[str, str], tuple[str, str]]:
    """
    Find the records that refer to a row which neither these records bring nor the target has.

    Give key of the record -> (table, id) of the missing row. `there` tells which ids of a table the target has.
    A record that refers to an orphan is one, too.
    """
    asked: dict[str, set[str]] = {}
    referring: list[tuple[Entry, str, str]] = []
    for entry in entries:
        for table, id_ in _referred(entry, tables):
            referring.append((entry, table, id_))
            asked.setdefault(table, set()).add(id_)
    known = {(name, id_) for name, ids in asked.items() for id_ in there(name, sorted(ids))}
    brought = {entry.key for entry in entries if entry.rows} - known
    found: dict[tuple[str, str], tuple[str, str]] = {}
    while True:
        more = {
            entry.key: (table, id_)
            for entry, table, id_ in referring
            if entry.key not in found and (table, id_) not in known and (table, id_) not in brought
        }
        if not more:
            return found
        found |= more
        brought -= set(more)


def _referred(entry: Entry, tables: Sequence[TargetTable]) -> Iterator[tuple[str, str]]:
    for table in tables:
        for reference in table.references:
            for row in entry.rows.get(table.name, ()):
                if row[reference.column] is not None:
                    yield reference.table, row[reference.column]


def divide(
    items: Sequence[T], put: Callable[[Sequence[T]], None], single: Callable[[T, Refused], None]
) -> None:
    """Put all items but those that the target refuses, found by halving; `put` is all or nothing."""
    if not items:
        return
    try:
        put(items)
    except Refused as refusal:
        if len(items) == 1:
            single(items[0], refusal)
            return
        middle = len(items) // 2
        divide(items[:middle], put, single)
        divide(items[middle:], put, single)

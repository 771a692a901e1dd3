"""
What every relational sink does, whatever the database: see the contract in sink.py.

All that is there goes into one call of the database's `write` (the fast path). Where the target refuses it, or
records are about what was set aside, or a chunk of a fill came, the careful path does the same inside one
transaction with savepoints, and keeps what can't be applied in `tongbu_set_aside`, to try it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from schemas.catalog import MIRROR_ROW, Catalog
from schemas.codec import Decoder
from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from sink_writers import fills
from sink_writers.binding_tables import cycle
from sink_writers.changes import Changes, Entry, Rows, divide, merge, orphans, runs
from sink_writers.letters import Letters
from sink_writers.messages import Message, Record
from sink_writers.mirrors import MirrorDialect, Mirrors
from sink_writers.sink import Move, Place, Position, Refused
from sink_writers.sql import inside
from sink_writers.tables import TargetTable

#: Fences outlive every record that the transactions topic (7 days) can still bring.
_FENCE_DAYS = 8
_SWEEP_EVERY_S = 3600.0
#: As many letters that wait for nothing in particular are tried again at once: few while they are refused again,
#: for live traffic waits meanwhile; twice as many each time that all are taken.
_FEW, _MANY = 25, 500


class Database(Protocol):
    """A kind of database: one connection, opened when it is needed. Errors are said in the words of sink.py."""

    @property
    def mirror(self) -> MirrorDialect:
        """What it does for mirrored tables."""

    def connect(self) -> Any:
        """Open another connection, in autocommit mode."""

    def prepare(self, connection: Any) -> list[str]:
        """Learn what the server is; give what must be there before any table."""

    def explain(self, error: Any) -> TongbuError:
        """Say a driver's error in the words of sink.py."""

    def refusal(self, error: Any) -> str | None:
        """Say why a record is refused as it is, without a value of it; None for a driver's other errors."""

    def passes(self, error: Any) -> bool:
        """Tell whether what stands against a statement, by a driver's error that is no refusal, passes by itself."""

    def tables(self, catalog: Catalog) -> list[TargetTable]:
        """Give the binding's tables, what others refer to first."""

    def table(self, name: str) -> str:
        """Give the full, quoted name of a table."""

    def column(self, name: str) -> str:
        """Give the quoted name of a column."""

    def learn(self, tables: list[TargetTable]) -> None:
        """Learn the tables that `write` will be asked for."""

    def single(self, place: Place) -> AbstractContextManager[Any]:
        """Give a cursor for one `write` that is a transaction by itself."""

    def transaction(self, place: Place) -> AbstractContextManager[Any]:
        """Give a cursor of one transaction, committed at the end."""

    def savepoint(self, cursor: Any) -> AbstractContextManager[None]:
        """Undo what was done inside when it is left by an error; raise Refused for a data error."""

    def claim(self, cursor: Any, place: Place) -> Position:
        """Raise the epoch and read the position; raise OtherTopic."""

    def write(self, cursor: Any, changes: Changes, move: Move | None) -> str | None:
        """
        Move the position, then put, move and remove what is newer than the target.

        Give the transaction's id (or ""), None where the position had moved already; raise Fenced.
        """

    def unique_columns(self, cursor: Any, table: TargetTable) -> list[str]:
        """Give the columns outside the key that a unique index covers and that may be null."""

    def bytewise(self, column: str) -> str:
        """Give the expression by which a text column compares as UTF-8 bytes."""

    def foreign(self, column: str) -> str:
        """Give the expression by which a text column of ours compares with a key of any table."""

    def letter_key(self, key: str) -> str:
        """Give a record's key as `tongbu_set_aside` has room for it."""

    def keeps(self, cursor: Any, value: bytes) -> bool:
        """Tell whether a statement that sets a record aside has room for its value."""

    def seconds(self, begin: str, end: str) -> str:
        """Give the expression for the seconds between two moments."""

    def comparable(self, id_: str) -> str:
        """Give what compares with the ids that the target can have as this one does."""

    def days_ago(self, days: int) -> str:
        """Give the expression for a moment in the past."""

    def close(self) -> None:
        """Let go of the connection."""


class RelationalSink:
    """Tables of a database; see the contract in sink.py."""

    def __init__(
        self, database: Database, binding: RelationalBinding, catalog: Catalog, decoder: Decoder
    ) -> None:
        self._database = database
        self._binding = binding.binding
        self._rows = Rows(database.tables(catalog), decoder)
        circular = bool(cycle(self._rows.tables))
        self._letters = Letters(
            database,
            binding.binding,
            self._rows.roots,
            circular=circular,
            by_entity=binding.reads == "entities",
        )
        self._mirrors = Mirrors(database, binding.binding, decoder, self._letters)
        self._swept = time.monotonic()
        self._at_a_time = _FEW
        #: What was set aside may work now.
        self.due = False
        database.learn(self._rows.tables)

    def claim(self, place: Place) -> Position:
        """Raise the epoch and read the position."""
        self._letters.forget(place)
        self._mirrors.forget()
        with self._database.transaction(place) as cursor:
            return self._database.claim(cursor, place)

    def apply(
        self, place: Place, at: Position, messages: Sequence[Message], to: Position
    ) -> str | None:
        """One round trip where nothing stands against it."""
        done = self._apply(Move(place, at, to), messages)
        self.due = self.due or self._letters.awaited(self._brought(messages))
        self.due = self.due or any(message.kind == "release" for message in messages)
        return done

    def _brought(self, messages: Iterable[Message]) -> Iterator[tuple[str, str]]:
        """Give what messages may have brought, as letters name what they wait for."""
        names = {table.topic: table.name for table in self._rows.roots}
        for message in messages:
            for record in message.records:
                if record.topic in names and record.operation != "delete":
                    yield names[record.topic], record.key

    def _apply(self, move: Move, messages: Sequence[Message]) -> str | None:
        place, stretches = move.place, runs(messages)
        with self._letters.kept(place), self._mirrors.kept():
            self._letters.load(place)
            special = self._mirrors.prepare(messages) or any(
                each.is_giant or fills.is_fill(each) for each in messages
            )
            if len(stretches) <= 1 and not special:
                try:
                    return self._at_once(move, messages)
                except Refused:
                    pass
            return self._carefully(move, stretches)

    def tend(self, place: Place, at: Position) -> None:
        """Try again what was set aside and may work now; forget fences that have outlived their use."""
        self.due = False
        with self._letters.kept(place), self._mirrors.kept():
            if self._letters.load(place):
                with self._database.transaction(place) as cursor:
                    self._retry(cursor, place, at)
        if time.monotonic() - self._swept > _SWEEP_EVERY_S:
            self._swept = time.monotonic()
            with self._database.transaction(place) as cursor:
                self._sweep(cursor)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _at_once(self, move: Move, messages: Sequence[Message]) -> str | None:
        """Everything in one `write`; raise Refused where that can't be."""
        entries = [self._rows.writable(record) for record in self._rows.net(messages)]
        if self._letters.concern(move.place, entries):
            raise Refused("a letter has to be closed")
        with self._database.single(move.place) as cursor:
            return self._database.write(cursor, merge(entries), move)

    def _carefully(self, move: Move, stretches: Iterable[list[Message]]) -> str | None:
        with self._database.transaction(move.place) as cursor:
            done = self._database.write(cursor, Changes(), move)
            if done is None:
                return None
            for stretch in stretches:
                if stretch[0].is_giant and not fills.is_fill(stretch[0]):
                    self._put_giant(cursor, move.place, stretch[0])
                else:
                    self._put_messages(cursor, move.place, stretch)
            return done

    def _put_giant(self, cursor: Any, place: Place, message: Message) -> None:
        """Put a message part by part; what refers to a later part waits for it, within the transaction."""
        for part in message.slices():
            self._put_messages(cursor, place, [part])
        before = -1
        while (left := len(self._letters.load(place))) and left != before:
            before = left
            records = self._letters.arrived(cursor, place, message.lane_offset)
            self._put_apart(cursor, place, self._entries(cursor, place, records))

    def _put_messages(self, cursor: Any, place: Place, messages: list[Message]) -> None:
        """Put the net effect; where the target refuses that, smaller stretches, down to one record."""
        self._mirrors.put(cursor, place, messages)
        left = self._left_over(cursor, place, messages[0]) if fills.is_fill(messages[0]) else []

        def put(some: Sequence[Message]) -> None:
            entries = self._entries(cursor, place, self._rows.net(some))
            self._put(cursor, place, [*entries, *left])

        def one_by_one(message: Message, _: Refused) -> None:
            entries = self._entries(cursor, place, self._rows.net([message]))
            self._put_apart(cursor, place, [*entries, *left])

        divide(messages, put, one_by_one)

    def _retry(self, cursor: Any, place: Place, at: Position) -> None:
        most, known = self._at_a_time, self._letters.load(place)
        arrived = self._letters.arrived(cursor, place)
        hopeful = self._letters.hopeful(cursor, place, self._mirrors.names(), most)
        if not arrived and not hopeful:
            return
        self._database.write(cursor, Changes(), Move(place, at, at))
        before = len(known)
        self._put_apart(cursor, place, self._entries(cursor, place, arrived))
        self._mirrors.retry(cursor, place, [each for each in hopeful if each.topic == MIRROR_ROW])
        records = [each for each in hopeful if each.topic != MIRROR_ROW]
        self._put_apart(cursor, place, self._entries(cursor, place, records))
        all_taken = len(known) == before - len(arrived) - len(hopeful)
        self._at_a_time = min(2 * most, _MANY) if all_taken else _FEW
        self.due = all_taken and len(hopeful) == most

    def _put_apart(self, cursor: Any, place: Place, entries: list[Entry]) -> None:
        def set_aside(entry: Entry, refusal: Refused) -> None:
            self._letters.add(cursor, place, [(entry.table, entry.record, str(refusal), None)])

        divide(entries, partial(self._put, cursor, place), set_aside)

    def _entries(self, cursor: Any, place: Place, records: Iterable[Record]) -> list[Entry]:
        """Make the rows of records; those that can't be decoded or written are set aside."""
        entries = []
        for record in records:
            try:
                entries.append(self._rows.writable(record))
            except Refused as refusal:
                table = self._rows.root(record)
                self._letters.add(cursor, place, [(table, record, str(refusal), None)])
        return entries

    def _put(self, cursor: Any, place: Place, entries: Sequence[Entry]) -> None:
        """Put records: as they are, without those whose parents are missing, with unique values out of the way."""
        try:
            self._write(cursor, place, entries)
            return
        except Refused:
            entries = self._without_orphans(cursor, place, entries)
        try:
            self._write(cursor, place, entries)
        except Refused:
            if not any(self._database.unique_columns(cursor, each) for each in self._rows.roots):
                raise
            self._write(cursor, place, entries, parked=True)

    def _write(
        self, cursor: Any, place: Place, entries: Sequence[Entry], *, parked: bool = False
    ) -> None:
        changes = merge(entries)
        with self._database.savepoint(cursor):
            if parked:
                self._park(cursor, changes)
            self._database.write(cursor, changes, None)
            self._letters.close(cursor, place, entries)

    def _without_orphans(self, cursor: Any, place: Place, entries: Sequence[Entry]) -> list[Entry]:
        keys = {table.name: table.id for table in self._rows.roots}

        def there(table: str, ids: list[str]) -> set[str]:
            key = self._database.column(keys[table])
            query = f"select {key} from {self._database.table(table)} where {key} in "
            asked = [self._database.comparable(id_) for id_ in ids]
            return {row[0] for row in inside(cursor, query, asked)}

        lost = orphans(entries, self._rows.tables, there)
        self._letters.add(
            cursor,
            place,
            [
                (each.table, each.record, "its parent is not there yet", lost[each.key])
                for each in entries
                if each.key in lost
            ],
        )
        return [each for each in entries if each.key not in lost]

    def _park(self, cursor: Any, changes: Changes) -> None:
        """Take the unique values of rows that will be overwritten or deleted out of the others' way."""
        for table in self._rows.roots:
            columns = self._database.unique_columns(cursor, table)
            rows = [(row[table.id], row[table.version]) for row in changes.puts.get(table.name, ())]
            rows += [(row["id"], row["version"]) for row in changes.removals.get(table.name, ())]
            if columns and rows:
                nothing = ", ".join(f"{column} = null" for column in columns)
                older, takes = self._older(table)
                cursor.executemany(
                    f"update {self._database.table(table.name)} set {nothing} "
                    f"where {self._database.column(table.id)} = %s and {older}",
                    [(id_, *takes(id_, version)) for id_, version in rows],
                )

    def _older(self, table: TargetTable) -> tuple[str, Callable[[str, int], tuple[Any, ...]]]:
        """Give the condition that a row is older than a version, and what it takes of id and version."""
        if table.keeps_version:
            return f"{self._database.column(table.version)} < %s", lambda _, version: (version,)
        fence = self._database.table("tongbu_fence")
        return (
            f"not exists (select 1 from {fence} where table_name = %s and record_key = %s and version >= %s)",
            lambda id_, version: (table.name, id_, version),
        )

    def _left_over(self, cursor: Any, place: Place, message: Message) -> list[Entry]:
        """Give deletes for the rows that a chunk of this binding's fill should have brought and did not."""
        assert message.fill is not None
        entity = message.fill.entity
        table = next((each for each in self._rows.roots if each.entity == entity), None)
        if table is None:
            self._mirrors.advance(cursor, place, message)
            return []
        left = fills.advance(self._database, cursor, self._binding, message, table)
        return [
            Entry(Record(table.topic, id_, "delete", message.lane_offset, b""), table, {})
            for id_ in left
        ]

    def _sweep(self, cursor: Any) -> None:
        """Forget old fences of our tables; but those of rows that are there, where the row itself has no version."""
        fence = self._database.table("tongbu_fence")
        old = f"fenced_at < {self._database.days_ago(_FENCE_DAYS)}"
        for table in self._rows.roots:
            key = self._database.foreign(f"{fence}.record_key")
            gone = (
                ""
                if table.keeps_version
                else f" and not exists (select 1 from {self._database.table(table.name)} t "
                f"where t.{self._database.column(table.id)} = {key})"
            )
            cursor.execute(
                f"delete from {fence} where {old} and table_name = %s{gone}", [table.name]
            )

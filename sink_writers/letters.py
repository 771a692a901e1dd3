"""
Records that a target could not take yet: kept in `tongbu_set_aside`, beside the position, in the same transaction.

A letter waits for a row of another table (its parent), or for a person (a data error). It is closed by any later
record of its key. The owner of a place knows the keys of its letters, so that others need not be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from schemas.catalog import MIRROR_ROW
from sink_writers.messages import Record
from sink_writers.sink import Place
from sink_writers.sql import inside
from sink_writers.tables import TargetTable

if TYPE_CHECKING:
    from sink_writers.sinks.relational import Database

#: As many letters whose parent has come are tried again at once.
_AT_ONCE = 500
_LONGEST_PAUSE_S = 300
#: A record without its value can't be tried again, but a delete, of which nothing else than its key counts.
_WITHOUT_VALUE = (
    "; it is too large to be kept here: raise max_allowed_packet, then `tongbu {}` brings it"
)
_HAS_VALUE = "(operation = 'delete' or length(value) > 0)"

Key = tuple[str, str]


class Named(Protocol):
    """A table of the target."""

    @property
    def name(self) -> str: ...  # noqa: D102


class Lettered(Protocol):
    """A record with what it is about: table of the target and key."""

    @property
    def key(self) -> Key: ...  # noqa: D102
    @property
    def record(self) -> Record: ...  # noqa: D102


class Letters:
    """The letters of one binding."""

    def __init__(
        self,
        database: Database,
        binding: str,
        roots: list[TargetTable],
        *,
        circular: bool = False,
        by_entity: bool = False,
    ) -> None:
        """
        Take the tables; where they refer to each other in a circle, letters may wait for each other.

        No fill is made for a target that reads `by_entity`: another command brings its records again.
        """
        self._database = database
        self._binding = binding
        self._roots = {table.name: table for table in roots}
        self._name = database.table("tongbu_set_aside")
        self._circular = circular
        self._by_entity = by_entity
        self._known: dict[Place, dict[Key, int]] = {}
        #: Letter -> what it waits for.
        self._parents: dict[Place, dict[Key, Key]] = {}

    def load(self, place: Place) -> dict[Key, int]:
        """Give (table, id) -> version of what is set aside; asks the target only the first time."""
        if place not in self._known:
            with self._database.transaction(place) as cursor:
                cursor.execute(
                    f"select table_name, record_key, version, waits_table, waits_key from {self._name} "
                    "where binding = %s and partition_no = %s",
                    [self._binding, place.partition],
                )
                rows = [row for row in cursor.fetchall() if self._may_be_of(place, row[0])]
            self._known[place] = {(table, key): version for table, key, version, *_ in rows}
            self._parents[place] = {
                (table, key): (waits_table, waits_key)
                for table, key, _, waits_table, waits_key in rows
                if waits_table is not None
            }
        return self._known[place]

    def _may_be_of(self, place: Place, table: str) -> bool:
        """Tell whether a place brings a table's records: the topic of an entity brings those of no other."""
        own = [root.name for root in self._roots.values() if place.topic.endswith(root.topic)]
        return not own or table in own

    def concern(self, place: Place, entries: Iterable[Lettered]) -> bool:
        """Tell whether one of these records is about what is set aside."""
        known = self.load(place)
        return bool(known) and any(self._kept(entry.key) in known for entry in entries)

    def forget(self, place: Place) -> None:
        """Read the letters of a place anew when they are next asked for."""
        self._known.pop(place, None)

    def awaited(self, keys: Iterable[Key]) -> bool:
        """Tell whether a letter of any place waits for one of these (table, id)."""
        parents = {parent for place in self._known for parent in self._parents[place].values()}
        return bool(parents) and not parents.isdisjoint(keys)

    @contextmanager
    def kept(self, place: Place) -> Iterator[None]:
        """Forget what is known of the letters where the transaction at hand fails."""
        try:
            yield
        except BaseException:
            self.forget(place)
            raise

    def add(
        self,
        cursor: Any,
        place: Place,
        refused: Sequence[tuple[Named, Record, str, Key | None]],
    ) -> None:
        """Set records aside with the reason, and the (table, id) that they wait for; not below what the target has."""
        known = self._known[place]
        by_table: dict[str, list[tuple[Record, str, Key | None]]] = {}
        for table, record, reason, parent in refused:
            _, key = self._kept((table.name, record.key))
            if self._database.keeps(cursor, record.value):
                letter = replace(record, key=key), reason, parent and self._kept(parent)
            else:
                why = reason + _WITHOUT_VALUE.format(self._bringing(table.name))
                letter = replace(record, key=key, value=b""), why, None
            by_table.setdefault(table.name, []).append(letter)
        for name, some in by_table.items():
            keys = [record.key for record, *_ in some]
            versions = self._versions(cursor, name, keys) if name in self._roots else {}
            newer = [each for each in some if each[0].version > versions.get(each[0].key, -1)]
            again = [each for each in newer if known.get((name, each[0].key)) == each[0].version]
            first = [each for each in newer if known.get((name, each[0].key), -1) < each[0].version]
            for record, _, parent in newer:
                self._wait(place, (name, record.key), parent)
            self._note(cursor, name, again)
            self._insert(cursor, place, name, first)
            known.update({(name, record.key): record.version for record, *_ in first})

    def _bringing(self, table: str) -> str:
        """Give the command that brings a record of a table again."""
        if self._by_entity:
            return f"republish {self._roots[table].entity} --keys ID"
        return f"resync {self._binding}"

    def _kept(self, key: Key) -> Key:
        """Give (table, id) as the letters name it."""
        table, id_ = key
        return table, self._database.letter_key(id_)

    def _wait(self, place: Place, key: Key, parent: Key | None) -> None:
        if parent is None:
            self._parents[place].pop(key, None)
        else:
            self._parents[place][key] = parent

    def _note(self, cursor: Any, table: str, tried: list[tuple[Record, str, Key | None]]) -> None:
        cursor.executemany(
            f"update {self._name} set reason = %s, waits_table = %s, waits_key = %s, "
            "tried_at = current_timestamp(6) where binding = %s and table_name = %s and record_key = %s",
            [
                (reason, *(parent or (None, None)), self._binding, table, record.key)
                for record, reason, parent in tried
            ],
        )

    def _insert(
        self, cursor: Any, place: Place, table: str, some: list[tuple[Record, str, Key | None]]
    ) -> None:
        self._delete(cursor, [(table, record.key) for record, *_ in some])
        cursor.executemany(
            f"insert into {self._name} (binding, table_name, record_key, partition_no, operation, version, "
            "reason, waits_table, waits_key, value) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    self._binding, table, record.key, place.partition, record.operation, record.version,
                    reason, *(parent or (None, None)), record.value,
                )
                for record, reason, parent in some
            ],
        )  # fmt: skip

    def close(self, cursor: Any, place: Place, entries: Iterable[Lettered]) -> None:
        """Close the letters of records that were applied."""
        known = self._known[place]
        keys = ((self._kept(each.key), each.record.version) for each in entries)
        closed = [key for key, version in keys if known.get(key, 1 << 63) <= version]
        self._close(cursor, place, closed)

    def _close(self, cursor: Any, place: Place, keys: list[Key]) -> None:
        self._delete(cursor, keys)
        for key in keys:
            del self._known[place][key]
            self._parents[place].pop(key, None)

    def of(self, place: Place, table: str) -> list[tuple[str, int]]:
        """Give (key, version) of the letters of a table."""
        return [
            (key, version) for (name, key), version in self._known[place].items() if name == table
        ]

    def close_some(self, cursor: Any, place: Place, table: str, keys: Iterable[str]) -> None:
        """Close letters of a table."""
        self._close(cursor, place, [(table, key) for key in keys])

    def close_all(self, cursor: Any, place: Place, table: str) -> None:
        """Close the letters of a table that was emptied."""
        self.close_some(cursor, place, table, [key for key, _ in self.of(place, table)])

    def arrived(self, cursor: Any, place: Place, version: int | None = None) -> list[Record]:
        """Give letters whose parent is there now, oldest first; also those of a version that wait for nothing."""
        if not self._roots:
            return []
        there = [
            f"(s.waits_table = %s and exists (select 1 from {self._database.table(name)} t "
            f"where t.{self._database.column(table.id)} = {self._database.foreign('s.waits_key')}))"
            for name, table in self._roots.items()
        ]
        if self._circular:
            there.append(
                f"exists (select 1 from {self._name} o where o.binding = s.binding "
                "and o.table_name = s.waits_table and o.record_key = s.waits_key)"
            )
        if version is not None:
            there.append(f"(s.waits_table is null and s.version = {version})")
        which = f"({' or '.join(there)})"
        return self._read(cursor, place, which, [*self._roots], [*self._roots], _AT_ONCE)

    def hopeful(
        self, cursor: Any, place: Place, mirrored: Sequence[str], most: int
    ) -> list[Record]:
        """
        Give letters that wait for nothing in particular, those first that were tried longest ago.

        After a minute they are tried less and less often: each that is refused again costs several statements.
        Those of tables that are neither the binding's own nor among the mirrored ones stay where they are.
        """
        tables = [each for each in (*self._roots, *mirrored) if self._may_be_of(place, each)]
        if not tables:
            return []
        pause = self._database.seconds("s.tried_at", "current_timestamp(6)")
        age = self._database.seconds("s.set_aside_at", "s.tried_at")
        which = f"s.waits_table is null and {pause} >= least({_LONGEST_PAUSE_S}, {age} - 60)"
        return self._read(cursor, place, which, [], tables, most)

    def _read(
        self,
        cursor: Any,
        place: Place,
        which: str,
        values: list[str],
        tables: list[str],
        most: int,
    ) -> list[Record]:
        cursor.execute(
            f"select table_name, record_key, operation, version, value from {self._name} s "
            f"where binding = %s and partition_no = %s and {which} and {_HAS_VALUE} "
            f"and table_name in ({', '.join(['%s'] * len(tables))}) "
            f"order by tried_at, version limit {most}",
            [self._binding, place.partition, *values, *tables],
        )
        return [
            Record(self._topic(table), key, operation, version, bytes(value))
            for table, key, operation, version, value in cursor.fetchall()
        ]

    def _topic(self, table: str) -> str:
        return self._roots[table].topic if table in self._roots else MIRROR_ROW

    def _delete(self, cursor: Any, keys: Sequence[Key]) -> None:
        if keys:
            cursor.executemany(
                f"delete from {self._name} where binding = %s and table_name = %s and record_key = %s",
                [(self._binding, *key) for key in keys],
            )

    def _versions(self, cursor: Any, table: str, keys: list[str]) -> dict[str, int]:
        """Give the versions that the target has of these keys, of rows and of fences."""
        root = self._roots[table]
        key, version_column = map(self._database.column, (root.id, root.version))
        rows = f"select {key}, {version_column} from {self._database.table(table)} where {key} in "
        fences = (
            f"select record_key, version from {self._database.table('tongbu_fence')} "
            "where table_name = %s and record_key in "
        )
        found: dict[str, int] = {}
        stored = inside(cursor, rows, keys) if root.keeps_version else ()
        for key, version in [*stored, *inside(cursor, fences, keys, [table])]:
            found[key] = max(version, found.get(key, -1))
        return found

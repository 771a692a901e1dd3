"""
Image: a change is completed from the last known row, and the last known row is kept.

PostgreSQL sends neither before-images (under its default replica identity) nor large values that did not
change; the row images give both. A change that changes nothing is dropped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Protocol

import msgspec
import orjson

from schemas.captured import Table
from streams.errors import RecordError
from streams.records import Change, Row, RowChange
from streams.spool import Spool
from streams.stages.map import BROKEN
from streams.stages.source_types import UNSENT_TYPES, unsent

#: Stands before the former key of a row whose present one is not known; keys begin with a bracket.
_LACKING = b"~"


class Store(Protocol):
    """What the stages need of the state: reads see earlier writes."""

    def get(self, key: bytes) -> Any:
        """Give a value, or None."""

    def put(self, key: bytes, value: Any) -> None:
        """Set a value; None removes it."""

    def spool(self) -> Spool[Any]:
        """Give a list that may become longer than memory allows."""

    def iterate(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, Any]]:
        """Give entries under a prefix, in byte order, as they are at the beginning."""

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, Any]]:
        """Give entries under a prefix, in byte order."""


def row_key(row: Row, columns: tuple[str, ...]) -> bytes:
    """Give the key of a row as bytes: the JSON of its key columns."""
    return orjson.dumps([row.get(name) for name in columns])


def image_key(table: str, key: bytes) -> bytes:
    """Give the place of a row image in the state."""
    return _place_of(table) + key


@lru_cache(maxsize=4096)
def _place_of(table: str) -> bytes:
    return b"img\0" + table.encode() + b"\0"


class Placeholders:
    """
    What stands in a table's rows for large values that did not change.

    `plain` is what capture was told to send; `others` are (column, what it sends instead of that), for the columns of
    types that can't hold it. Of a column that the captured schema does not know yet it may be any of them.
    """

    def __init__(self, table: Table, plain: str) -> None:
        self.plain = plain
        sent = [(each.name, unsent(each.type, plain)) for each in table.columns]
        self.others: list[tuple[str, Any]] = [each for each in sent if each[1] != plain]
        self._known = {each.name for each in table.columns}
        self._any = [unsent(each, plain) for each in UNSENT_TYPES]

    def unsent(self, row: Row) -> list[str]:
        """Give the columns whose values were not sent: of most rows none."""
        found = []
        has_new = len(row) > len(self._known)
        for name, value in self.others:
            if name not in row:  # it may have another name by now
                has_new = True
            elif row[name] == value:
                found.append(name)
        if self.plain in row.values():
            found += [name for name, value in row.items() if value == self.plain]
        if has_new:
            new = row.keys() - self._known
            found += [name for name in new if row[name] in self._any]
        return found


def resolve(
    change: Change,
    table: Table,
    placeholders: Placeholders,
    store: Store,
    aside: dict[bytes, Row] | None = None,
) -> Iterable[RowChange]:
    """
    Give what a change does to rows, complete; nothing where it does nothing. Keeps the images.

    `aside` holds the rows of a transaction whose keys others have taken before they got their own new ones: PostgreSQL may
    check a key as late as at the end of a transaction.
    """
    if change.operation == "t":
        return _truncate(table, store)
    if change.operation == "d":
        return _delete(change, table, store)
    if change.moved_from is not None and aside is not None and not table.keyless:
        return _move(change, change.moved_from, table, placeholders, store, aside)
    return _upsert(change, table, placeholders, store)


def resolve_broken(
    change: Change, table: Table, placeholders: Placeholders, code: str, store: Store
) -> RowChange | None:
    """Keep what is known of a row that can't be completed, marked, so that its aggregate is withheld."""
    row = change.after
    if row is None or (not table.keyless and any(row.get(name) is None for name in table.key)):
        return None
    name, key, former = table.qualified, row_key(row, table.key), _former_key(change, table)
    old_place = image_key(name, key if former is None else former)
    old = store.get(old_place)
    missing = placeholders.unsent(row)
    known = {name: value for name, value in row.items() if name not in missing}
    new = {**(old or {}), **known, BROKEN: code}
    if former is not None:
        store.put(old_place, None)
    store.put(image_key(name, key), new)
    return RowChange(name, key, old, new, former if old is not None else None)


def rekey(table: Table, store: Store) -> Iterator[None]:
    """
    Move the images of a table to the places that its present key gives them; pauses after each row.

    Rows that were never seen with a column of that key stand beside all others, until a snapshot reads them; of a table
    without a key, where each new column is one of it, the column is null. All leave their places before the first takes
    another, which may be one that a row had.
    """
    prefix = image_key(table.qualified, b"")
    moved: Spool[tuple[bytes, Row]] = store.spool()
    for place, row in store.iterate(prefix):
        old, lacking = place.removeprefix(prefix), [name for name in table.key if name not in row]
        new = _LACKING + old if lacking and not table.keyless else row_key(row, table.key)
        if old != new:
            store.put(place, None)
            moved.append((image_key(table.qualified, new), row))
        yield None
    for place, row in moved:
        store.put(place, row)
        yield None


def _truncate(table: Table, store: Store) -> Iterator[RowChange]:
    prefix = image_key(table.qualified, b"")
    for key, row in store.iterate(prefix):
        store.put(key, None)
        yield RowChange(table.qualified, key.removeprefix(prefix), row, None)


def _delete(change: Change, table: Table, store: Store) -> tuple[RowChange, ...]:
    if change.moved_to is not None:
        return ()  # the first half of a key change: the create that follows moves the row
    if change.before is None:
        raise RecordError("image", "no-key", f"a delete of `{table.qualified}` without its key")
    key = row_key(change.before, table.key)
    place = image_key(table.qualified, key)
    old = store.get(place)
    if old is None:
        return ()
    store.put(place, None)
    return (RowChange(table.qualified, key, old, None),)


def _upsert(
    change: Change, table: Table, placeholders: Placeholders, store: Store
) -> tuple[RowChange, ...]:
    if change.after is None:
        raise RecordError("image", "no-row", f"a change of `{table.qualified}` without its row")
    key = row_key(change.after, table.key)
    name = table.qualified
    before_key = _former_key(change, table)
    old_place = place = image_key(name, key)
    if before_key is not None:
        old_place = image_key(name, before_key)
    old = store.get(old_place)
    if table.keyless and before_key != key:
        _refuse_twin(change, table, key, store)
    new = _complete(change.after, old, placeholders, table)
    if old == new:
        return ()
    if before_key is not None:
        store.put(old_place, None)
    store.put(place, new)
    return (RowChange(name, key, old, new, before_key if old is not None else None),)


def _move(
    change: Change,
    moved_from: Row,
    table: Table,
    placeholders: Placeholders,
    store: Store,
    aside: dict[bytes, Row],
) -> Iterable[RowChange]:
    """Take a row that gets another key; one which has that key still is put aside until its own change comes."""
    if change.after is None:
        return _upsert(change, table, placeholders, store)
    name, key = table.qualified, row_key(change.after, table.key)
    former, place = image_key(name, row_key(moved_from, table.key)), image_key(name, key)
    other = None if place == former else store.get(place)
    if former in aside:  # its place is another row's by now
        del aside[former]
        store.put(place, None)
        change = msgspec.structs.replace(change, moved_from=None)
    moved = _upsert(change, table, placeholders, store)
    if other is None:
        return moved
    aside[place] = other
    return (RowChange(name, key, other, None), *moved)


def _former_key(change: Change, table: Table) -> bytes | None:
    """Give the key that a row had before a change which may have given it another."""
    moved_from = change.before if table.keyless else change.moved_from
    return None if moved_from is None else row_key(moved_from, table.key)


def _refuse_twin(change: Change, table: Table, key: bytes, store: Store) -> None:
    """Refuse a second row that is the same as another: without a key they can't be told apart."""
    if change.operation != "r" and store.get(image_key(table.qualified, key)) is not None:
        message = (
            f"two rows of `{table.qualified}` are the same, and it has no key to tell them apart"
        )
        raise RecordError("image", "twin", message)


def _complete(after: Row, old: Row | None, placeholders: Placeholders, table: Table) -> Row:
    """Fill in the values that PostgreSQL did not send because they did not change."""
    missing = placeholders.unsent(after)
    if not missing:
        return after
    unknown = missing if old is None else [name for name in missing if name not in old]
    if old is None or unknown:
        raise RecordError(
            "image",
            "no-image",
            f"`{table.qualified}`: unchanged column `{unknown[0]}` of a row that was never seen with it",
        )
    return {**after, **{name: old[name] for name in missing}}

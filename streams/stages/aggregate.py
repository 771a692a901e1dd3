"""
Aggregate: row changes become the set of business objects they touch, and an object is read back whole.

An order is its header and its lines: whichever row changes, the order changes, once per transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from streams.errors import RecordError
from streams.in_force import EntityPlan, InForce, PartPlan
from streams.records import Row, RowChange
from streams.stages.image import Store, image_key, row_key
from streams.stages.map import INCOMPLETE, Aggregate
from streams.stages.map_nodes import joined
from streams.stages.source_types import Read

if TYPE_CHECKING:
    from streams.contention import Contention

#: The rows of a root stand in one list up to so many: it is written anew for each row. More of them stand in lists of so many.
LISTED = 500


class Touched:
    """
    An aggregate that a transaction touches; `before` is the natural key that it had before the transaction, None
    where it had no id, or where its root row itself did not change. No rows stand here: a giant has one of these per
    aggregate in memory.
    """

    def __init__(self, plan: EntityPlan, root_key: bytes) -> None:
        self.plan = plan
        self.root_key = root_key
        self.root_touched = False
        self.before: str | None = None


class TouchedSet:
    """The aggregates that a transaction touches, in the order of their first touch."""

    def __init__(self, in_force: InForce, store: Store, contention: Contention) -> None:
        self._in_force = in_force
        self._store = store
        self._contention = contention
        self._found: dict[tuple[str, bytes], Touched] = {}

    def __iter__(self) -> Iterator[Touched]:
        return iter(self._found.values())

    def add(self, change: RowChange) -> None:
        """Note what a row change touches, and keep the index from roots to the rows of their parts."""
        for role in self._in_force.roles.get(change.table, ()):
            if role.part is None:
                self._touch_root(role.entity, change)
            else:
                self._touch_part(role.entity, role.part, change)

    def _touch(self, plan: EntityPlan, root_key: bytes) -> Touched:
        found = self._found.get((plan.entity, root_key))
        if found is None:
            kept = bytes(memoryview(root_key))  # what orjson gives holds 4 KB, whatever its length
            found = self._found[plan.entity, kept] = Touched(plan, kept)
        return found

    def _touch_root(self, plan: EntityPlan, change: RowChange) -> None:
        row = change.before
        before = natural_key(plan, row) if row is not None and in_scope(plan, row) else None
        place = change.before_key or change.key
        if before is not None and self._contention.leave(plan, before, place):
            before = None  # it had no id; whether it gets one is asked at the transaction's end
        if change.before_key is not None:
            earlier = self._found.pop((plan.entity, change.before_key), None)
            if earlier is not None and earlier.root_touched:
                before = earlier.before
            there = self._found.get((plan.entity, change.key))
            if there is not None and there.root_touched:
                # What became of the row that was there before is told of the place that is free now.
                former = self._touch(plan, change.before_key)
                former.root_touched, former.before = True, there.before
                there.root_touched = False
        touched = self._touch(plan, change.key)
        if not touched.root_touched:
            touched.root_touched, touched.before = True, before

    def _touch_part(self, plan: EntityPlan, part: PartPlan, change: RowChange) -> None:
        old = None if change.before is None else parent_of(change.before, part)
        new = None if change.after is None else parent_of(change.after, part)
        if old != new or change.before_key is not None:
            if old is not None:
                self._unlink(plan, part, old, change.before_key or change.key)
            if new is not None:
                link(plan, part, new, change.key, self._store)
        for parent in {old: None, new: None}:
            if parent is not None:
                self._touch(plan, parent)

    def _unlink(self, plan: EntityPlan, part: PartPlan, parent: bytes, key: bytes) -> None:
        place = _children_key(plan, part, parent)
        children = self._store.get(place) or []
        if isinstance(children, list) and len(children) <= LISTED:
            children = [each for each in children if each != key]
            self._store.put(place, children or None)
        else:
            _unlink_of_many(place, _lists(place, children, self._store), key, self._store)


def parent_of(row: Row, part: PartPlan) -> bytes | None:
    """Give the key of the root that a row of a part belongs to; None where a column of it is null, for that joins nothing."""
    for name in part.parent_key:
        if row.get(name) is None:
            return None
    return row_key(row, part.parent_key)


def link(plan: EntityPlan, part: PartPlan, parent: bytes, key: bytes, store: Store) -> None:
    """Note that a row of a part belongs to a root."""
    place = _children_key(plan, part, parent)
    children = store.get(place) or []
    if isinstance(children, list) and len(children) < LISTED:
        if key not in children:
            store.put(place, [*children, key])
    else:
        _link_to_many(place, _lists(place, children, store), key, store)


def _lists(place: bytes, children: Any, store: Store) -> list[int]:
    """
    Give the numbers of the lists that a root of many rows has; none of them is empty.

    Each row's list is noted, too, so that nobody searches for it. The one list of so many rows, of whatever length
    where it stands in a state since before there were several, is cut into such ones.
    """
    if isinstance(children, list):
        numbers = []
        for number, first in enumerate(range(0, len(children), LISTED)):
            some = children[first : first + LISTED]
            store.put(_list_key(place, number), some)
            for key in some:
                store.put(_noted_key(place, key), number)
            numbers.append(number)
        children = {"lists": numbers}
        store.put(place, children)
    found: list[int] = children["lists"]
    return found


def _link_to_many(place: bytes, lists: list[int], key: bytes, store: Store) -> None:
    noted, last = _noted_key(place, key), lists[-1]
    if store.get(noted) is not None:
        return
    children = store.get(_list_key(place, last))
    if len(children) >= LISTED:
        last, children = last + 1, []
        store.put(place, {"lists": [*lists, last]})
    store.put(_list_key(place, last), [*children, key])
    store.put(noted, last)


def _unlink_of_many(place: bytes, lists: list[int], key: bytes, store: Store) -> None:
    noted = _noted_key(place, key)
    number = store.get(noted)
    if number is None:
        return
    children = [each for each in store.get(_list_key(place, number)) if each != key]
    store.put(noted, None)
    store.put(_list_key(place, number), children or None)
    if not children:
        left = [each for each in lists if each != number]
        store.put(place, {"lists": left} if left else None)


def _children(place: bytes, store: Store) -> list[bytes]:
    """Give the keys of a root's rows, in the order in which they joined it."""
    children = store.get(place) or []
    if not isinstance(children, dict):
        found: list[bytes] = children
        return found
    keys: list[bytes] = []
    for number in children["lists"]:
        keys += store.get(_list_key(place, number))
    return keys


def children_prefix(plan: EntityPlan) -> bytes:
    """Give where the rows of an entity's parts are noted."""
    return b"kid\0" + f"{plan.entity}\0".encode()


def _children_key(plan: EntityPlan, part: PartPlan, parent: bytes) -> bytes:
    return children_prefix(plan) + f"{part.alias}\0".encode() + parent


def _list_key(place: bytes, number: int) -> bytes:
    return place + b"\0list\0" + str(number).encode()


def _noted_key(place: bytes, key: bytes) -> bytes:
    return place + b"\0row\0" + key


def in_scope(plan: EntityPlan, root: Row | None) -> bool:
    """Tell whether a root row belongs to the entity."""
    if root is None:
        return False
    return all(root.get(name) == wanted for name, wanted in plan.declared.where.items())


def natural_key(plan: EntityPlan, root: Row) -> str:
    """Give the natural key of a root row: its key columns, joined with |; nothing where none of them has a value."""
    values = [
        "" if (value := root.get(name)) is None else str(value) for name in plan.declared.id_columns
    ]
    return joined(values) if any(values) else ""


def read_root(plan: EntityPlan, root_key: bytes, store: Store) -> Row | None:
    """Give the root row of an aggregate as it is now; None where it is gone or out of scope."""
    root: Row | None = store.get(image_key(plan.root, root_key))
    return root if in_scope(plan, root) else None


def read(plan: EntityPlan, root_key: bytes, root: Row, store: Store) -> Aggregate:
    """Read an aggregate whole: its parts in their order, its lookups as of now. Raise RecordError where there is no order."""
    aggregate = Aggregate(root)
    for part in plan.parts:
        rows = _rows(plan, part, root_key, store)
        if part.one:
            aggregate.singles[part.alias] = rows[0] if rows else None
        else:
            aggregate.parts[part.alias] = rows
    for lookup in plan.lookups:
        key = [_value(path, aggregate) for path in lookup.key]
        found = None if None in key else store.get(image_key(lookup.table, orjson.dumps(key)))
        aggregate.singles[lookup.alias] = found
    return aggregate


def _rows(plan: EntityPlan, part: PartPlan, root_key: bytes, store: Store) -> list[Row]:
    keys = _children(_children_key(plan, part, root_key), store)
    rows = [row for key in keys if (row := store.get(image_key(part.table, key))) is not None]
    order_by = part.order_by
    if order_by is not None and len(rows) > 1:
        rows = _in_order(rows, order_by, plan.mapping.orders[part.alias], part)
    return rows


def _in_order(rows: list[Row], name: str, read: Read, part: PartPlan) -> list[Row]:
    """Sort the rows of a part by a column, as its type orders values; rows without one come last."""
    try:
        return sorted(
            rows,
            key=lambda row: (True, None) if (value := row[name]) is None else (False, read(value)),
        )
    except KeyError as error:
        raise RecordError("image", "incomplete", INCOMPLETE.format(name), part.table) from error
    except Exception as error:  # whatever a reader makes of the value of another type than its own
        message = f"the rows of `{part.alias}` can't be ordered by column `{name}`"
        raise RecordError("map", "conversion", message, part.table) from error


def _value(path: str, aggregate: Aggregate) -> Any:
    alias, dot, name = path.partition(".")
    if not dot:
        return aggregate.root.get(path)
    return (aggregate.singles.get(alias) or {}).get(name)

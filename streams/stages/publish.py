"""
Publish: what became of a touched aggregate, compared with what was last published of it.

Canonical records are full states. A record that says nothing new is dropped; one that can't be made
withholds its id until a later state can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from streams.errors import RecordError
from streams.in_force import EntityPlan
from streams.records import Row
from streams.stages import aggregate as aggregates
from streams.stages.aggregate import Touched
from streams.stages.image import Store

if TYPE_CHECKING:
    from streams.contention import Contention

#: The code of ids that wait for a table.
QUARANTINED = "quarantined"

#: Prefix of what was last published of each id.
PUBLISHED = b"pub\0"

_pack = msgspec.msgpack.Encoder(decimal_format="string").encode
_unpack = msgspec.msgpack.Decoder().decode


class Draft:
    """
    A canonical record before it is encoded; `fields` without meta. `packed` is its form in the state.

    The fields of a delete are in that form, too: what was published last, maybe by another schema than now.
    """

    def __init__(
        self,
        plan: EntityPlan,
        id_: str,
        operation: str,
        fields: dict[str, Any],
        changed: list[str] | None = None,
        previous: dict[str, str | None] | None = None,
        previous_id: str | None = None,
        packed: bytes | None = None,
    ) -> None:
        self.plan = plan
        self.id = id_
        self.operation = operation
        self.fields = fields
        self.changed: list[str] = [] if changed is None else changed
        self.previous: dict[str, str | None] = {} if previous is None else previous
        self.previous_id = previous_id
        self.packed = packed

    def unplanned(self) -> tuple[Any, ...]:
        """Give everything but the plan, in the order of the constructor."""
        return (
            self.id,
            self.operation,
            self.fields,
            self.changed,
            self.previous,
            self.previous_id,
            self.packed,
        )


@dataclass
class Failed:
    """An aggregate that could not be made into a record; `root` is its root row."""

    plan: EntityPlan
    id: str
    error: RecordError
    root: Row


def ids_after(plan: EntityPlan, after: str, limit: int, store: Store) -> list[tuple[str, bytes]]:
    """Give the next ids of an entity with their root keys, in the order of their UTF-8 bytes."""
    prefix = index_key(plan, "")
    found = store.scan(prefix, after.encode(), limit)
    return [(key.removeprefix(prefix).decode(), root_key) for key, root_key in found]


def with_ids(plan: EntityPlan, ids: Iterable[str], store: Store) -> list[tuple[str, bytes]]:
    """Give those of the ids that exist, with their root keys."""
    found = [(id_, store.get(index_key(plan, id_))) for id_ in ids]
    return [(id_, root_key) for id_, root_key in found if root_key is not None]


class Identity:
    """
    The canonical id of an aggregate before and after a transaction, and its root row now.

    `inherited` says that a contender has the former id from here on.
    """

    def __init__(
        self, before: str | None, now: str | None, root: Row | None, inherited: bool = False
    ) -> None:
        self.before = before
        self.now = now
        self.root = root
        self.inherited = inherited


def identify(touched: Touched, source: str, store: Store, contention: Contention) -> Identity:
    """Tell which id an aggregate had and has, and keep the index from ids to root rows. All rows are as the transaction leaves them."""
    plan, key = touched.plan, touched.root_key
    root = aggregates.read_root(plan, key, store)
    if not touched.root_touched:
        natural_key = None if root is None else aggregates.natural_key(plan, root)
        if not natural_key or contention.holds(plan, natural_key, key):
            return Identity(None, None, None)
        same = f"{source}:{natural_key}"
        return Identity(same, same, root)
    now = None if root is None else claim(plan, key, root, source, store, contention)
    if touched.before is None:
        return Identity(None, now, root)
    before = f"{source}:{touched.before}"
    if before == now:
        return Identity(before, now, root)
    place = index_key(plan, before)
    if _has(plan, store.get(place), touched.before, store):  # another row has taken it over
        return Identity(None, now, root)
    heir = contention.first(plan, touched.before)
    if heir is not None:
        contention.leave(plan, touched.before, heir)
    store.put(place, heir)
    return Identity(before, now, root, heir is not None)


def claim(
    plan: EntityPlan, root_key: bytes, root: Row, source: str, store: Store, contention: Contention
) -> str | None:
    """Give a root row the id of its natural key; None where there is none, or another row has it: it waits then."""
    natural_key = aggregates.natural_key(plan, root)
    id_ = f"{source}:{natural_key}"
    place = index_key(plan, id_)
    holder = store.get(place)
    if natural_key and holder == root_key:
        return id_
    if not natural_key or _has(plan, holder, natural_key, store):
        contention.enter(plan, natural_key, root_key, root)
        return None
    store.put(place, root_key)
    return id_


def _has(plan: EntityPlan, root_key: bytes | None, natural_key: str, store: Store) -> bool:
    """Tell whether the row to which the index leads is there, and has that natural key; nobody has an empty one."""
    root = (
        None if root_key is None or not natural_key else aggregates.read_root(plan, root_key, store)
    )
    return root is not None and aggregates.natural_key(plan, root) == natural_key


def settle(touched: Touched, identity: Identity, store: Store) -> Iterator[Draft | Failed]:
    """Give the records that a touched aggregate makes: none, one, or a delete and a record for a moved id."""
    before, now, root = identity.before, identity.now, identity.root
    if before is not None and before != now:
        yield from current(touched.plan, before, store)
    if root is not None and now is not None:
        moved_from = before if before != now else None
        yield from _current(
            touched.plan,
            now,
            touched.root_key,
            root,
            store,
            created=before is None,
            moved_from=moved_from,
        )


def current(plan: EntityPlan, id_: str, store: Store) -> Iterator[Draft | Failed]:
    """Give what the current state of an id has to tell: nothing where it is as published, a delete where it has no row."""
    root_key = store.get(index_key(plan, id_))
    root = None if root_key is None else aggregates.read_root(plan, root_key, store)
    if root is None:
        yield from _deleted(plan, id_, store)
    else:
        yield from _current(plan, id_, root_key, root, store, created=True, moved_from=None)


def snapshot(plan: EntityPlan, id_: str, root_key: bytes, store: Store) -> Draft | Failed | None:
    """Give the current state of an id again, whether or not it changed."""
    root = aggregates.read_root(plan, root_key, store)
    if root is None:
        return None
    try:
        fields = _map(plan, root_key, root, store)
    except RecordError as error:
        return Failed(plan, id_, error, root)
    return Draft(plan, id_, "snapshot", fields | {"id": id_})


def unfounded(plan: EntityPlan, store: Store) -> Iterator[Draft | None]:
    """Give the deletes of published ids that have no root row any more; None in between is a place to pause."""
    prefix = _published_key(plan, "")
    for place, _ in store.iterate(prefix):
        id_ = place[len(prefix) :].decode()
        if store.get(index_key(plan, id_)) is None:
            yield from _deleted(plan, id_, store)
        yield None


def remember(draft: Draft, version: int, store: Store) -> None:
    """Keep what is published of an id, to compare the next state with."""
    place = _published_key(draft.plan, draft.id)
    if draft.operation == "delete":
        store.put(place, None)
    else:
        store.put(place, [version, draft.packed or _pack(draft.fields)])


def _deleted(plan: EntityPlan, id_: str, store: Store) -> Iterator[Draft]:
    published = store.get(_published_key(plan, id_))
    if published is not None:
        yield Draft(plan, id_, "delete", _unpack(published[1]))


def _current(
    plan: EntityPlan,
    id_: str,
    root_key: bytes,
    root: Row,
    store: Store,
    *,
    created: bool,
    moved_from: str | None,
) -> Iterator[Draft | Failed]:
    try:
        fields = _map(plan, root_key, root, store) | {"id": id_}
    except RecordError as error:
        yield Failed(plan, id_, error, root)
        return
    published = store.get(_published_key(plan, id_))
    if published is None:
        operation = "create" if created else "update"
        yield Draft(plan, id_, operation, fields, previous_id=moved_from)
        return
    packed = _pack(fields)
    if packed == published[1]:
        return
    old, new = _unpack(published[1]), _unpack(packed)
    changed = [name for name in new if new[name] != old.get(name)]
    previous = {
        name: _text(old.get(name)) for name in changed if not isinstance(old.get(name), dict | list)
    }
    yield Draft(plan, id_, "update", fields, changed, previous, moved_from, packed)


def _map(plan: EntityPlan, root_key: bytes, root: Row, store: Store) -> dict[str, Any]:
    """Map and rule an aggregate. Whatever goes wrong in these pure stages is the record's own trouble."""
    if plan.waits_for is not None:
        raise RecordError("quarantine", QUARANTINED, f"`{plan.waits_for}` is quarantined")
    aggregate = aggregates.read(plan, root_key, root, store)
    broken = aggregate.broken()
    if broken is not None:
        raise RecordError(
            "image", broken, f"a row of `{plan.root}` or its parts could not be completed"
        )
    try:
        fields = plan.mapping(aggregate)
        for rule in plan.rules:
            fields |= rule(aggregate)
    except RecordError:
        raise
    except Exception as error:
        raise RecordError(
            "map", "internal", f"{type(error).__name__} in mapping or rules"
        ) from error
    return fields


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _published_key(plan: EntityPlan, id_: str) -> bytes:
    return PUBLISHED + f"{plan.entity}\0{id_}".encode()


def index_key(plan: EntityPlan, id_: str) -> bytes:
    """Give the place of an id in the index from ids to root rows."""
    return b"idx\0" + f"{plan.entity}\0{id_}".encode()

"""
The pipeline: start reading here.

    decode > transaction > image > aggregate > map > rules > publish > encode

`streams.lane` feeds it from a lane log; each stage stands in streams/stages. This module composes them for
the three things that make canonical records: a source transaction, snapshot rows, and a republish.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from schemas.control import Republish
from streams.errors import RecordError
from streams.in_force import EntityPlan, InForce
from streams.records import Change, RowChange
from streams.seal import Seal
from streams.stages import image, publish
from streams.stages.aggregate import TouchedSet
from streams.stages.encode import Letter, Message, Moment, entity_record
from streams.stages.image import Store
from streams.stages.publish import Draft, Failed


class Turn:
    """What one lane offset makes: a message for the targets, and dead letters."""

    def __init__(self, moment: Moment, in_force: InForce, store: Store, seal: Seal) -> None:
        self.moment = moment
        self.in_force = in_force
        self.store = store
        self.seal = seal
        self.message = Message()
        self.letters: list[Letter] = []

    def transaction(self, changes: Iterable[Change]) -> None:
        """Take a whole source transaction: one record per aggregate that it changed."""
        touched = self._touch(changes)
        drafts: list[Draft] = []
        for each in touched:
            identity = publish.identify(each, self.moment.source, self.store)
            settled = list(publish.settle(each, identity, self.store))
            failed = {result.id for result in settled if isinstance(result, Failed)}
            for id_ in {identity.before: None, identity.now: None}:
                if id_ is not None and id_ not in failed:
                    self._release(each.plan, id_)
            drafts += self._sort(settled)
        self._encode(_without_recreated(drafts))

    def snapshot_rows(self, changes: Iterable[Change]) -> None:
        """Take rows of a snapshot: they fill images and indexes, and publish nothing."""
        for each in self._touch(changes):
            publish.identify(each, self.moment.source, self.store)

    def republish(self, control: Republish, plan: EntityPlan) -> str | None:
        """Publish the next ids of an entity in their current state; give the id to go on after, None at the end."""
        found = publish.ids_after(plan, control.after, control.limit + 1, self.store)
        chunk, more = found[: control.limit], len(found) > control.limit
        results = [publish.snapshot(plan, id_, key, self.store) for id_, key in chunk]
        drafts = self._sort(result for result in results if result is not None)
        for draft in drafts:
            self._release(plan, draft.id)
        self._encode(drafts)
        last = chunk[-1][0] if chunk else control.after
        self.message.fill = {
            "id": control.fill,
            "entity": control.entity,
            "after": control.after,
            "to": last,
            "last": not more,
        }
        self.message.only_bindings = list(control.bindings)
        return last if more else None

    def undecodable(self, error: RecordError) -> None:
        """Take a record that no canonical id can be derived from."""
        record = self.moment.record
        coordinates = f"{record.topic}/0/{record.offset}"
        sealed = self.seal.seal(coordinates, (record.key or b"") + b"\0" + (record.value or b""))
        self.letters.append(Letter(coordinates, "open", error, sealed=sealed))

    def _touch(self, changes: Iterable[Change]) -> TouchedSet:
        touched = TouchedSet(self.in_force, self.store)
        for change in changes:
            for row_change in self._resolve(change):
                touched.add(row_change)
        return touched

    def _resolve(self, change: Change) -> Iterator[RowChange]:
        table = self.in_force.tables.get(change.table)
        if table is None or change.table not in self.in_force.imaged:
            return
        placeholder = self.in_force.placeholder
        try:
            yield from image.resolve(change, table, placeholder, self.store)
        except RecordError as error:
            broken = image.resolve_broken(change, table, placeholder, error.code, self.store)
            if broken is None:
                self.undecodable(error)
            else:
                yield broken

    def _sort(self, results: Iterable[Draft | Failed]) -> list[Draft]:
        """Keep the drafts; what failed is withheld."""
        drafts = []
        for result in results:
            if isinstance(result, Failed):
                self._withhold(result.plan, result.id, result.error, orjson.dumps(result.root))
            else:
                drafts.append(result)
        return drafts

    def _encode(self, drafts: list[Draft]) -> None:
        for index, draft in enumerate(drafts):
            try:
                record = entity_record(draft, self.moment, index, len(drafts))
            except RecordError as error:
                self._withhold(draft.plan, draft.id, error, b"")
                continue
            self.message.records.append(record)
            publish.remember(draft, self.moment.lane_offset, self.store)

    def _withhold(self, plan: EntityPlan, id_: str, error: RecordError, original: bytes) -> None:
        record = self.moment.record
        letter_id = f"{record.topic}/0/{record.offset}/{plan.entity}/{id_}"
        self._release(plan, id_)
        self.store.put(_withheld_key(plan, id_), [letter_id, error.stage, error.code])
        self.message.withheld.append({"entity": plan.entity, "id": id_, "reason": error.code})
        sealed = self.seal.seal(letter_id, original)
        self.letters.append(Letter(letter_id, "open", error, plan.entity, id_, sealed))

    def _release(self, plan: EntityPlan, id_: str) -> None:
        """Close the letter of an id that is no longer withheld by it."""
        key = _withheld_key(plan, id_)
        mark = self.store.get(key)
        if mark is not None:
            letter_id, stage, code = mark
            self.store.put(key, None)
            error = RecordError(stage, code, "a later state of the id was processed")
            self.letters.append(Letter(letter_id, "superseded", error, plan.entity, id_))


def _withheld_key(plan: EntityPlan, id_: str) -> bytes:
    return b"wit\0" + f"{plan.entity}\0{id_}".encode()


def _without_recreated(drafts: list[Draft]) -> list[Draft]:
    """Drop the delete of an id that the same transaction brings again: one record per id and version."""
    kept = {(draft.plan.entity, draft.id) for draft in drafts if draft.operation != "delete"}
    return [
        draft
        for draft in drafts
        if draft.operation != "delete" or (draft.plan.entity, draft.id) not in kept
    ]

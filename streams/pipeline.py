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
from streams.stages.aggregate import Touched, TouchedSet
from streams.stages.drafts import Drafts
from streams.stages.encode import Letter, Message, Moment, entity_record
from streams.stages.image import Store
from streams.stages.publish import Draft, Failed
from streams.stages.repair import repair
from streams.withheld import Withheld

#: So many rows or records are worked on at a stretch.
_PAUSE = 500


class Turn:
    """What one lane offset makes: a message for the targets, and dead letters."""

    def __init__(self, moment: Moment, in_force: InForce, store: Store, seal: Seal) -> None:
        self.moment = moment
        self.in_force = in_force
        self.store = store
        self.seal = seal
        self.message = Message(store.spool())
        self.letters: list[Letter] = []
        #: Updates of rows that changed nothing.
        self.unchanged = 0
        self.withheld = Withheld(moment, store, seal, self.message, self.letters)

    def transaction(self, changes: Iterable[Change]) -> Iterator[None]:
        """Take a whole source transaction, of any size: one record per aggregate that it changed. Pauses now and then."""
        touched = TouchedSet(self.in_force, self.store)
        for number, change in enumerate(changes, 1):
            for row_change in self._resolve(change):
                touched.add(row_change)
            if number % _PAUSE == 0:
                yield
        drafts = Drafts(self.in_force, self.store)
        for number, each in enumerate(touched, 1):
            self._settle(each, drafts)
            if number % _PAUSE == 0:
                yield
        yield from self._encode(drafts)

    def _settle(self, touched: Touched, drafts: Drafts) -> None:
        identity = publish.identify(touched, self.moment.source, self.store)
        settled = list(publish.settle(touched, identity, self.store))
        failed = {result.id for result in settled if isinstance(result, Failed)}
        for id_ in {identity.before: None, identity.now: None}:
            if id_ is not None and id_ not in failed:
                self.withheld.release(touched.plan, id_)
        for draft in self._sort(settled):
            drafts.append(draft)

    def snapshot_rows(self, changes: Iterable[Change]) -> None:
        """Take rows of a snapshot: they fill images and indexes, and publish nothing."""
        touched = TouchedSet(self.in_force, self.store)
        for change in changes:
            for row_change in self._resolve(change):
                touched.add(row_change)
        for each in touched:
            publish.identify(each, self.moment.source, self.store)

    def republish(self, control: Republish, plan: EntityPlan) -> Iterator[None]:
        """Publish the next ids of an entity in their current state; `message.fill` says how far it came."""
        if control.ids:
            yield from self._publish(plan, publish.with_ids(plan, control.ids, self.store))
            return
        found = publish.ids_after(plan, control.after, control.limit + 1, self.store)
        chunk, more = found[: control.limit], len(found) > control.limit
        yield from self._publish(plan, chunk)
        last = chunk[-1][0] if chunk else control.after
        self.message.fill = {
            "id": control.fill,
            "entity": control.entity,
            "after": control.after,
            "to": last,
            "last": not more,
        }
        self.message.only_bindings = list(control.bindings)

    def _publish(self, plan: EntityPlan, chunk: list[tuple[str, bytes]]) -> Iterator[None]:
        results = [publish.snapshot(plan, id_, key, self.store) for id_, key in chunk]
        drafts = Drafts(self.in_force, self.store)
        for draft in self._sort(result for result in results if result is not None):
            self.withheld.release(plan, draft.id)
            drafts.append(draft)
        yield from self._encode(drafts)

    def retry(self, plan: EntityPlan, ids: Iterable[str]) -> Iterator[None]:
        """Publish the current state of those ids that are withheld, as far as it can be made now."""
        drafts = Drafts(self.in_force, self.store)
        waiting = [id_ for id_ in ids if self.withheld.holds(plan, id_)]
        for id_, root_key in publish.with_ids(plan, waiting, self.store):
            for result in publish.current(plan, id_, root_key, self.store):
                for draft in self._sort([result]):
                    drafts.append(draft)
            if not self.withheld.withholds_now(plan, id_):
                self.withheld.release(plan, id_)
        yield from self._encode(drafts)

    def skip(self, plan: EntityPlan, ids: Iterable[str]) -> None:
        """Give up the withheld state of ids: what was published of them stays, until their next change."""
        for id_ in ids:
            self.withheld.skip(plan, id_)

    def undecodable(self, error: RecordError) -> None:
        """Take a record that no canonical id can be derived from."""
        record = self.moment.record
        coordinates = f"{record.topic}/0/{record.offset}"
        sealed = self.seal.seal(coordinates, (record.key or b"") + b"\0" + (record.value or b""))
        self.letters.append(Letter(coordinates, "open", error, sealed=sealed))

    def _resolve(self, change: Change) -> Iterator[RowChange]:
        table = self.in_force.tables.get(change.table)
        if table is None or change.table not in self.in_force.imaged:
            return
        if wanted := self.in_force.repairs[change.table]:
            repair(change, wanted)
        placeholder = self.in_force.placeholder
        try:
            if change.operation == "u":
                found = list(image.resolve(change, table, placeholder, self.store))
                self.unchanged += not found
                yield from found
            else:
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
                self.withheld.withhold(
                    result.plan, result.id, result.error, orjson.dumps(result.root)
                )
            else:
                drafts.append(result)
        return drafts

    def _encode(self, drafts: Drafts) -> Iterator[None]:
        count = len(drafts)
        for index, draft in enumerate(drafts):
            if index % _PAUSE == _PAUSE - 1:
                yield
            try:
                record = entity_record(draft, self.moment, index, count)
            except RecordError as error:
                self.withheld.withhold(draft.plan, draft.id, error, b"")
                continue
            self.message.records.append(record)
            publish.remember(draft, self.moment.lane_offset, self.store)

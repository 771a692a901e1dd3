"""
The pipeline: start reading here.

    decode > transaction > image > aggregate > map > rules > publish > encode

`streams.lane` feeds it from a lane log; each stage stands in streams/stages. This module composes them for
the three things that make canonical records: a source transaction, snapshot rows, and a republish.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain

import orjson

from schemas.control import Republish
from streams.contention import Contenders, Contention
from streams.errors import RecordError
from streams.in_force import EntityPlan, InForce
from streams.quarantine import (
    FAILING_IDS,
    LOST_COLUMN,
    WITHIN_TRANSACTIONS,
    Quarantine,
    Ward,
)
from streams.records import Change, Letter, Row, RowChange
from streams.seal import Seal
from streams.snapshots import Snapshots
from streams.spool import Spool
from streams.stages import image, index, publish
from streams.stages.aggregate import Touched, TouchedSet
from streams.stages.drafts import Drafts
from streams.stages.encode import Message, Moment, entity_record
from streams.stages.image import Store
from streams.stages.mirror import MirrorPlan, MirrorRows, rows_after
from streams.stages.publish import Draft, Failed
from streams.stages.repair import repair
from streams.withheld import Marks, Withheld

#: So many rows or records are worked on at a stretch.
_PAUSE = 50


class Turn:
    """What one lane offset makes: a message for the targets, and dead letters."""

    def __init__(
        self,
        moment: Moment,
        in_force: InForce,
        store: Store,
        seal: Seal,
        quarantine: Quarantine,
        snapshots: Snapshots | None = None,
        marks: Marks | None = None,
        contenders: Contenders | None = None,
    ) -> None:
        self.moment = moment
        self.in_force = in_force
        self.quarantine = quarantine
        self.store = store
        self.seal = seal
        self.snapshots = snapshots or Snapshots(store)
        self.message = Message(store.spool())
        self.letters: Spool[Letter] = store.spool()
        #: Tables that this turn let out of quarantine.
        self.resumed: set[str] = set()
        #: Updates of rows that changed nothing.
        self.unchanged = 0
        #: Rows that a snapshot did not find any more.
        self.swept = 0
        #: Letters of what has no canonical id.
        self._nameless = 0
        #: Rows whose keys others have, and that have no new ones yet.
        self._aside: dict[bytes, Row] = {}
        #: Ids that a contender has taken over: they are told of already.
        self._inherited: set[tuple[str, str]] = set()
        self.withheld = Withheld(moment, marks or Marks(store), seal, self.message, self.letters)
        self.contention = Contention(moment, contenders or Contenders(store), seal, self.letters)
        self.mirrored = MirrorRows(moment, self.message, self.withheld)

    def transaction(self, changes: Iterable[Change]) -> Iterator[None]:
        """Take a whole source transaction, of any size: one record per aggregate that it changed. Pauses now and then."""
        touched = TouchedSet(self.in_force, self.store, self.contention)
        yield from self._touch(changes, touched)
        drafts = Drafts(self.in_force, self.store)
        yield from self._settle_all(touched, drafts)
        if self.resumed:
            yield from self._try_readers(self.resumed, drafts)
        yield from self._encode(drafts)

    def _touch(
        self, changes: Iterable[Change], touched: TouchedSet, *, was_kept: bool = False
    ) -> Iterator[None]:
        for number, change in enumerate(changes, 1):
            if self.quarantine.tables and not was_kept and self._fits_again(change):
                yield from self._let_go(change.table, touched)
            mirror = self.in_force.mirrors.get(change.table)
            for rows, row_change in enumerate(self._resolve(change, was_kept), 1):
                touched.add(row_change)
                if mirror is not None and change.operation != "t":
                    self.mirrored.add(mirror, row_change)
                if rows % _PAUSE == 0:  # a truncate is one change
                    yield
            is_kept = not was_kept and change.table in self.quarantine.tables
            if mirror is not None and change.operation == "t" and not is_kept:
                self.mirrored.truncate(mirror)
            if number % _PAUSE == 0:
                yield

    def _settle_all(self, touched: TouchedSet, drafts: Drafts) -> Iterator[None]:
        for number, each in enumerate(touched, 1):
            if self.snapshots.waits(each.plan):
                self._identify(each)
            else:
                self._settle(each, drafts)
            if number % _PAUSE == 0:
                yield

    def _settle(self, touched: Touched, drafts: Drafts) -> None:
        identity = self._identify(touched)
        if self._inherited and (touched.plan.entity, identity.now or "") in self._inherited:
            return
        settled = list(publish.settle(touched, identity, self.store))
        if identity.inherited and identity.before is not None:
            self._inherited.add((touched.plan.entity, identity.before))
        failed = {result.id for result in settled if isinstance(result, Failed)}
        for id_ in {identity.before: None, identity.now: None}:
            if id_ is not None and id_ not in failed:
                self.withheld.release(touched.plan, id_)
        for draft in self._sort(settled):
            drafts.append(draft)

    def _identify(self, touched: Touched) -> publish.Identity:
        return publish.identify(touched, self.moment.source, self.store, self.contention)

    def snapshot_rows(self, changes: Iterable[Change]) -> None:
        """Take rows of a snapshot: they fill images and indexes, and publish nothing."""
        touched = TouchedSet(self.in_force, self.store, self.contention)
        for change in changes:
            for row_change in self._resolve(change, was_kept=False):
                touched.add(row_change)
        for each in touched:
            self._identify(each)

    def sweep(self, tables: Iterable[str]) -> Iterator[None]:
        """Take away the rows that snapshots of tables did not find; what was published of them is deleted."""
        touched = TouchedSet(self.in_force, self.store, self.contention)
        for table in tables:
            mirror = self.in_force.mirrors.get(table)
            for key, row in self.snapshots.unseen(table):
                self.store.put(image.image_key(table, key), None)
                gone = RowChange(table, key, row, None)
                touched.add(gone)
                if mirror is not None:
                    self.mirrored.add(mirror, gone)
                self.swept += 1
                if self.swept % _PAUSE == 0:
                    yield
        drafts = Drafts(self.in_force, self.store)
        for each in touched:
            if each.root_touched:  # what is gone of a part is told by the republish that follows
                self._settle(each, drafts)
        yield from self._encode(drafts)

    def retract(self, plans: Iterable[EntityPlan]) -> Iterator[None]:
        """Delete what was published, or is withheld, and has no row any more: one that is read anew tells of no id that it had before."""
        drafts = Drafts(self.in_force, self.store)
        for plan in plans:
            yield from self._retract(plan, publish.unfounded(plan, self.store), drafts)
            withheld = self.withheld.ids(plan)
            gone = [id_ for id_ in withheld if not publish.with_ids(plan, [id_], self.store)]
            yield from self._try_again(plan, gone, drafts)
        yield from self._encode(drafts)

    def reindex(self, plans: Iterable[EntityPlan]) -> Iterator[None]:
        """Make the indexes of entities anew; what was published and has no row by the new mapping is deleted."""
        drafts = Drafts(self.in_force, self.store)
        for plan in plans:
            found = index.rebuild(plan, self.moment.source, self.store, self.contention)
            yield from self._retract(plan, found, drafts)
        yield from self._encode(drafts)

    def _retract(
        self, plan: EntityPlan, deletes: Iterable[Draft | None], drafts: Drafts
    ) -> Iterator[None]:
        """Take deletes; None among them is a place to pause."""
        for number, draft in enumerate(deletes, 1):
            if draft is not None:
                self.withheld.release(plan, draft.id)
                drafts.append(draft)
            if number % _PAUSE == 0:
                yield

    def republish(self, control: Republish, plan: EntityPlan | MirrorPlan) -> Iterator[None]:
        """Publish the next ids of an entity in their current state; `message.fill` says how far it came."""
        if control.ids and isinstance(plan, MirrorPlan):
            yield from self.mirrored.current(plan, control.ids, self.store)
            return
        self.message.only_bindings = list(control.bindings)
        if isinstance(plan, MirrorPlan):
            chunk, more = self._mirror_chunk(control, plan)
        elif control.ids:
            found = publish.with_ids(plan, control.ids, self.store)
            there = {id_ for id_, _ in found}
            self.message.gone += [
                (plan.writer.topic, id_) for id_ in control.ids if id_ not in there
            ]
            yield from self._publish(plan, found)
            return
        else:
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

    def _mirror_chunk(
        self, control: Republish, plan: MirrorPlan
    ) -> tuple[list[tuple[str, bytes]], bool]:
        """Add the next rows of a mirrored table; give their ids, and whether more follow."""
        source = self.moment.source
        found = rows_after(plan, source, control.after, control.limit + 1, self.store)
        self.mirrored.describe(plan)
        self.mirrored.chunk(plan, found[: control.limit])
        chunk = [(plan.id(source, key), key) for key, _ in found[: control.limit]]
        return chunk, len(found) > control.limit

    def _publish(self, plan: EntityPlan, chunk: list[tuple[str, bytes]]) -> Iterator[None]:
        results = [publish.snapshot(plan, id_, key, self.store) for id_, key in chunk]
        drafts = Drafts(self.in_force, self.store)
        for draft in self._sort([result for result in results if result is not None]):
            self.withheld.release(plan, draft.id)
            drafts.append(draft)
        yield from self._encode(drafts)

    def retry(self, plan: EntityPlan | MirrorPlan, ids: Iterable[str]) -> Iterator[None]:
        """
        Publish the current state of those ids that are withheld, as far as it can be made now.

        An entity that waits for a table to be read is published with all that was withheld when it is there.
        """
        if isinstance(plan, MirrorPlan):
            waiting = [id_ for id_ in ids if self.withheld.holds(plan, id_)]
            yield from self.mirrored.current(plan, waiting, self.store)
            return
        if self.snapshots.waits(plan):
            return
        drafts = Drafts(self.in_force, self.store)
        yield from self._try_again(plan, ids, drafts)
        yield from self._encode(drafts)

    def _try_again(self, plan: EntityPlan, ids: Iterable[str], drafts: Drafts) -> Iterator[None]:
        waiting = [id_ for id_ in ids if self.withheld.holds(plan, id_)]
        for number, id_ in enumerate(waiting, 1):
            for result in publish.current(plan, id_, self.store):
                for draft in self._sort([result]):
                    drafts.append(draft)
            if not self.withheld.withholds_now(plan, id_):
                self.withheld.release(plan, id_)
            if number % _PAUSE == 0:
                yield

    def skip(self, plan: EntityPlan | MirrorPlan, ids: Iterable[str]) -> None:
        """Give up the withheld state of ids: what was published of them stays, until their next change."""
        for id_ in ids:
            self.withheld.skip(plan, id_)

    def admit(self, table: str, code: str, why: str) -> None:
        """Quarantine a table, or say anew why it is; a letter of its own tells, and what reads it waits."""
        known = self.quarantine.tables.get(table)
        letter = known.letter if known else f"{self._place}/table/{table}"
        ward = Ward(
            code, why, letter,
            since=known.since if known else self.moment.lane_offset,
            declared=self.in_force.hash,
            captured=self.in_force.tables.get(table),
        )  # fmt: skip
        self.quarantine.admit(table, ward)
        self.quarantine.apply_to(self.in_force)
        self.letters.append(Letter(letter, "open", RecordError("quarantine", code, why)))

    def resume(self, tables: Collection[str], changed: Collection[str] = ()) -> Iterator[None]:
        """Go on with quarantined tables: what was kept first, then every withheld id that reads them, or `changed` ones."""
        touched = TouchedSet(self.in_force, self.store, self.contention)
        for table in tables:
            yield from self._let_go(table, touched)
        drafts = Drafts(self.in_force, self.store)
        yield from self._settle_all(touched, drafts)
        yield from self._try_readers(self.resumed | {*changed}, drafts)
        yield from self._encode(drafts)

    def _let_go(self, table: str, touched: TouchedSet) -> Iterator[None]:
        """Let a table out of quarantine: what was kept of it is taken first."""
        yield from self._touch(self.quarantine.kept(table), touched, was_kept=True)
        ward = self.quarantine.discharge(table)
        self.quarantine.apply_to(self.in_force)
        self.resumed.add(table)
        told = RecordError("quarantine", ward.code, "the table goes on")
        self.letters.append(Letter(ward.letter, "superseded", told))

    def _try_readers(self, tables: set[str], drafts: Drafts) -> Iterator[None]:
        """Try the withheld ids of all entities that read one of these tables."""
        for plan in self.in_force.entities.values():
            waits = plan.waits_for is not None or self.snapshots.waits(plan)
            if not waits and not tables.isdisjoint(plan.declared.tables):
                ids = [
                    id_
                    for id_ in self.withheld.ids(plan)
                    if not self.withheld.withholds_now(plan, id_)
                ]
                yield from self._try_again(plan, ids, drafts)

    def rekey(self, table: str) -> Iterator[None]:
        """
        Take that a table has another key: its images move, and the indexes with them.

        Nothing is published but ids that have contenders: another row may have them now.
        """
        self.snapshots.set_aside(table)
        steps = [image.rekey(self.in_force.tables[table], self.store)]
        plans = {role.entity.entity: role.entity for role in self.in_force.roles.get(table, ())}
        source, contention = self.moment.source, self.contention
        steps += [index.renew(plan, source, self.store, contention) for plan in plans.values()]
        for number, _ in enumerate(chain.from_iterable(steps), 1):
            if number % _PAUSE == 0:
                yield
        drafts = Drafts(self.in_force, self.store)
        for plan in plans.values():
            fits = self.in_force.misfits.keys().isdisjoint(plan.declared.tables)
            if fits and not self.snapshots.waits(plan):
                for id_ in contention.ids(plan):
                    for draft in self._sort(publish.current(plan, id_, self.store)):
                        drafts.append(draft)
        yield from self._encode(drafts)

    def undecodable(self, error: RecordError, original: bytes) -> None:
        """Take what no canonical id can be derived from: a record, or a row of a transaction that may have several."""
        self._nameless += 1
        coordinates = self._place if self._nameless == 1 else f"{self._place}/{self._nameless}"
        sealed = self.seal.seal(coordinates, original)
        self.letters.append(Letter(coordinates, "open", error, sealed=sealed))

    @property
    def _place(self) -> str:
        return f"{self.moment.record.topic}/0/{self.moment.record.offset}"

    def _resolve(self, change: Change, was_kept: bool) -> Iterable[RowChange]:
        table = self.in_force.tables.get(change.table)
        if table is None:
            return ()
        if not was_kept and self._quarantined(change):
            self.quarantine.keep(change)
            self.snapshots.set_aside(change.table)
            return ()
        if wanted := self.in_force.repairs[change.table]:
            repair(change, wanted)
        if change.table in self.snapshots.active:
            admitted = self.snapshots.admit(change, table)
            if admitted is None:
                return ()
            change = admitted
        placeholders = self.in_force.placeholders[change.table]
        try:
            found = image.resolve(change, table, placeholders, self.store, self._aside)
        except RecordError as error:
            broken = image.resolve_broken(change, table, placeholders, error.code, self.store)
            if broken is None:
                row = [change.table, change.operation, change.before, change.after]
                self.undecodable(error, orjson.dumps(row))
                return ()
            return (broken,)
        self.unchanged += change.operation == "u" and not found
        return found

    def _quarantined(self, change: Change) -> bool:
        """Tell whether a change belongs to a quarantined table; a row without a mapped column makes it one."""
        if change.table in self.quarantine.tables:
            return True
        after = change.after
        if after is None:
            return False
        needed = self.in_force.needed[change.table]
        if _has(after, needed):
            return False
        lost = ", ".join(f"`{name}`" for name in needed if name not in after)
        self.admit(change.table, LOST_COLUMN, f"rows of `{change.table}` come without {lost}")
        return True

    def _fits_again(self, change: Change) -> bool:
        """Tell whether a row has the columns again that others lacked: somebody put the table right."""
        ward = self.quarantine.tables.get(change.table)
        if ward is None or ward.code != LOST_COLUMN or change.after is None:
            return False
        needed = self.in_force.needed.get(change.table, ())
        return change.table not in self.in_force.misfits and _has(change.after, needed)

    def _sort(self, results: Iterable[Draft | Failed]) -> list[Draft]:
        """Keep the drafts; what failed is withheld."""
        drafts = []
        for result in results:
            if isinstance(result, Failed):
                self._withhold(result.plan, result.id, result.error, orjson.dumps(result.root))
            else:
                drafts.append(result)
        return drafts

    def _withhold(self, plan: EntityPlan, id_: str, error: RecordError, original: bytes) -> None:
        """Withhold an id; when many fail anew in live traffic, the table at fault is quarantined (invariant I2)."""
        is_new = self.withheld.withhold(plan, id_, error, original)
        table = error.table or plan.root
        counts = is_new and self.moment.kind == "transaction" and error.code != publish.QUARANTINED
        if counts and table not in self.quarantine.tables and self.quarantine.failed(table):
            why = f"{FAILING_IDS} ids failed because of `{table}` within {WITHIN_TRANSACTIONS:,} transactions"
            self.admit(table, "many-failing", f"{why}; the last: {error.message}")

    def _encode(self, drafts: Drafts) -> Iterator[None]:
        count = len(drafts)
        for place, draft in enumerate(drafts):
            if place % _PAUSE == _PAUSE - 1:
                yield
            try:
                record = entity_record(draft, self.moment, place, count)
            except RecordError as error:
                self._withhold(draft.plan, draft.id, error, b"")
                continue
            self.message.add(record)
            # What only some bindings get is nothing that the entity topic and other targets have.
            if not self.message.only_bindings:
                publish.remember(draft, self.moment.lane_offset, self.store)


def _has(row: Row, columns: tuple[str, ...]) -> bool:
    """Tell whether a row has all of some columns."""
    return all(name in row for name in columns)

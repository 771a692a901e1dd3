"""
A lane: reads its log record by record and gives what each one makes.

A pure function of the log: no clock, no database, no registry, no other topic. What it knows stands in its
state, which the app commits together with the input position after the outputs are delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from schemas import control, lane_offset
from schemas.errors import TongbuError
from streams import control_records
from streams.contention import Contenders
from streams.errors import LaneStopped, OtherIncarnationError, RecordError
from streams.held import Held
from streams.in_force import InForce, compile_in_force
from streams.pipeline import Turn
from streams.quarantine import DROPPED, Quarantine, emptied
from streams.records import (
    Begin,
    Change,
    Ddl,
    End,
    LaneRecord,
    Output,
    SnapshotNotice,
    SourceTransaction,
)
from streams.republishing import Republishing
from streams.seal import Seal
from streams.snapshots import Snapshots
from streams.stages.ddl import TableChange, redefine
from streams.stages.decode import decode
from streams.stages.encode import (
    Moment,
    dead_letter,
    entity_outputs,
    transaction_outputs,
)
from streams.stages.image import image_key
from streams.stages.publish import PUBLISHED
from streams.state import CAPTURED, DECLARATIONS, LANE, State
from streams.transactions import Closed
from streams.waiting import Waiting
from streams.withheld import Marks

#: `control.is_control` asks for the same; a call of it per record was a hundredth of the event loop's time, for it is interpreted.
_CONTROL = control.KEY_PREFIX
_INCARNATION = _CONTROL + b"incarnation"
#: After so many records that have waited, what is held of open transactions goes into the state, as after a batch.
_KEPT_AT_ONCE = 500


@dataclass
class Counters:
    """What a lane has done since it started."""

    records: int = 0
    changes: int = 0
    transactions: int = 0
    repeats: int = 0
    unchanged: int = 0
    swept: int = 0
    published: int = 0
    dead_letters: int = 0


class Lane:
    """One source's lane. `topic_id` is the id of the topic it reads (None: not checked, as in a replay)."""

    def __init__(
        self, source: str, partition: int, state: State, seal: Seal, topic_id: str | None
    ) -> None:
        self.source = source
        self.partition = partition
        self.state = state
        self.seal = seal
        self.topic_id = topic_id
        self.counters = Counters()
        self.epoch = 0
        self.in_force: InForce | None = None
        self._marks = Marks(state)
        self._contenders = Contenders(state)
        self.held = Held(state)
        self.waiting = Waiting(state)
        self.quarantine = Quarantine(state, self.held)
        self.republishing = Republishing(source, state)
        self.snapshots = Snapshots(state)
        #: Why it can't go on from its state.
        self.unfit: str | None = None
        stored = state.get(LANE)
        try:
            if stored is not None:
                self._check_topic(control.Lane(**stored))
            self.compile()
        except LaneStopped as error:
            self.unfit = str(error)

    @property
    def withheld(self) -> int:
        """How many canonical ids are withheld."""
        return self._marks.count

    @property
    def published(self) -> bool:
        """Tell whether an initial snapshot was published completely."""
        return self.republishing.snapshot_published

    def process(self, record: LaneRecord) -> Iterable[Output | None]:
        """
        Give what a record makes; None in between is a place to pause, for a record that ends a giant is long work.

        It has to be read to its end before the next record. Raise LaneStopped, here or while it is read, where going on
        could produce wrong results.
        """
        self.counters.records += 1
        if self.waiting.why is not None and record.key != _INCARNATION:
            self.waiting.add(record)
            return ()
        if record.key is not None and record.key.startswith(_CONTROL):
            return self._control(record)
        if self.in_force is None:
            return ()
        return self._event(record, self.in_force)

    def end_batch(self) -> None:
        """Put what is held of open transactions into the state, so that the next offset is all there is to resume."""
        self.quarantine.store()
        self.held.store()

    def late(self) -> Iterator[Output]:
        """
        Give control records for the ids whose records are not known to be delivered.

        Those of a worker that was frozen may arrive behind what another has published meanwhile: the latter is asked to
        publish these ids again, so that the last record of each is the newest on the entity topics, too.
        """
        ids: dict[str, list[str]] = {}
        for key in self.state.unwritten(PUBLISHED):
            entity, _, id_ = key.removeprefix(PUBLISHED).decode().partition("\0")
            ids.setdefault(entity, []).append(id_)
        for entity, found in ids.items():
            yield from self.republishing.late(entity, found)

    # -- records of Debezium

    def _event(self, record: LaneRecord, in_force: InForce) -> Iterable[Output | None]:
        try:
            event = decode(record)
        except RecordError as error:
            turn = self.turn(record, in_force)
            turn.undecodable(error, (record.key or b"") + b"\0" + (record.value or b""))
            return self.outputs(turn)
        if event is None:
            return ()
        if isinstance(event, SnapshotNotice):
            return self._snapshot(event, record, in_force)
        if isinstance(event, Change):
            self.counters.changes += 1
            if event.operation == "r":
                return self._snapshot_row(event, record, in_force)
        return self._assemble(event, record, in_force)

    def _snapshot_row(
        self, row: Change, record: LaneRecord, in_force: InForce
    ) -> Iterator[Output | None]:
        if not self._asked_for(row):
            return
        if self._is_own(row.reader):
            yield from self.snapshots.take_over(row.table, record.offset)
        turn = self.turn(record, in_force)
        turn.snapshot_rows([row])
        yield from self.outputs(turn)

    def _assemble(
        self, event: Begin | End | Ddl | Change, record: LaneRecord, in_force: InForce
    ) -> Iterable[Output | None]:
        """Take an event of a transaction; what most of them make is nothing, for only the last closes it."""
        try:
            closed = self.held.assembler.feed(event)
        except OtherIncarnationError as error:
            remedy = (
                f"if that is meant, `tongbu incarnation {self.source} --reason …` lets it go on"
            )
            self.waiting.begin(
                f"waits since offset {record.offset}: {error}: the source server was replaced or restored; {remedy}",
                record,
            )
            return ()
        ddl = event if isinstance(event, Ddl) and event.tables else None
        if closed is None and ddl is None:
            return ()
        return self._close(closed, ddl, record, in_force)

    def _close(
        self,
        closed: Closed | None,
        ddl: Ddl | None,
        record: LaneRecord,
        in_force: InForce,
    ) -> Iterator[Output | None]:
        transaction = closed.transaction if closed is not None else None
        if closed is not None and closed.repeat:
            self.counters.repeats += 1
        if transaction is not None and transaction.id is not None:
            self.held.remember_ended()
        turn = self.turn(record, in_force, transaction)
        if closed is not None and transaction is not None:
            yield from self._transaction(turn, transaction, closed.lost)
        if ddl is not None and self.held.is_new(ddl):
            yield from self._redefine(turn, ddl.tables)
        yield from self.outputs(turn)

    def _transaction(
        self, turn: Turn, transaction: SourceTransaction, lost: tuple[str, ...]
    ) -> Iterator[None]:
        self.counters.transactions += 1
        for each in lost:
            message = f"transaction {each} was cut off by a restart of capture and never came again"
            turn.undecodable(RecordError("transaction", "lost", message), b"")
        yield from turn.transaction(transaction.changes)

    def _redefine(self, turn: Turn, changes: tuple[TableChange, ...]) -> Iterator[Output | None]:
        """Take DDL that the source logs: other columns and types from here on; a dropped table is quarantined."""
        known, before = control.decode(self.state.get(CAPTURED)), self.in_force
        if isinstance(known, control.CapturedSchema):
            self.state.put(CAPTURED, control.encode(redefine(known, changes))[1])
            self.compile()
            turn.in_force = self.in_force or turn.in_force
        made_again = []
        for each in changes:
            if each.name not in turn.in_force.tables:
                continue
            ward = self.quarantine.tables.get(each.name)
            if each.table is None:
                why = f"`{each.name}` was dropped or renamed at the source"
                turn.admit(each.name, DROPPED, why)
            elif (ward is not None and ward.code == DROPPED) or (
                each.type == "CREATE" and (ward is not None or self._has_rows(each.name))
            ):
                if ward is None:  # the table that had the name has another one by now
                    turn.admit(each.name, DROPPED, f"`{each.name}` was renamed at the source")
                self.quarantine.keep(emptied(each.name))
                made_again.append(each.name)
        yield from control_records.judge(self, turn, made_again, before)

    def _has_rows(self, table: str) -> bool:
        return next(iter(self.state.iterate(image_key(table, b""))), None) is not None

    def _asked_for(self, row: Change) -> bool:
        """Tell whether a row belongs to a snapshot that has begun: one that comes late may be of any age."""
        reading = self.snapshots.active.get(row.table)
        return self._is_own(row.reader) or (reading is not None and reading.id == row.reader)

    def _is_own(self, connector: str | None) -> bool:
        """Tell whether it is the source's own connector, not a reader."""
        return connector in (None, self.source)

    def _snapshot(
        self, notice: SnapshotNotice, record: LaneRecord, in_force: InForce
    ) -> Iterator[Output | None]:
        """Follow a snapshot: its rows count from its beginning, and at its end what it did not find is gone."""
        captured = list(in_force.tables) if self._is_own(notice.connector) else None
        ended = yield from self.snapshots.follow(notice, captured, record.offset)
        if ended:
            yield from self._complete(ended, record, in_force)

    def _complete(
        self, tables: list[str], record: LaneRecord, in_force: InForce
    ) -> Iterator[Output | None]:
        """Sweep what the snapshots of tables did not find, and publish what reads them, as far as all of it is there; ids without a row are deleted."""
        turn = self.turn(record, in_force, kind="republish")
        yield from turn.sweep(tables)
        for table in tables:
            yield from self.snapshots.end(table, complete=True)
        plans = [
            plan
            for plan in in_force.entities.values()
            if not self.snapshots.waits(plan) and not set(tables).isdisjoint(plan.declared.tables)
        ]
        yield from turn.retract(plans)
        yield from self.outputs(turn)
        ready = [plan.entity for plan in plans]
        ready += [table for table in tables if table in in_force.mirrors]
        yield from self.republishing.resume(ready)
        yield from self.republishing.enqueue(record.offset, ready)

    def turn(
        self,
        record: LaneRecord,
        in_force: InForce,
        transaction: SourceTransaction | None = None,
        kind: str = "transaction",
    ) -> Turn:
        """Begin with what a record makes: a message of that kind, and letters."""
        version = lane_offset.pack(self.epoch, record.offset)
        id_, at = (transaction.id, transaction.committed_at) if transaction else (None, None)
        moment = Moment(self.source, version, record, kind, id_, at)
        return Turn(
            moment, in_force, self.state, self.seal, self.quarantine,
            self.snapshots, self._marks, self._contenders,
        )  # fmt: skip

    def outputs(self, turn: Turn) -> Iterator[Output | None]:
        """Give the Kafka records of a turn: the targets' message first, for it is the one that is waited for."""
        message, moment = turn.message, turn.moment
        if message.records or message.withheld or message.fill:
            yield from transaction_outputs(message, moment, turn.in_force, self.partition)
        if not message.only_bindings:
            yield from entity_outputs(message, moment)
        for letter in turn.letters:
            yield dead_letter(letter, moment, turn.in_force)
        self.counters.published += len(message.records)
        self.counters.unchanged += turn.unchanged
        self.counters.swept += turn.swept
        for letter in turn.letters:
            self.counters.dead_letters += letter.state == "open"

    # -- control records

    def _control(self, record: LaneRecord) -> Iterator[Output | None]:
        try:
            found = control.decode(record.value or b"")
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise LaneStopped(
                f"{record.topic} offset {record.offset}: a control record that this version can't read: {error}",
                "Start the version of Tongbu that wrote it, or a newer one.",
            ) from error
        if isinstance(found, control.Lane):
            self._open(found)
        elif isinstance(found, control.Incarnation):
            self.held.renew()
            for number, kept in enumerate(self.waiting.end(), 1):
                yield from self.process(kept)
                yield None  # most make nothing, and there may be any number of them
                if number % _KEPT_AT_ONCE == 0:
                    self.end_batch()
        elif not self.epoch:
            raise LaneStopped(
                f"{record.topic} offset {record.offset}: a `{type(found).__name__.lower()}` record, but no `lane` record before it",
                "The log was begun by something else than `tongbu apply`: docs/processor.md says how to begin it anew.",
            )
        else:
            yield from control_records.EFFECTS[type(found)](self, found, record)

    def _open(self, lane: control.Lane) -> None:
        if lane.epoch < self.epoch:
            raise LaneStopped(f"lane {self.source}: epoch {lane.epoch} is below {self.epoch}")
        self._check_topic(lane)
        self.state.put(
            LANE, {"source": lane.source, "epoch": lane.epoch, "topic_id": lane.topic_id}
        )

    def _check_topic(self, lane: control.Lane) -> None:
        if self.topic_id is not None and lane.topic_id != self.topic_id:
            raise LaneStopped(
                f"lane {self.source}: the log cdc.{self.source} is another topic ({self.topic_id}) than the lane's ({lane.topic_id})",
                "Run `tongbu apply`: a new log needs a `lane` record with a higher epoch, and a state of its own.",
            )
        self.epoch = lane.epoch

    def compile(self) -> None:
        """Make what is declared and captured, as the state has it, ready for use."""
        declared, captured = self.state.get(DECLARATIONS), self.state.get(CAPTURED)
        if declared is None or captured is None:
            return
        declarations, schema = control.decode(declared), control.decode(captured)
        if isinstance(declarations, control.Declarations) and isinstance(
            schema, control.CapturedSchema
        ):
            try:
                self.in_force = compile_in_force(declarations, schema)
                self.quarantine.apply_to(self.in_force)
            except TongbuError as error:
                raise LaneStopped(f"lane {self.source}: {error.message}", error.remedy) from error
            except Exception as error:  # whatever they are like, it is this lane that can't go on
                why = f"its declarations can't be used: {type(error).__name__}: {error}"
                raise LaneStopped(f"lane {self.source}: {why}") from error

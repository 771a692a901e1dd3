"""
Control records: what each does to a lane that has read it (what they are: schemas/control.py).

Those that say what the log itself is, `lane` and `incarnation`, are the lane's own business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from schemas import control
from schemas.captured import Table
from streams.in_force import EntityPlan, InForce
from streams.pipeline import Turn
from streams.records import LaneRecord, Output
from streams.stages.mirror import rounds
from streams.state import CAPTURED, DECLARATIONS

if TYPE_CHECKING:
    from streams.lane import Lane

#: Gives what a control record makes, as `Lane.process` does.
Effect = Callable[["Lane", Any, LaneRecord], Iterator[Output | None]]


def _bring_into_force(
    lane: Lane, found: control.Declarations | control.CapturedSchema, record: LaneRecord
) -> Iterator[Output | None]:
    """
    Bring declarations or a captured schema into force.

    Tables that are new are incomplete until a snapshot has read them. Entities that read their rows otherwise than
    before are indexed and published anew.
    """
    before, place = lane.in_force, DECLARATIONS
    if isinstance(found, control.CapturedSchema):
        place = CAPTURED
        if before is not None:
            now = [table.qualified for table in found.tables]
            yield from lane.snapshots.recaptured(before.tables, now)
    lane.state.put(place, record.value)
    lane.compile()
    if lane.in_force is None:
        return
    known = {} if before is None else {name: p.shape for name, p in before.entities.items()}
    plans = lane.in_force.entities if before is not None else {}
    anew = [plan for name, plan in plans.items() if known.get(name) != plan.shape]
    turn = lane.turn(record, lane.in_force, kind="release")
    yield from turn.reindex(anew)
    yield from judge(lane, turn, (), before)
    yield from lane.outputs(turn)
    ready = [name for name, plan in plans.items() if not lane.snapshots.waits(plan)]
    yield from lane.republishing.resume(ready)
    if begun := [plan.entity for plan in anew if plan.entity in ready]:
        yield from lane.republishing.enqueue(record.offset, begun)


def judge(
    lane: Lane, turn: Turn, resume: Collection[str], before: InForce | None
) -> Iterator[Output | None]:
    """
    Quarantine the tables that mappings can't use any more; go on with those that they can use again.

    One of `resume` that they still can't use is quarantined for that from here on: it goes on as soon as they can.
    What is withheld and reads a table that was captured otherwise `before` is tried again.
    """
    known = before.tables if before is not None else {}
    changed = [
        name for name, table in turn.in_force.tables.items() if known.get(name, table) != table
    ]
    grown = _mirrors_changed(turn, before) if before is not None else []
    misfits, quarantine = turn.in_force.misfits, lane.quarantine
    judged = quarantine.to_judge(turn.in_force)
    for name in changed:
        key = turn.in_force.tables[name].key
        if key and key != known[name].key:
            yield from turn.rekey(name)
    for table, misfit in misfits.items():
        if table not in quarantine.tables or table in judged or table in resume:
            turn.admit(table, "misfit", misfit.why)
    well = [each for each in (*judged, *resume) if each in quarantine.tables]
    yield from turn.resume([each for each in dict.fromkeys(well) if each not in misfits], changed)
    for name in changed:
        mirror = turn.in_force.mirrors.get(name)
        # By another key an id may be that of another row.
        if mirror is not None and turn.in_force.tables[name].key == known[name].key:
            yield from turn.retry(mirror, list(turn.withheld.ids(mirror)))
    for name in grown:
        yield lane.republishing.again(name, f"columns-{turn.moment.record.offset}-{name}")


def _mirrors_changed(turn: Turn, before: InForce) -> list[str]:
    """
    Have the targets follow mirrored tables whose columns changed; give those that are to be published again.

    Rows may have brought values already of columns that are new, or that targets had to round to the former type. The
    latter not where DDL stands in the log before the rows.
    """
    late = turn.moment.kind == "release"
    grown = []
    for name, plan in turn.in_force.mirrors.items():
        old = before.mirrors.get(name)
        if old is not None and old.description != plan.description:
            turn.mirrored.describe(plan)
            added = {column for column, _ in plan.columns} - {column for column, _ in old.columns}
            if added or (late and _rounded(before.tables[name], turn.in_force.tables[name])):
                grown.append(name)
    return grown


def _rounded(before: Table, now: Table) -> bool:
    """Tell whether values of a column's present type may have been rounded to its former one."""
    known = {each.name: each.type for each in before.columns}
    return any(
        each.name in known and known[each.name] != each.type and rounds(known[each.name], each.type)
        for each in now.columns
    )


def _resume(lane: Lane, found: control.Resume, record: LaneRecord) -> Iterator[Output | None]:
    if lane.in_force is not None:
        turn = lane.turn(record, lane.in_force, kind="release")
        yield from judge(lane, turn, [found.table], lane.in_force)
        yield from lane.outputs(turn)


def _snapshot(lane: Lane, found: control.Snapshot, record: LaneRecord) -> Iterator[Output | None]:
    yield from lane.snapshots.begin(found.snapshot, found.tables, record.offset)


def _republish(lane: Lane, found: control.Republish, record: LaneRecord) -> Iterator[Output | None]:
    plan = lane.in_force.published(found.entity) if lane.in_force else None
    if lane.in_force is None or plan is None:
        yield from lane.republishing.pass_over(found)
        return
    if not lane.republishing.is_due(found):
        return
    if isinstance(plan, EntityPlan) and lane.snapshots.waits(plan):
        yield from lane.republishing.defer(found)
        return
    turn = lane.turn(record, lane.in_force, kind="republish")
    yield from turn.republish(found, plan)
    yield from lane.outputs(turn)
    fill = turn.message.fill
    if fill is not None:
        yield from lane.republishing.published(found, fill["to"], last=fill["last"])


def _release(
    lane: Lane, found: control.Retry | control.Skip, record: LaneRecord
) -> Iterator[Output | None]:
    plan = lane.in_force.published(found.entity) if lane.in_force else None
    if lane.in_force is None or plan is None:
        return
    turn = lane.turn(record, lane.in_force, kind="release")
    if isinstance(found, control.Retry):
        yield from turn.retry(plan, found.ids)
    else:
        turn.skip(plan, found.ids)
    yield from lane.outputs(turn)


#: A new control record is a struct in schemas/control.py, a function and a line here.
EFFECTS: dict[type, Effect] = {
    control.Declarations: _bring_into_force,
    control.CapturedSchema: _bring_into_force,
    control.Snapshot: _snapshot,
    control.Republish: _republish,
    control.Retry: _release,
    control.Skip: _release,
    control.Resume: _resume,
}

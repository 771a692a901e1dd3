"""
What the targets should hold: the rows of a source as they are now, through the same mapping as its changes.

Fields that depend on a lookup or a rule are as of the record's last change (a customer's new grade does not
change its old orders), so the source as it is now does not tell them: `late_paths` names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from schemas.declarations import Mapping
from schemas.expressions import (
    Cases,
    Codes,
    Each,
    Expression,
    LocalTimeOf,
    MoneyOf,
    QuantityOf,
    Reference,
    Sum,
)
from sink_writers.messages import Record
from streams.errors import RecordError
from streams.held import Held
from streams.in_force import EntityPlan, InForce
from streams.pipeline import Turn
from streams.quarantine import Quarantine
from streams.records import Change, LaneRecord
from streams.seal import Seal
from streams.stages import publish
from streams.stages.encode import Moment, entity_record
from streams.stages.publish import Failed
from streams.state import State

#: The place of a field in a record, e.g. ("gross", "currency").
FieldPath = tuple[str, ...]

_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Unmappable:
    """An id whose rows can't be mapped as they are now."""

    id: str
    code: str


class ExpectedSource:
    """The current rows of one source, mapped. `folder` holds the images meanwhile."""

    def __init__(self, source: str, in_force: InForce, folder: Path) -> None:
        self.source = source
        self.in_force = in_force
        self._state = State(folder)
        self._quarantine = Quarantine(self._state, Held(self._state))
        self._moment = Moment(source, 0, LaneRecord(f"cdc.{source}", 0, 0, None, None))

    def fill(self, rows: Iterable[Change]) -> Iterator[int]:
        """Take rows; give how many were taken, chunk by chunk."""
        rows = iter(rows)
        while chunk := list(islice(rows, _CHUNK)):
            self._turn().snapshot_rows(chunk)
            self._state.commit(0)
            yield len(chunk)

    def records(self, entity: str) -> Iterator[Record | Unmappable]:
        """Give the canonical records of an entity; nothing where the source does not have it."""
        plan = self.in_force.entities.get(entity)
        if plan is None:
            return
        for id_, root_key in publish.ids_after(plan, "", 1 << 62, self._state):
            result = publish.snapshot(plan, id_, root_key, self._state)
            if isinstance(result, Failed):
                yield Unmappable(id_, result.error.code)
            elif result is not None:
                try:
                    yield Record(**entity_record(result, self._moment, 0, 1))
                except RecordError as error:
                    yield Unmappable(id_, error.code)

    def late_paths(self, entity: str) -> frozenset[FieldPath]:
        """Give the fields of an entity that are as of the record's last change, as paths."""
        plan = self.in_force.entities.get(entity)
        return frozenset() if plan is None else late_paths(plan)

    def close(self) -> None:
        """Let go of the folder."""
        self._state.close()

    def _turn(self) -> Turn:
        return Turn(self._moment, self.in_force, self._state, Seal(None), self._quarantine)


def late_paths(plan: EntityPlan) -> frozenset[FieldPath]:
    """Give the paths of the fields that a lookup or a rule decides."""
    ruled = {(name,) for rule in plan.rules for name in rule.rule.sets}
    return frozenset(ruled | looked_up(plan.declared))


def looked_up(mapping: Mapping) -> set[FieldPath]:
    """Give the paths of the fields that a lookup decides, sums over them included."""
    lookups = frozenset(mapping.lookups)
    found: set[FieldPath] = set()
    for name, expression in mapping.fields.items():
        found |= _late(expression, (name,), lookups)
    for name, expression in mapping.fields.items():
        if isinstance(expression, Sum):
            summed = tuple(expression.sum.split("."))
            if any(path[: len(summed)] == summed for path in found):
                found.add((name,))
    return found


def _late(expression: Expression, path: FieldPath, lookups: frozenset[str]) -> set[FieldPath]:
    inner: dict[FieldPath, Expression] = {}
    if isinstance(expression, MoneyOf):
        inner = {(*path, "amount"): expression.money, (*path, "currency"): expression.currency}
    elif isinstance(expression, QuantityOf):
        inner = {(*path, "value"): expression.quantity, (*path, "unit"): expression.unit}
    elif isinstance(expression, Each):
        inner = {(*path, name): each for name, each in expression.fields.items()}
    late: set[FieldPath] = set()
    for inner_path, each in inner.items():
        late |= _late(each, inner_path, lookups)
    if any(column.partition(".")[0] in lookups for column in _columns(expression) if "." in column):
        late.add(path)
    return late


def _columns(expression: Expression) -> list[str]:
    """Give the column paths that a form reads itself, or through the form it is made of."""
    if isinstance(expression, str):
        return [expression]
    if isinstance(expression, Codes):
        return _columns(expression.of)
    if isinstance(expression, Cases):
        return [column for case in expression.cases for column in case.when]
    if isinstance(expression, Reference | LocalTimeOf):
        read = expression.to if isinstance(expression, Reference) else expression.local_time
        return [read] if isinstance(read, str) else read
    return []

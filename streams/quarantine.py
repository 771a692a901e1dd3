"""
Quarantine: a table that its mappings can't use as it is now. Its changes are kept in the lane's state, in order.

A mapped column that is lost or became another type, or many ids that fail because of one table, put that table
here, and no other. What reads it is withheld. Once mapping and table fit again, what was kept goes on from where it
stopped; a control record `resume` does the same by a person's decision.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.captured import Table
from streams.held import Held, HeldRows, RowStore
from streams.in_force import InForce
from streams.records import Change, Position

#: So many ids that fail anew because of one table, within so many transactions, quarantine it.
FAILING_IDS, WITHIN_TRANSACTIONS = 100, 1_000

#: The code of a table whose rows lack a mapped column: one that has it again ends it.
LOST_COLUMN = "lost-column"
#: The code of a table that is gone: declarations and captured schema can't bring it back.
DROPPED = "dropped"
_TABLES, _FAILING = b"qua\0", b"fai\0"


class Ward(msgspec.Struct):
    """
    A quarantined table: why, since which lane offset, its dead letter, and where how many changes are kept.

    `declared` and `captured` are what was in force when it was last judged: it is judged again when they differ.
    """

    code: str
    why: str
    letter: str
    since: int
    declared: str
    captured: Table | None
    slot: int = 0
    kept: int = 0


def emptied(table: str) -> Change:
    """Give the change that a table which is made again begins with: the rows that it had are gone."""
    return Change(table, "t", None, None, None, Position((0, 0), 0), None)


class Quarantine:
    """The quarantined tables of a lane, as its state has them."""

    def __init__(self, state: RowStore, held: Held) -> None:
        self._state, self._held = state, held
        self.tables: dict[str, Ward] = {}
        self._rows: dict[str, HeldRows] = {}
        for key, value in state.scan(_TABLES):
            table, ward = key.removeprefix(_TABLES).decode(), msgspec.convert(value, Ward)
            self.tables[table] = ward
            self._rows[table] = HeldRows(state, ward.slot, ward.kept)

    def store(self) -> None:
        """Put what was kept since the last call into the state; for the end of every batch, after the assembler's."""
        for table, rows in self._rows.items():
            ward = self.tables[table]
            if len(rows) != rows.stored:
                rows.store()
                ward.kept = rows.stored
                self._put(table, ward)

    def status(self) -> dict[str, dict[str, Any]]:
        """Give table -> why and how many changes are kept; for `tongbu status` and metrics."""
        return {
            table: {"code": ward.code, "why": ward.why, "kept": ward.kept}
            for table, ward in list(self.tables.items())
        }

    def apply_to(self, in_force: InForce) -> None:
        """Let the entities that read a quarantined table wait for it."""
        for plan in in_force.entities.values():
            plan.waits_for = next(
                (each for each in plan.declared.tables if each in self.tables), None
            )

    def admit(self, table: str, ward: Ward) -> None:
        """Quarantine a table, or say anew why it is."""
        if table not in self._rows:
            self._rows[table] = self._held.rows()
        rows = self._rows[table]
        ward.slot, ward.kept = rows.slot, rows.stored
        self.tables[table] = ward
        self._put(table, ward)

    def keep(self, change: Change) -> None:
        """Keep a change of a quarantined table."""
        self._rows[change.table].append(change)

    def kept(self, table: str) -> HeldRows:
        """Give the changes that are kept of a table, in order."""
        return self._rows[table]

    def discharge(self, table: str) -> Ward:
        """Let a table go, and forget what was kept of it."""
        self._rows.pop(table).forget()
        self._state.put(_TABLES + table.encode(), None)
        self._state.put(_FAILING + table.encode(), None)
        return self.tables.pop(table)

    def to_judge(self, in_force: InForce) -> list[str]:
        """Give the tables whose mappings or columns are not those that they were last judged by."""
        return [
            table
            for table, ward in self.tables.items()
            if (ward.code != DROPPED or table not in in_force.tables)
            and (ward.declared, ward.captured) != (in_force.hash, in_force.tables.get(table))
        ]

    def failed(self, table: str) -> bool:
        """Note that one more id fails because of a table; tell whether there are too many."""
        key = _FAILING + table.encode()
        numbers = [*(self._state.get(key) or []), self._held.ended][-FAILING_IDS:]
        self._state.put(key, numbers)
        return len(numbers) == FAILING_IDS and numbers[-1] - numbers[0] <= WITHIN_TRANSACTIONS

    def _put(self, table: str, ward: Ward) -> None:
        self._state.put(_TABLES + table.encode(), msgspec.to_builtins(ward))

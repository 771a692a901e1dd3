"""Drafts: the records of one transaction between being settled and being encoded, as many as there may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streams.in_force import InForce
from streams.stages.image import Store
from streams.stages.publish import Draft


class Drafts:
    """
    Drafts in the order of their aggregates' first touch.

    A delete of an id that the same transaction brings again is left out: one record per id and version.
    """

    def __init__(self, in_force: InForce, store: Store) -> None:
        self._plans = in_force.entities
        self._spool = store.spool()
        self._deleted: set[tuple[str, str]] = set()
        self._left_out: set[tuple[str, str]] | None = None

    def append(self, draft: Draft) -> None:
        """Add a draft."""
        if draft.operation == "delete":
            self._deleted.add((draft.plan.entity, draft.id))
        self._spool.append((draft.plan.entity, draft.unplanned()))
        self._left_out = None

    def __len__(self) -> int:
        return len(self._spool) - len(self._recreated())

    def __iter__(self) -> Iterator[Draft]:
        recreated = self._recreated()
        entity: str
        values: tuple[Any, ...]
        for entity, values in self._spool:
            draft = Draft(self._plans[entity], *values)
            if draft.operation != "delete" or (entity, draft.id) not in recreated:
                yield draft

    def _recreated(self) -> set[tuple[str, str]]:
        """Give what is deleted and brought again; the spool is read for it, so that only deletes stand in memory."""
        if self._left_out is None:
            self._left_out = set()
            for entity, values in self._spool if self._deleted else ():
                if values[1] != "delete" and (entity, values[0]) in self._deleted:
                    self._left_out.add((entity, values[0]))
        return self._left_out

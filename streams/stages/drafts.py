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
        self._kept: set[tuple[str, str]] = set()

    def append(self, draft: Draft) -> None:
        """Add a draft."""
        ids = self._deleted if draft.operation == "delete" else self._kept
        ids.add((draft.plan.entity, draft.id))
        self._spool.append((draft.plan.entity, draft.unplanned()))

    def __len__(self) -> int:
        return len(self._spool) - len(self._deleted & self._kept)

    def __iter__(self) -> Iterator[Draft]:
        recreated = self._deleted & self._kept
        entity: str
        values: tuple[Any, ...]
        for entity, values in self._spool:
            draft = Draft(self._plans[entity], *values)
            if draft.operation != "delete" or (entity, draft.id) not in recreated:
                yield draft

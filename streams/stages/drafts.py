"""Drafts: the records of one transaction between being settled and being encoded, as many as there may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streams.in_force import InForce
from streams.stages.image import Store
from streams.stages.publish import Draft, index_key


class Drafts:
    """
    Drafts in the order of their aggregates' first touch.

    A delete of an id that another row has by now is left out: that row's record, if it says anything new, is the one of
    this version; one that is withheld leaves what was published before. Nor is such an id the former one of a record: what
    refers to it is to stay.
    """

    def __init__(self, in_force: InForce, store: Store) -> None:
        self._plans = in_force.entities
        self._store = store
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
        return len(self._spool) - len(self._taken_over())

    def __iter__(self) -> Iterator[Draft]:
        taken_over = self._taken_over()
        entity: str
        values: tuple[Any, ...]
        for entity, values in self._spool:
            draft = Draft(self._plans[entity], *values)
            if draft.operation != "delete" or (entity, draft.id) not in taken_over:
                if draft.previous_id is not None and self._has_row(entity, draft.previous_id):
                    draft.previous_id = None
                yield draft

    def _taken_over(self) -> set[tuple[str, str]]:
        """Give what is to be deleted and has a row: the index knows it when all is settled."""
        if self._left_out is None:
            self._left_out = set()
            for entity, id_ in self._deleted:
                if self._has_row(entity, id_):
                    self._left_out.add((entity, id_))
        return self._left_out

    def _has_row(self, entity: str, id_: str) -> bool:
        return self._store.get(index_key(self._plans[entity], id_)) is not None

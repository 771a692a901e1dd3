"""Index: from ids to root rows and from roots to the rows of their parts, made again from the row images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streams.in_force import EntityPlan
from streams.stages import aggregate, publish
from streams.stages.image import Store, image_key
from streams.stages.publish import Draft

if TYPE_CHECKING:
    from streams.contention import Contention


def rebuild(
    plan: EntityPlan, source: str, store: Store, contention: Contention
) -> Iterator[Draft | None]:
    """
    Make the indexes of an entity anew, for a mapping that reads its rows otherwise than the one before.

    Gives the deletes of published ids that there are no more; None in between is a place to pause.
    """
    yield from renew(plan, source, store, contention)
    yield from publish.unfounded(plan, store)


def renew(plan: EntityPlan, source: str, store: Store, contention: Contention) -> Iterator[None]:
    """Make the indexes of an entity anew, for images that stand elsewhere now; pauses after each entry."""
    for prefix in (publish.index_key(plan, ""), aggregate.children_prefix(plan)):
        for place, _ in store.iterate(prefix):
            store.put(place, None)
            yield None
    yield from contention.clear(plan)
    prefix = image_key(plan.root, b"")
    for place, root in store.iterate(prefix):
        if aggregate.in_scope(plan, root):
            publish.claim(plan, place[len(prefix) :], root, source, store, contention)
        yield None
    for part in plan.parts:
        prefix = image_key(part.table, b"")
        for place, row in store.iterate(prefix):
            parent = aggregate.parent_of(row, part)
            if parent is not None:
                aggregate.link(plan, part, parent, place[len(prefix) :], store)
            yield None

"""Filling targets by `republish`: announced in the target first, then asked for in the lane logs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from functools import partial

from schemas.control import Republish
from schemas.declarations import RelationalBinding
from schemas.errors import ServiceUnavailable, TongbuError
from sink_writers import targets
from sink_writers.fills import Fill
from tongbu import topics
from tongbu.deploy import lanes
from tongbu.deploy.deployment import Change, Deployment


def announce(
    deployment: Deployment, binding: RelationalBinding, entities: Sequence[str]
) -> dict[str, str]:
    """
    Announce the fills of entities in the target, what others refer to first; give id -> what it fills.

    Raise TongbuError where the binding has no such entity, or none of its sources maps one.
    """
    if binding.reads == "entities":
        raise TongbuError(
            f"{binding.binding} reads entity by entity, and no fill is made for it alone",
            "`tongbu republish ENTITY` brings every record again.",
        )
    mirrored = mirrored_in(deployment, binding)
    if unknown := set(entities) - set(binding.entities) - mirrored.keys():
        raise TongbuError(
            f"{binding.binding} has no entity {', '.join(sorted(unknown))}",
            f"It has: {', '.join([*binding.entities, *mirrored])}.",
        )
    order = dict.fromkeys(each.entity for each in targets.tables(binding, deployment.catalog))
    mapped = {(each.value.source, each.value.entity) for each in deployment.mappings}
    begun = [
        (source, entity, f"{binding.binding}-{entity}-{uuid.uuid4().hex[:12]}")
        for entity in order
        for source in binding.sources
        if entity in entities and (source, entity) in mapped
    ]
    begun += [
        (source, table, f"{binding.binding}-{uuid.uuid4().hex[:12]}")
        for table, source in mirrored.items()
        if table in entities
    ]
    if not begun:
        raise TongbuError(
            f"no source of {binding.binding} maps {', '.join(entities)}", "Declare a mapping first."
        )
    targets.begin_fills(binding, begun)
    return {fill: f"{what} from {source}" for source, what, fill in begun}


def mirrored_in(deployment: Deployment, binding: RelationalBinding) -> dict[str, str]:
    """Give the tables that are mirrored into a binding's target as they are -> their source."""
    return {
        table: each.value.source
        for each in deployment.mirrors
        if each.value.binding == binding.binding
        for table in each.value.tables
    }


def start(
    deployment: Deployment, binding: RelationalBinding, entities: Sequence[str]
) -> dict[str, str]:
    """Announce fills and ask for them; give id -> what it fills. Raise TongbuError as `announce`."""
    begun = announce(deployment, binding, entities)
    _ask(deployment, binding)
    return begun


def needed(deployment: Deployment, binding: RelationalBinding, entities: Sequence[str]) -> bool:
    """Tell whether new tables need a fill: not while the transactions topic still holds everything to be read."""
    if (
        not entities or binding.reads == "entities"
    ):  # a new entity's topic is read from its beginning
        return False
    topic = f"{deployment.namespace}canonical.transactions.v1"
    begins = topics.starts(deployment.bootstrap, [topic])
    return targets.was_read(binding) or any(begins.values())


def plan(deployment: Deployment) -> Iterator[Change]:
    """Ask for the fills that have not begun: of tables that are new to a target that was read, and of mirrored tables."""
    for declared in deployment.bindings:
        binding = declared.value
        if not isinstance(binding, RelationalBinding):
            continue
        found = _announced(binding)
        unknown, waiting = _unannounced(deployment, binding, found), _waiting(binding, found)
        if unknown or waiting:
            what = ", ".join(dict.fromkeys([*(record.entity for record in waiting), *unknown]))
            do = partial(_begin, deployment, binding, unknown)
            yield Change("fill", binding.binding, "begin", what, do)


def _begin(deployment: Deployment, binding: RelationalBinding, unknown: Sequence[str]) -> None:
    if unknown:
        announce(deployment, binding, unknown)
    _ask(deployment, binding)


def _ask(deployment: Deployment, binding: RelationalBinding) -> None:
    if waiting := _waiting(binding, _announced(binding)):
        lanes.append(deployment, *waiting)


def _unannounced(
    deployment: Deployment, binding: RelationalBinding, found: list[Fill] | None
) -> list[str]:
    """
    Give the mirrored tables that the lanes know whole and of which no fill was ever announced.

    So a mirror is filled however it came into the declarations, and also where what declared it was ended before.
    """
    mirrored = mirrored_in(deployment, binding)
    if not mirrored or found is None:
        return []
    known = {(each.source, each.entity) for each in found}
    new = [(table, source) for table, source in mirrored.items() if (source, table) not in known]
    read = {source: lanes.read(deployment, source) for source in {source for _, source in new}}
    return [
        table
        for table, source in new
        if table in read[source].tables and table not in read[source].incomplete
    ]


def _waiting(binding: RelationalBinding, found: list[Fill] | None) -> list[Republish]:
    """Give the first chunk of each fill that no chunk came of. A lane publishes a chunk once, however often it is asked."""
    return [
        Republish(source=each.source, entity=each.entity, fill=each.id, bindings=(binding.binding,))
        for each in found or ()
        if not each.is_done and not each.reached
    ]


def _announced(binding: RelationalBinding) -> list[Fill] | None:
    """Give the fills that a target knows; None where its tables are still to be made."""
    try:
        return targets.condition(binding).fills
    except ServiceUnavailable:
        return None

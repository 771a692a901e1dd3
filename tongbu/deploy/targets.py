"""Target tables, as the bindings need them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from schemas.declarations import Binding, RelationalBinding
from sink_writers import targets
from sink_writers.tables import Unfit
from tongbu.deploy import fills
from tongbu.deploy.deployment import Change, Deployment


def plan(deployment: Deployment) -> Iterator[Change]:
    """Give the statements that the targets still need; raise TongbuError for a change that is not additive."""
    for declared in deployment.bindings:
        binding = declared.value
        try:
            statements = targets.plan(binding, deployment.catalog)
        except Unfit as error:
            raise declared.error(error.path, error.message, error.remedy) from None
        if statements:
            perform = partial(_perform, deployment, binding, statements)
            detail = f"{len(statements)} statements{_to_be_filled(deployment, binding)}"
            yield Change("target", binding.binding, "alter", detail, perform)


def _to_be_filled(deployment: Deployment, binding: Binding) -> str:
    """Say what gives present rows the columns and child tables that are new to them: the running sink writer does not know them yet."""
    if not isinstance(binding, RelationalBinding):
        return ""
    _, grown = targets.lacking(binding, deployment.catalog)
    if not grown:
        return ""
    if binding.reads == "entities":  # no fill is made for it alone
        commands = " and ".join(f"`tongbu republish {entity}`" for entity in grown)
    else:
        options = " ".join(f"--entity {entity}" for entity in grown)
        commands = f"`tongbu resync {binding.binding} {options}`"
    return f"; for what is new in present rows start sink-{binding.binding} anew, then {commands}"


def _perform(deployment: Deployment, binding: Binding, statements: list[str]) -> None:
    if not isinstance(binding, RelationalBinding):
        targets.apply(binding, statements)
        return
    new, _ = targets.lacking(binding, deployment.catalog)
    if fills.needed(deployment, binding, new):
        # Before they are made: where a later statement is refused, they are there at the next apply, and no longer new.
        targets.apply(binding, targets.own(binding))
        fills.announce(deployment, binding, new)
        statements = targets.plan(binding, deployment.catalog)
    targets.apply(binding, statements)

"""Target tables, as the bindings need them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sink_writers import targets
from tongbu.deploy.deployment import Change, Deployment


def plan(deployment: Deployment) -> Iterator[Change]:
    """Give the statements that the targets still need; raise TongbuError for a change that is not additive."""
    for declared in deployment.bindings:
        binding = declared.value
        statements = targets.plan(binding, deployment.catalog)
        if statements:
            perform = partial(targets.apply, binding, deployment.catalog, statements)
            yield Change(
                "target", binding.binding, "alter", f"{len(statements)} statements", perform
            )

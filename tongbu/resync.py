"""`tongbu resync`: a target is filled again from the processor's state, while live transactions go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.console import Console

from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from sink_writers import bindings, targets
from sink_writers.fills import Fill
from tongbu.deploy import fills
from tongbu.deploy.commands import NamespaceOption, deployment
from tongbu.progress import Steps
from tongbu.stack.commands import InstanceName

_POLL_S = 0.5


def resync(
    binding: Annotated[str, typer.Argument(help="The binding, e.g. warehouse.")],
    entity: Annotated[
        list[str] | None, typer.Option("--entity", help="Only this entity; may be repeated.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Stay until the target is filled.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    instance: InstanceName = "default",
    namespace: NamespaceOption = "",
) -> None:
    """
    Fill a relational target again from the current state, beside the live traffic; rows left over are deleted.

    The target stays readable. Ending this command (Ctrl-C) does not end the fill; a second one starts it anew.

    Example: tongbu resync warehouse --entity customer --entity sales_order
    """
    subject = deployment(instance, namespace)
    chosen = bindings.load(binding)
    if not isinstance(chosen, RelationalBinding):
        raise TongbuError(
            f"{binding} is no relational target",
            "Only tables can be filled; effects are never repeated.",
        )
    begun = fills.start(
        subject, chosen, entity or [*chosen.entities, *fills.mirrored_in(subject, chosen)]
    )
    if wait:
        with Steps(Console(stderr=True)) as steps:
            _follow(chosen, begun, steps)
    found = [each for each in targets.condition(chosen).fills if each.id in begun]
    if as_json:
        typer.echo(orjson.dumps([asdict(each) for each in found]).decode())
        return
    for each in found:
        state = "filled" if each.is_done else "being filled"
        typer.echo(
            f"{binding}: {each.entity} from {each.source} {state}: {each.records:,} records, {each.deleted:,} deleted"
        )


def _follow(binding: RelationalBinding, begun: dict[str, str], steps: Steps) -> None:
    for fill, what in begun.items():
        with steps.step(what) as advance:
            shown = 0
            for state in _states(binding, fill):
                advance(state.records - shown)
                shown = state.records


def _states(binding: RelationalBinding, fill: str) -> Iterator[Fill]:
    """Give how far a fill is, again and again, until it is done."""
    while True:
        found = next((each for each in targets.condition(binding).fills if each.id == fill), None)
        if found is None:
            raise TongbuError(
                f"{binding.binding}: another resync has taken over",
                "Follow that one: `tongbu status`.",
            )
        yield found
        if found.is_done:
            return
        time.sleep(_POLL_S)

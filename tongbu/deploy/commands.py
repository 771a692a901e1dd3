"""`tongbu plan`, `tongbu apply`, `tongbu republish`."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from schemas import released
from schemas.control import Incarnation, Republish
from schemas.errors import TongbuError
from tongbu import answers
from tongbu.deploy import (
    additions,
    captured,
    check,
    connectors,
    fills,
    lanes,
    mirrors,
    schemas,
    targets,
    topics,
)
from tongbu.deploy.deployment import Change, Deployment
from tongbu.instance import Environment, Instance
from tongbu.stack.commands import InstanceName


class Only(StrEnum):
    """A part of the deployment."""

    topics = "topics"
    schemas = "schemas"
    targets = "targets"
    declarations = "declarations"
    connectors = "connectors"


Planner = Callable[[Deployment], Iterator[Change]]

#: In this order: a lane has its first record, schema and declarations before a connector may write to it, and tables that
#: mappings newly read are there before these mappings are in force; what none reads any more goes after that.
STEPS: tuple[tuple[Only, Planner], ...] = (
    (Only.topics, topics.plan),
    (Only.schemas, schemas.plan),
    (Only.topics, lanes.plan_lanes),
    (Only.declarations, lanes.plan_captured),
    (Only.targets, targets.plan),
    (Only.connectors, additions.plan),
    (Only.declarations, lanes.plan_declarations),
    (Only.declarations, lanes.plan_released),
    (Only.targets, fills.plan),
    (Only.connectors, connectors.plan),
)

OnlyOption = Annotated[Only | None, typer.Option(help="Only this part.")]
NamespaceOption = Annotated[
    str,
    typer.Option(
        envvar="TONGBU_NAMESPACE", help="Prefix of every topic name; connectors have none."
    ),
]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--declarations",
        help="Another folder with mappings/, rules/ and (where streams/ has it) mirrors/; an empty one declares nothing.",
        file_okay=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines.")]


def deployment(instance: str, namespace: str = "", declarations: Path | None = None) -> Deployment:
    """Give the deployment of an instance; what the process's environment says comes first, as in a container."""
    if "KAFKA_BOOTSTRAP" not in os.environ:
        os.environ.update(Instance.load(instance).environment())
    return Deployment(Environment(), namespace, declarations)


def plan(
    instance: InstanceName = "default",
    only: OnlyOption = None,
    namespace: NamespaceOption = "",
    declarations: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what `apply` would change: topics, schemas, lanes, target tables, declarations, connectors."""
    console = answers.console()
    found = [
        change
        for _, changes in steps(deployment(instance, namespace, declarations), only)
        for change in changes
    ]
    if as_json:
        rows = [
            {"kind": c.kind, "name": c.name, "action": c.action, "detail": c.detail} for c in found
        ]
        typer.echo(orjson.dumps(rows).decode())
        return
    for change in found:
        show(console, change)
    console.print(f"{len(found)} changes; `tongbu apply` makes them" if found else "nothing to do")


def apply(
    instance: InstanceName = "default",
    only: OnlyOption = None,
    namespace: NamespaceOption = "",
    declarations: FolderOption = None,
) -> None:
    """Make true what is declared; running it again changes nothing."""
    console = answers.console()
    count = perform(
        deployment(instance, namespace, declarations), only, lambda change: show(console, change)
    )
    console.print(f"{count} changes made" if count else "nothing to do")


def perform(subject: Deployment, only: Only | None, tell: Callable[[Change], None]) -> int:
    """Make every change, step by step: each is planned when what it builds on is there. Give how many."""
    count = 0
    for _, changes in steps(subject, only):
        for change in changes:
            tell(change)
            change.perform()
            count += 1
    return count


def steps(subject: Deployment, only: Only | None = None) -> Iterator[tuple[Only, Iterator[Change]]]:
    """Check the declarations, then give the steps with their changes."""
    verify(subject)
    if only in (None, Only.connectors):
        connectors.refuse_namespace(subject)
    for part, planner in STEPS:
        if only in (None, part):
            yield part, planner(subject)


def verify(subject: Deployment) -> None:
    """Check schemas, and all declarations against catalog and live sources; raise the first finding, with file and line."""
    for finding in released.check():
        raise finding
    mirrors.check(subject)
    check.check_sources(subject.sources, [*subject.mappings, *subject.rules], subject.bindings)
    check.check_effects(subject.catalog, subject.bindings)
    check.check_shapes(subject.catalog, subject.mappings, subject.rules)
    for name, source in subject.sources.items():
        dsn = subject.environment[f"{name.upper()}_DSN"]
        found = captured.read(name, source, dsn, subject.tables_of(name))
        tables = {table.qualified: table for table in found.tables}
        for mapping in subject.mappings:
            if mapping.value.source == name:
                entity = subject.catalog.entities[mapping.value.entity]
                check.check_columns(tables, mapping, entity, subject.rules)


def republish(
    entity: Annotated[str, typer.Argument(help="The entity, e.g. sales_order.")],
    instance: InstanceName = "default",
    namespace: NamespaceOption = "",
    keys: Annotated[
        list[str] | None,
        typer.Option("--keys", help="Only this canonical id, e.g. erp:SO1; several are possible."),
    ] = None,
) -> None:
    """Publish every record of an entity again in its current state, as snapshot, beside the live traffic."""
    subject = deployment(instance, namespace)
    sources = [each.value.source for each in subject.mappings if each.value.entity == entity]
    if not sources:
        known = ", ".join(sorted({each.value.entity for each in subject.mappings}))
        raise TongbuError(f"no source maps an entity `{entity}`", f"Known: {known}.")
    for key in keys or ():
        if key.partition(":")[0] not in sources:
            begins = ", ".join(f"`{source}:`" for source in sources)
            raise TongbuError(f"`{key}` is no id of {entity}", f"Its ids begin with {begins}.")
    for source in sources:
        ids = tuple(key for key in keys or () if key.startswith(f"{source}:"))
        if keys and not ids:
            continue
        lanes.require(subject, source)
        fill = f"republish-{uuid.uuid4().hex[:12]}"
        lanes.append(subject, Republish(source=source, entity=entity, fill=fill, ids=ids))
        what = f"what there is of {', '.join(ids)}" if ids else entity
        typer.echo(f"{source}: {what} is being published again ({fill})")
        if ids:
            typer.echo(
                "  Ids that the source does not have are passed over; `tongbu reconcile` names rows left in targets."
            )


def incarnation(
    source: Annotated[str, typer.Argument(help="The source whose server was replaced, e.g. erp.")],
    reason: Annotated[str, typer.Option(help="Why; it stays in the lane log.")],
    instance: InstanceName = "default",
    namespace: NamespaceOption = "",
) -> None:
    """
    Say that a source's server was replaced or restored on purpose, so that its log places may start anew.

    Without it a lane that meets a log place below the last one keeps what it reads, and waits for this. What the old
    server committed last may be missing in the new one: compare with `tongbu reconcile` afterwards.
    """
    subject = deployment(instance, namespace)
    if source not in subject.sources:
        raise TongbuError(f"there is no source `{source}`", f"Known: {', '.join(subject.sources)}.")
    lanes.require(subject, source)
    lanes.append(subject, Incarnation(source=source, reason=reason))
    typer.echo(f"{source}: log places may start anew ({reason})")


def show(console: Console, change: Change) -> None:
    """Print a change."""
    console.print(
        f"[bold]{change.action:<10}[/bold] {change.kind:<16} {change.name}  [dim]{change.detail}[/dim]",
        highlight=False,
    )

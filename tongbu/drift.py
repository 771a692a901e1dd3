"""`tongbu drift`: where live source, captured schema and mappings no longer fit together, and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import orjson
import typer

from schemas.captured import Column, Table
from schemas.errors import TongbuError
from tongbu import answers, dead_letters
from tongbu.deploy import captured, check, lanes
from tongbu.deploy.commands import JsonOption, NamespaceOption, deployment
from tongbu.deploy.deployment import Deployment
from tongbu.stack.commands import InstanceName

_QUARANTINED = (
    "Mend what is named below, then `tongbu apply`; or mend the source, then `tongbu dlq resume SOURCE TABLE`. "
    "Its changes are kept, and go on by themselves."
)


@dataclass(frozen=True)
class Difference:
    """One difference; `breaks` where a mapping can't go on with it as it is."""

    source: str
    table: str
    what: str
    remedy: str
    breaks: bool = False


def drift(
    instance: InstanceName = "default", namespace: NamespaceOption = "", as_json: JsonOption = False
) -> None:
    """
    Show what changed in the sources' tables since the last `apply`, and which mappings it breaks.

    Exit code 1 when a mapping is broken.
    """
    found = list(differences(deployment(instance, namespace)))
    if as_json:
        typer.echo(orjson.dumps([asdict(each) for each in found]).decode())
    else:
        console = answers.console()
        for each in found:
            style = "red" if each.breaks else "yellow"
            console.print(f"[{style}]{each.source}[/] {each.table}: {each.what}", highlight=False)
            console.print(f"  {each.remedy}", style="dim", highlight=False)
        if not found:
            console.print("sources, captured schemas and mappings fit together")
    if any(each.breaks for each in found):
        raise typer.Exit(1)


def differences(subject: Deployment) -> Iterator[Difference]:
    """Compare each source's live catalog with the captured schema in force and with the mappings; name quarantined tables."""
    for letter in dead_letters.read(subject.bootstrap, subject.registry):
        if table := dead_letters.table_of(letter):
            yield Difference(
                letter["source"],
                table,
                f"is quarantined: {letter['message']}",
                _QUARANTINED,
                breaks=True,
            )
    for name, source in subject.sources.items():
        dsn, live = subject.environment[f"{name.upper()}_DSN"], {}
        known = lanes.read(subject, name).captured
        before = {table.qualified: table for table in known.tables} if known else {}
        for table in subject.tables_of(name):
            try:
                live[table] = captured.read(name, source, dsn, [table]).tables[0]
            except TongbuError as error:
                yield Difference(name, table, error.message, error.remedy, breaks=True)
                continue
            if table in before:
                yield from (
                    Difference(name, table, what, remedy)
                    for what, remedy in changes(before[table], live[table])
                )
            else:
                yield Difference(name, table, "is not captured yet", "`tongbu apply` captures it.")
        for mapping in subject.mappings:
            value = mapping.value
            if value.source == name and set(value.tables) <= live.keys():
                try:
                    check.check_columns(live, mapping, subject.catalog.entities[value.entity])
                except TongbuError as error:
                    yield Difference(name, value.from_, error.message, error.remedy, breaks=True)


def changes(before: Table, now: Table) -> Iterator[tuple[str, str]]:
    """Give what changed in a table, in words, each with what to do."""
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in now.columns}
    gone, added = (
        [old[name] for name in old if name not in new],
        [new[name] for name in new if name not in old],
    )
    for column in gone:
        like = [each.name for each in added if each.type == column.type]
        renamed = f" If it was renamed to `{like[0]}`, map that." if len(like) == 1 else ""
        yield (
            f"column `{column.name}` is gone",
            f"Take it out of the mappings, then `tongbu apply`.{renamed}",
        )
    for column in added:
        yield (
            f"column `{column.name}` ({column.type}) is new",
            "Map it, or leave it; `tongbu apply` notes it.",
        )
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            what = f"column `{name}` was {_spelled(old[name])}, is {_spelled(new[name])}"
            yield what, "`tongbu apply` notes it; values are decoded by the new type from there on."
    if before.key != now.key:
        keys = f"({', '.join(before.key)}) to ({', '.join(now.key)})"
        yield (
            f"the primary key changed from {keys}",
            "`tongbu apply`, then snapshot the source again: images go by key.",
        )


def _spelled(column: Column) -> str:
    return column.type if column.nullable else f"{column.type} NOT NULL"

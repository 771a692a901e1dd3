"""`tongbu mirror`: tables of a source as they are, in a relational target, kept up to date."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.console import Console

from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from sink_writers import bindings
from tongbu import answers
from tongbu.deploy import commands as deploy
from tongbu.deploy import connectors, lanes, mirrors, snapshots
from tongbu.deploy.commands import FolderOption, JsonOption, NamespaceOption, deployment
from tongbu.deploy.deployment import Deployment
from tongbu.deploy.mirrors import Plan
from tongbu.progress import Steps
from tongbu.stack.commands import InstanceName


def mirror(
    source: Annotated[str, typer.Argument(help="The source, e.g. erp.")],
    patterns: Annotated[
        list[str],
        typer.Argument(help="Tables as 'schema.pattern*', in quotes; several are possible."),
    ],
    to: Annotated[str, typer.Option("--to", help="The binding of the target, e.g. warehouse.")],
    prefix: Annotated[str, typer.Option(help="Put before each table's name in the target.")] = "",
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="Leave out a column: schema.table.column; may be repeated."),
    ] = None,
    read: Annotated[
        bool,
        typer.Option(
            "--read/--no-read", help="Read the rows that newly captured tables have already."
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be mirrored and what not.")
    ] = False,
    instance: InstanceName = "default",
    namespace: NamespaceOption = "",
    declarations: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Mirror tables as they are: write the declaration, make it true (as `tongbu apply` does), and fill the target.

    Tables that are captured already are filled from the processor's state; newly captured ones are read at the source, once,
    beside the live traffic (as `tongbu snapshot` does).

    Tables that can't be captured without harm or loss are named with what would help, and left alone; the others go
    on. Exit code 1 when there are such. Running it again adds what is new, and goes on
    where it was ended. The rows are those of the source, the
    columns' types the same in the same family of databases, else the closest that is exact.

    Example: tongbu mirror erp 'public.Ap_*' 'public.GL_*' --to warehouse --prefix u8_
    """
    began = time.monotonic()
    subject = deployment(instance, namespace, declarations)
    connectors.refuse_namespace(subject)
    binding = _binding(subject, source, to)
    left_out = _left_out(without or [])
    found = mirrors.plan(subject, source, patterns, binding, prefix, left_out)
    console = Console(stderr=True) if as_json else answers.console()
    _show(console, found)
    new = {name: left_out[name] for name in left_out if name in found.tables}
    if dry_run:
        # Otherwise what `apply` shows says so.
        for said in lanes.left_out_elsewhere(mirrors.after(subject, source, to, found, new)):
            console.print(said, highlight=False, markup=False)
    elif found.tables or found.narrowed:
        file = mirrors.write(subject, source, to, found, new)
        console.print(f"declared in {file}", highlight=False)
    if not dry_run and (found.tables or found.known):
        now = deployment(instance, namespace, declarations)
        deploy.perform(now, None, lambda change: deploy.show(console, change))
        if read:
            _read(now, source, found, console)
    console.print(
        f"{len(found.tables)} tables {'would be ' if dry_run else ''}mirrored to {to}, "
        f"{len(found.known)} were already, {len(found.refused)} refused, in {time.monotonic() - began:.1f} s",
        highlight=False,
    )
    if as_json:
        typer.echo(orjson.dumps(asdict(found)).decode())
    if found.refused:
        raise typer.Exit(1)


def _read(subject: Deployment, source: str, found: Plan, console: Console) -> None:
    """Read the tables that are captured and were never read; an earlier run may have been ended before."""
    incomplete = lanes.read(subject, source).incomplete
    tables = sorted(incomplete & {*found.tables, *found.known})
    if not tables:
        return
    with Steps(console) as steps:
        taken = snapshots.take(subject, source, tables, steps)
    console.print(f"{taken.rows:,} rows read in {taken.seconds} s", highlight=False)


def _binding(subject: Deployment, source: str, to: str) -> RelationalBinding:
    if source not in subject.sources:
        raise TongbuError(f"there is no source `{source}`", f"Known: {', '.join(subject.sources)}.")
    found = bindings.load(to)
    if not isinstance(found, RelationalBinding):
        raise TongbuError(f"{to} is no relational target", "Only tables can be mirrored to.")
    if source not in found.sources:
        raise TongbuError(f"binding {to} does not read {source}", f"Add {source} to its `sources`.")
    return found


def _left_out(columns: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in columns:
        table, _, column = each.rpartition(".")
        if "." not in table:
            raise TongbuError(f"--without {each}: not a column", "Write schema.table.column.")
        found.setdefault(table, []).append(column)
    return found


def _show(console: Console, found: Plan) -> None:
    for table, name in found.tables.items():
        console.print(f"[green]mirror[/]   {table} -> {name}", highlight=False)
    for table, columns in found.narrowed.items():
        console.print(
            f"[yellow]leave out[/] {table}: {', '.join(columns)}; dropped in every target of the table with its next change",
            highlight=False,
        )
    for each in found.refused:
        console.print(f"[red]refused[/]  {each.table}: {each.why}", highlight=False)
        console.print(f"         {each.remedy}", style="dim", highlight=False)
    sql = dict.fromkeys(statement for each in found.refused for statement in each.sql)
    if sql:
        console.print("For the source's DBA; then run this command again:")
        for statement in sql:
            console.print(f"  {statement}", highlight=False, markup=False, soft_wrap=True)

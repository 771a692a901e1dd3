"""`tongbu snapshot`: tables of a source are read again, while capture streams on and nothing is written at the source."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.console import Console

from schemas.errors import TongbuError
from tongbu import dead_letters
from tongbu.deploy.commands import JsonOption, NamespaceOption, deployment
from tongbu.deploy.deployment import Deployment
from tongbu.deploy.snapshots import take
from tongbu.progress import Steps
from tongbu.stack.commands import InstanceName


def snapshot(
    source: Annotated[str, typer.Argument(help="The source, e.g. erp.")],
    tables: Annotated[
        list[str], typer.Argument(metavar="TABLE...", help="Its tables, e.g. public.Customer.")
    ],
    instance: InstanceName = "default",
    namespace: NamespaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """
    Read tables of a source again, beside the live traffic: what was missed is filled in, what is gone is deleted.

    A connector of its own reads the tables in one transaction and goes; the source's connector streams on. Then what reads
    the tables is published again, as snapshot: no flow and no webhook fires. Ending this command (Ctrl-C) does not end the
    snapshot; run it again to follow it.

    Example: tongbu snapshot erp public.SO_SOMain public.SO_SODetails
    """
    subject = deployment(instance, namespace)
    _check_quarantine(subject, source, tables)
    with Steps(Console(stderr=True)) as steps:
        taken = take(subject, source, tables, steps)
    _check_quarantine(subject, source, tables)
    if as_json:
        typer.echo(orjson.dumps(asdict(taken)).decode())
        return
    typer.echo(
        f"{source}: {taken.rows:,} rows of {', '.join(taken.tables)} in {taken.seconds:.1f} s"
    )
    if taken.entities:
        typer.echo(f"being published again: {', '.join(taken.entities)}")


def _check_quarantine(subject: Deployment, source: str, tables: list[str]) -> None:
    """Raise TongbuError where a table is quarantined: its key may be what is not known, so nothing of it can be swept."""
    for letter in dead_letters.read(subject.bootstrap, subject.registry):
        table = dead_letters.table_of(letter)
        if letter["source"] == source and table in tables:
            raise TongbuError(
                f"source {source}: `{table}` is quarantined, so a snapshot can't tell which of its rows are gone: {letter['message']}",
                "Mend it first (`tongbu drift` says how), or let it go on by `tongbu dlq resume "
                f"{source} {table}`; then take the snapshot.",
            )

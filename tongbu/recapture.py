"""`tongbu recapture SOURCE`: after a loss, capture starts anew with a snapshot of all mapped tables."""

from __future__ import annotations

import time
from typing import Annotated, Any

import psycopg
import typer

from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.deploy import connectors
from tongbu.deploy.commands import NamespaceOption, deployment
from tongbu.sources import offsets
from tongbu.stack.commands import InstanceName

_SECONDS = 60


def recapture(
    source: Annotated[str, typer.Argument(help="The source, e.g. erp.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    instance: InstanceName = "default",
    namespace: NamespaceOption = "",
) -> None:
    """
    Start capture of a source anew: forget where it stood, snapshot all its mapped tables, go on from there.

    For a lost slot or a purged binlog (`tongbu doctor` names the range that is lost). Targets keep what they have; the
    snapshot brings every current row, and at its end what was deleted meanwhile is deleted in the targets, too.
    """
    subject = deployment(instance, namespace)
    if source not in subject.sources:
        raise TongbuError(f"there is no source `{source}`", f"Known: {', '.join(subject.sources)}.")
    if connectors.uncaptured(subject, source) is None:
        raise TongbuError(
            f"source {source} has no connector yet", "`tongbu apply` makes it; it begins anew."
        )
    found = offsets.losses(subject, source)
    typer.echo(
        "\n".join(f"{source}: {each.what}" for each in found) or f"{source}: nothing is lost"
    )
    tables = subject.tables_of(source)
    typer.echo(f"{len(tables)} tables will be read again: {', '.join(tables)}")
    if not yes:
        typer.confirm("Go on?", abort=True)
    connectors.reset(subject, source)
    if subject.sources[source].database == "postgresql":
        slot = offsets.slot_name(subject, source)
        with offsets.asking(subject, source) as pg:
            drop_slot(pg, slot)
    connectors.resume(subject, source)
    typer.echo(
        f"{source}: captured anew; the snapshot runs. `tongbu status` shows the lane, `tongbu reconcile` compares."
    )


def drop_slot(pg: psycopg.Connection[Any], slot: str) -> None:
    """Drop capture's own slot, which is of no use any more; wait until its last reader is gone."""
    end = time.monotonic() + _SECONDS
    asked = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
    while row := pg.execute(asked, [slot]).fetchone():
        if not row[0]:
            pg.execute("SELECT pg_drop_replication_slot(%s)", [slot])
            return
        if time.monotonic() > end:
            raise ServiceUnavailable(f"slot {slot} is still read by somebody", "Try again.")
        time.sleep(0.3)

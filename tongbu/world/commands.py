"""`tongbu load`."""

from __future__ import annotations

from typing import Annotated

import orjson
import psycopg
import pymysql
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.errors import ServiceUnavailable
from tongbu.instance import Environment, complete_environment
from tongbu.stack.commands import InstanceName


def load(
    rate: Annotated[float, typer.Option(min=0.1, help="Business transactions per second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 30.0,
    seed: Annotated[
        int, typer.Option(help="What happens is the same for the same seed and data.")
    ] = 0,
    transactions: Annotated[
        int | None, typer.Option(min=1, help="How many, instead of how long.")
    ] = None,
    instance: InstanceName = "default",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary for machines.")
    ] = False,
) -> None:
    """
    Play business in the ERP and the OA: orders, approvals, shipments, stock, trips.

    Example: tongbu load --rate 100 --seconds 20
    """
    from tongbu.world.load import play

    complete_environment(instance)
    count = transactions or round(rate * seconds)
    columns = (TextColumn("business"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("load", total=count)
        try:
            summary = play(
                Environment(),
                rate,
                count,
                seed,
                lambda done: progress.update(task, completed=done),
            )
        except (psycopg.OperationalError, pymysql.err.OperationalError) as error:
            raise ServiceUnavailable(
                f"a business system does not answer: {str(error).splitlines()[0]}",
                "Is it up? `tongbu status` tells.",
            ) from error
    if as_json:
        typer.echo(orjson.dumps(summary.as_dict()).decode())
        return
    typer.echo(
        f"{summary.transactions} transactions ({summary.rows} rows) in {summary.seconds:.1f} s, "
        f"{summary.transactions / max(summary.seconds, 0.001):.0f}/s; the latest start was {summary.late_ms_max:.0f} ms late"
    )
    typer.echo(", ".join(f"{kind} {count}" for kind, count in summary.kinds.items()))

"""`tongbu reconcile|checksum|record|replay|demo` on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from schemas.errors import TongbuError
from tongbu import answers
from tongbu.deploy.commands import FolderOption
from tongbu.instance import Environment, Instance, complete_environment, run_folder
from tongbu.progress import Steps
from tongbu.stack.commands import InstanceName

if TYPE_CHECKING:
    from tongbu.lane_files import Recorded

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def reconcile(
    instance: InstanceName = "default",
    declarations: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """
    Compare every mapped row of the sources, and every mirrored table, with every target; meant for a quiet moment.

    Exit code 1 on a difference.
    """
    from tongbu import reconcile as reconciliation
    from tongbu import reports
    from tongbu.deploy.deployment import Deployment

    subject = Deployment(_environment(instance), declarations=declarations)
    with Steps(Console(stderr=True)) as steps:
        declared = reconciliation.in_force(subject)
        report = reconciliation.reconcile(subject, declared, steps)
    if as_json:
        _print_json(report.as_json())
    else:
        reports.show_parity(report, answers.console())
    if not report.holds:
        raise typer.Exit(1)


def checksum(instance: InstanceName = "default", as_json: AsJson = False) -> None:
    """Print rows and checksum of each relational target: over mapped columns and versions, whatever the order."""
    from schemas.catalog import Catalog
    from tongbu.checksum import of_target
    from tongbu.reconcile import relational_bindings

    _environment(instance)
    catalog = Catalog.load()
    found = {each.binding: of_target(each, catalog).as_json() for each in relational_bindings()}
    if as_json:
        _print_json({"targets": found})
    else:
        _show_contents(found)


def record(
    file: Annotated[Path, typer.Argument(help="Where to write: JSON lines, zstd.")],
    instance: InstanceName = "default",
) -> None:
    """
    Write the lane logs to a file, from which `tongbu replay` runs them anywhere.

    What was in force where a log begins now, as its retention has passed what came before, is taken from the processor's checkpoints.
    """
    from schemas.declarations import load_sources
    from tongbu import lane_files, topics

    bootstrap = _environment(instance)["KAFKA_BOOTSTRAP"]
    names = [f"cdc.{source}" for source in load_sources()]
    total = sum(topics.ends(bootstrap, names).values()) - sum(
        topics.starts(bootstrap, names).values()
    )
    with Steps(Console(stderr=True)) as steps, steps.step("recording", total) as advance:
        records = (
            each
            for name in names
            for each in _live(bootstrap, name, on_record=lambda _: advance(1))
        )
        count = lane_files.write(file, records)
    answers.console().print(
        f"{count:,} records, {file.stat().st_size / 1e6:.1f} MB: {file}", highlight=False
    )


def replay(
    file: Annotated[Path | None, typer.Argument(help="A recording.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Instead of a file: the live lane logs from this time on."),
    ] = None,
    declarations: Annotated[
        Path | None, typer.Option(help="Folder with mappings/ and rules/ to try instead.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep its topics, databases and files.")
    ] = False,
    instance: InstanceName = "default",
) -> None:
    """Run a recording, or the live logs since a time, through a pipeline of its own; end with its targets' checksums."""
    from tongbu.deploy.deployment import Deployment
    from tongbu.reconcile import relational_bindings
    from tongbu.replay import Replay
    from tongbu.replay_log import Tried
    from tongbu.reports import write_report

    if (file is None) == (since is None):
        raise TongbuError("say what to replay", "Give a FILE, or --since TIME.")
    environment = _environment(instance)
    override = None
    if declarations is not None:
        override = Tried(Deployment(environment, declarations=declarations))
    run = Replay(environment, relational_bindings(), keep=keep)
    with Steps(Console(stderr=True)) as steps:
        records = _records(file, since, environment["KAFKA_BOOTSTRAP"])
        outcome = run.run(records, _admins(instance), steps, override)
    report = run_folder() / "reports/replay.json"
    write_report(report, outcome.as_json())
    _show_contents(outcome.as_json()["targets"])
    answers.console().print(f"{outcome.records:,} records; report: {report}", highlight=False)
    if keep:
        answers.console().print(
            f"kept: topics {run.namespace}*, databases replay_{run.id}_*, {run.folder}"
        )


def demo(instance: InstanceName = "default") -> None:
    """Show everything, from nothing: stack, snapshot, 2,000 transactions at 100/s, parity, latency, one order's way."""
    from tongbu.demo import Demo

    if not Demo(Instance.load(instance), Console()).run():
        raise typer.Exit(1)


def _records(file: Path | None, since: datetime | None, bootstrap: str) -> Iterator[Recorded]:
    from schemas.declarations import load_sources
    from tongbu import lane_files, replay_log, standing

    if file is not None:
        yield from standing.checked(lane_files.read(file))
    elif since is not None:
        moment = int(since.astimezone().timestamp() * 1000)
        for source in load_sources():
            yield from replay_log.since(_live(bootstrap, f"cdc.{source}"), moment)


def _live(
    bootstrap: str, topic: str, on_record: Callable[[int], Any] | None = None
) -> Iterator[Recorded]:
    """Give a lane log as it is now, with what is in force in it."""
    from streams.settings import Settings
    from tongbu import lane_files, standing

    log = lane_files.from_topic(bootstrap, topic, on_record=on_record)
    return standing.completed(log, standing.of_checkpoints(Settings()))


def _environment(instance: str) -> dict[str, str]:
    complete_environment(instance)
    return Environment()


def _admins(instance: str) -> dict[str, str]:
    """Give the DSNs of those who may create databases, by kind of binding."""
    from tongbu.replay_targets import ADMINS

    if "POSTGRES_ADMIN_DSN" in os.environ:
        return {kind: os.environ[name] for kind, name in ADMINS.items() if name in os.environ}
    local = Instance.load(instance)
    return {
        "postgresql": local.postgres_admin_dsn(),
        "mariadb": local.mariadb_admin_dsn(),
        "mysql": local.mysql_admin_dsn(),
    }


def _show_contents(found: dict[str, dict[str, Any]]) -> None:
    table = Table("target", "rows", "checksum", box=None, header_style="bold")
    for name, content in found.items():
        table.add_row(name, f"{content['rows']:,}", content["checksum"])
    answers.console().print(table)


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))

"""
The demo: everything from nothing, in front of your eyes.

Stack, deployment, initial snapshot, a load at 100 transactions per second; then the proof (every row of both
sources against every target, every transaction accounted for) and the figures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from schemas.codec import Decoder
from schemas.declarations import Binding, load_bindings
from schemas.errors import ServiceUnavailable
from schemas.registry import Registry
from sink_writers import bindings
from streams.in_force import InForce
from tongbu import demo_sample, reconcile, topics
from tongbu.accounting import TRANSACTIONS, Account
from tongbu.dead_letters import open_letters
from tongbu.demo_load import Measured, warm_up
from tongbu.demo_view import LoadView
from tongbu.deploy import commands as deploy
from tongbu.deploy.deployment import Deployment
from tongbu.instance import Instance, run_folder
from tongbu.latency import STAGES, by_stage
from tongbu.progress import Steps
from tongbu.reports import show_parity, write_report
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

RATE, SECONDS, WARM_UP_SECONDS = 100, 22, 40

#: The target that takes every entity of both sources.
WHOLE = "warehouse"
ORDER = "sales_order"
_SNAPSHOT_SECONDS = 180.0


class Demo:
    """A run of the demo on an instance; it leaves the stack running."""

    def __init__(self, instance: Instance, console: Console) -> None:
        os.environ.update(instance.environment())
        self._instance = instance
        self._console = console
        self._environment = dict(os.environ)
        self._bootstrap = self._environment["KAFKA_BOOTSTRAP"]
        self._registry = Registry(self._environment["REGISTRY_URL"])
        self._bindings: list[Binding] = [each.value for each in load_bindings(bindings.FOLDER)]

    def run(self) -> bool:
        """Run all of it; tell whether everything arrived, once, and is as it should be."""
        self._title("Starting databases, Kafka, Connect, registry, processor and sink writers")
        with Progress(self._console) as progress:
            lifecycle.up(self._instance, progress)
        subject = Deployment(self._environment)
        self._title("Deploying topics, schemas, connectors, tables, mappings and rules")
        with self._steps() as steps, steps.step("changes") as advance:
            deploy.perform(subject, None, lambda _: advance(1))
        self._title("Publishing the initial snapshot")
        self._wait_for_snapshot()
        measured = self._measure()
        self._title("Comparing every mapped row of both sources with every target")
        declared = reconcile.in_force(subject)
        with self._steps() as steps:
            parity = reconcile.reconcile(subject, declared, steps)
        show_parity(parity, self._console)
        return self._conclude(measured, parity, declared)

    def _title(self, text: str) -> None:
        self._console.print(f"\n[bold cyan]{text}[/]", highlight=False)

    def _steps(self) -> AbstractContextManager[Steps]:
        return Steps(self._console)

    def _wait_for_snapshot(self) -> None:
        status = Path(self._environment["TONGBU_DATA"]) / "processor.json"
        sources = list(Deployment(self._environment).sources)

        def published() -> bool:
            lanes = orjson.loads(status.read_bytes()) if status.exists() else {}
            return all(lanes.get(source, {}).get("snapshot_published") for source in sources)

        def applied() -> bool:
            groups = [f"sink-{each.binding}" for each in self._bindings]
            return not any(topics.backlog(self._bootstrap, each, [TRANSACTIONS]) for each in groups)

        with self._steps() as steps:
            for what, is_done in (("published", published), ("in all targets", applied)):
                with steps.step(what):
                    _wait(is_done, what)

    def _measure(self) -> Measured:
        seed = int(time.time())
        self._title(
            f"Business at {RATE} transactions per second: first {WARM_UP_SECONDS} s to warm up"
        )
        warm_up(self._environment, RATE, WARM_UP_SECONDS, seed)
        self._title(f"Business at {RATE} transactions per second for {SECONDS} s, measured")
        measured = Measured(self._environment, self._bindings)
        with LoadView(self._console) as view:
            measured.run(RATE, SECONDS, seed + 1, view)
        return measured

    def _conclude(
        self, measured: Measured, parity: reconcile.Report, declared: Mapping[str, InForce]
    ) -> bool:
        account = measured.account(WHOLE)
        missing = measured.webhooks_missing()
        stages = {
            each.binding: by_stage(measured.passages(each.binding)) for each in self._bindings
        }
        self._show_account(account, missing)
        self._show_latency(stages)
        self._show_sample(measured, declared)
        letters = len(open_letters(self._bootstrap, self._registry))
        report = run_folder() / "reports/demo.json"
        write_report(report, _report(measured, account, letters, parity, stages))
        good = parity.holds and not account.lost and not missing
        self._console.print(
            _HOW_TO_LOOK.format(report=report, warm_up=WARM_UP_SECONDS), highlight=False
        )
        verdict = "[bold green]Everything arrived." if good else "[bold red]Something is missing."
        self._console.print(verdict)
        return good

    def _show_account(self, account: Account, missing: int) -> None:
        self._title("What became of every transaction")
        table = Table.grid(padding=(0, 2))
        table.add_row("committed in the sources", f"{account.committed:,}")
        table.add_row("applied in the warehouse, whole", f"{account.applied:,}")
        table.add_row("changed nothing that is mapped", f"{account.nothing_to_tell:,}")
        table.add_row("lost", f"{account.lost:,}", style="red" if account.lost else "green")
        table.add_row("webhooks missing", f"{missing:,}", style="red" if missing else "green")
        self._console.print(table)

    def _show_latency(self, stages: Mapping[str, dict[str, dict[str, float]]]) -> None:
        self._title("From the source's commit to the target's, in milliseconds")
        names = ("p50", "p95", "p99", "p999", "max")
        table = Table("target", "stage", *names, box=None, header_style="bold")
        for target, found in stages.items():
            for stage in STAGES:
                style = "bold" if stage == "total" else "dim"
                figures = [f"{found[stage][name]:.1f}" if found[stage] else "" for name in names]
                table.add_row(target if stage == "capture" else "", stage, *figures, style=style)
        self._console.print(table)

    def _show_sample(self, measured: Measured, declared: Mapping[str, InForce]) -> None:
        self._title("One order, from the ERP to the targets")
        key = measured.sample_order()
        plan = next(
            (each.entities[ORDER] for each in declared.values() if ORDER in each.entities), None
        )
        if key is None or plan is None:
            return
        value = measured.followed.latest[plan.writer.topic, key]
        demo_sample.show(
            self._console,
            plan,
            self._environment["ERP_DSN"],
            Decoder(self._registry.schema).decode(value),
            [each for each in reconcile.relational_bindings() if ORDER in each.entities],
        )


def _wait(is_done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _SNAPSHOT_SECONDS
    while not is_done():
        if time.monotonic() > end:
            raise ServiceUnavailable(
                f"the initial snapshot is not {what} after {_SNAPSHOT_SECONDS:.0f} s",
                "`tongbu status` tells which part does not work.",
            )
        time.sleep(0.2)


def _report(
    measured: Measured,
    account: Account,
    letters: int,
    parity: reconcile.Report,
    stages: Mapping[str, dict[str, dict[str, float]]],
) -> dict[str, Any]:
    return {
        "transactions": account.committed,
        "changes": measured.followed.changes,
        "applied": account.applied,
        "nothing_to_tell": account.nothing_to_tell,
        "lost": account.lost,
        "dead_letters": letters,
        "parity": {
            name: {"rows": each.rows, "mismatches": each.mismatches}
            for name, each in parity.targets.items()
        },
        "latency_ms": {target: found["total"] for target, found in stages.items()},
        "latency_ms_by_stage": stages,
    }


_HOW_TO_LOOK = """
Measured from commit to commit by one clock, without the {warm_up} s of warming up. Captured is the broker's
time, which has whole milliseconds.

Look further:
  tongbu status                     how every part is
  tongbu tail sales_order           canonical records as they come
  tongbu load --rate 50 --seconds 60
  tongbu reconcile                  the comparison above, at any time
  make record FILE=log.zst && make replay FILE=log.zst
  make down                         stop everything
Figures for programs: {report}
"""

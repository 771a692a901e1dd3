"""A whole run of the side-by-side harness: stack, systems, rounds, parity, report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import report
from bench.connect import Connect
from bench.peer import DEFAULT, TUNED, Peer
from bench.rounds import Measured, Plan, Rounds
from bench.source import Erp
from bench.system import System
from bench.tongbu_system import Tongbu
from schemas.errors import TongbuError
from tongbu.instance import Instance, run_folder
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

PEER = "debezium-jdbc"


def perform(
    instance_name: str, plan: Plan, *, only: str = "", full: bool = False, keep: bool = False
) -> None:
    """Measure, compare, write the report; raise TongbuError where something does not work or rows differ."""
    console = Console()
    instance = Instance.load(instance_name)
    environment = instance.environment()
    os.environ.update(environment)
    try:
        with Progress(console) as progress:
            lifecycle.up(instance, progress, with_pipeline=False)
        erp = Erp(environment["ERP_DSN"])
        systems = _systems(instance, environment, only, full, console)
        measured = Rounds(plan, erp, systems, instance.folder, console.print).run()
        differences = _compare(systems, console)
        erp.close()
    finally:
        if not keep:
            lifecycle.down(instance, purge=True)
    _conclude(plan, measured, systems, differences, console)


def _systems(
    instance: Instance, environment: dict[str, str], only: str, full: bool, console: Console
) -> list[System]:
    connect = Connect(environment["CONNECT_URL"])
    console.print("deploying Tongbu, and waiting for its snapshot")
    ours = Tongbu(instance, connect, environment)
    ours.start()
    ours.await_snapshot()
    ours.stop()
    if only == ours.name:
        return [ours]
    console.print("configuring the peer")
    peers = [Peer(PEER, instance, connect, TUNED)]
    if full:
        peers.append(Peer(f"{PEER}-default", instance, connect, DEFAULT))
    for peer in peers:
        peer.stop()
    return [*peers] if only == PEER else [ours, *peers]


def _compare(systems: Sequence[System], console: Console) -> dict[str, str]:
    found = {system.name: system.difference() for system in systems}
    for name, difference in found.items():
        console.print(f"{name}: {difference or 'every row is equal'}", highlight=False)
    return found


def _conclude(
    plan: Plan,
    measured: Measured,
    systems: Sequence[System],
    differences: dict[str, str],
    console: Console,
) -> None:
    content = report.content(plan, measured, systems, differences, PEER)
    folder = Path(run_folder()) / "reports"
    report.write(folder, content, measured)
    console.print(report.markdown(content), highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {folder / 'bench.json'}", highlight=False)
    if wrong := {name: text for name, text in differences.items() if text}:
        raise TongbuError(f"source and target differ: {wrong}", "No figure of this run counts.")

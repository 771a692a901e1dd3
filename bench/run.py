"""A whole run of the side-by-side harness: stack, systems, rounds, parity, report."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import figures, report, scaling
from bench.connect import Connect
from bench.other_paths import PATHS, deploy_and_fill
from bench.peer import DEFAULT, TUNED, Peer
from bench.rounds import OTHER_PATHS, Measured, Plan, Rounds
from bench.source import Erp, Source
from bench.system import System, administrator
from bench.tongbu_system import Tongbu
from schemas.errors import TongbuError
from tongbu.instance import Instance, run_folder
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

OURS, PEER = "tongbu", "debezium-jdbc"


def perform(
    instance_name: str,
    plan: Plan,
    *,
    backlog: int = 0,
    only: str = "",
    full: bool = False,
    path: str = "",
    keep: bool = False,
) -> None:
    """
    Measure, compare, write the report; raise TongbuError where something does not work or rows differ.

    `backlog`, where given, is the size of it on every path.
    """
    if path and path not in (figures.PATH, *PATHS):
        raise TongbuError(f"unknown path: {path}", f"Known: {', '.join((figures.PATH, *PATHS))}.")
    if only and only not in (OURS, PEER):
        raise TongbuError(f"unknown system: {only}", f"Known: {OURS}, {PEER}.")
    console, began = Console(), time.monotonic()
    measured = Measured()
    systems: list[System] = []
    differences: dict[str, str] = {}
    others = replace(OTHER_PATHS, rounds=plan.rounds, seconds=plan.seconds)
    if backlog:
        plan, others = (replace(each, backlog_rows=backlog) for each in (plan, others))
    paths = [path] if path else [figures.PATH, *(PATHS if full else ())]
    for name in paths:
        console.print(f"from {name.replace('-', ' to ')}")
        own = plan if name == figures.PATH else others
        ran, found, differing = _measure(instance_name, name, own, only, full, console, keep=keep)
        measured.add(ran)
        systems += [each for each in found if each.name not in {s.name for s in systems}]
        differences |= {f"{key}, {name}": text for key, text in differing.items()}
    command = report.command(others if path in PATHS else plan, only, path)
    content = report.content(plan, command, measured, systems, differences, PEER)
    if full:
        console.print("the processor alone, as things grow")
        content["scaling"] = scaling.run(scaling.CASES, console.print)
    content["seconds"] = round(time.monotonic() - began)
    _conclude(content, measured, console)


def _measure(
    instance_name: str,
    path: str,
    plan: Plan,
    only: str,
    full: bool,
    console: Console,
    *,
    keep: bool,
) -> tuple[Measured, Sequence[System], dict[str, str]]:
    """Measure one path on a stack of its own; give what was measured, the systems, and how their rows differ."""
    instance = Instance.load(instance_name)
    environment = instance.environment()
    os.environ.update(environment)
    try:
        with Progress(console) as progress:
            lifecycle.up(instance, progress, with_pipeline=False)
        if path == figures.PATH:
            source: Source = Erp(environment["ERP_DSN"])
            systems: Sequence[System] = _systems(instance, environment, only, full, console)
        else:
            make, sink = PATHS[path]
            deploy_and_fill(instance, environment, [sink])
            source, both = make(instance, environment)
            systems = [each for each in both if only in ("", each.name)]
        settle = partial(_settle, instance)
        rounds = Rounds(plan, source, systems, instance.folder, settle, console.print, path)
        measured = rounds.run()
        differences = _compare(systems, console)
        source.close()
    finally:
        if not keep:
            lifecycle.down(instance, purge=True)
    return measured, systems, differences


def _settle(instance: Instance) -> None:
    """
    Do now what servers do some time after a backlog, in whichever system's load that falls.

    PostgreSQL's autovacuum analyses the tables within a minute, with a core of its own for as long as that takes. And the kernel writes out
    60 to 90 MB at once when they are 30 s old: every commit waits 0.1 to 0.5 s for that (docs/performance.md, stalls).
    """
    with administrator(instance, "postgres") as server:
        databases = server.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
    for (database,) in databases:
        with administrator(instance, database) as connection:
            connection.execute("VACUUM (ANALYZE)")
    os.sync()


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


def _conclude(content: dict[str, Any], measured: Measured, console: Console) -> None:
    folder = Path(run_folder()) / "reports"
    report.write(folder, content, measured)
    console.print(report.markdown(content), highlight=False, markup=False, soft_wrap=True)
    console.print(f"{content['seconds']} s; report: {folder / 'bench.json'}", highlight=False)
    if wrong := {name: text for name, text in content["parity"].items() if text != "equal"}:
        raise TongbuError(f"source and target differ: {wrong}", "No figure of this run counts.")

"""Rounds, interleaved: each side drains the same backlog, then takes the same load; medians and ratios."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from bench.alone.drain import drained
from bench.alone.orders import ROWS
from bench.alone.side import COMMANDS, Side
from tongbu.instance import Instance
from tongbu.latency import percentiles
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does; loads in row changes per second."""

    rounds: int = 3
    backlog: int = 20_000
    changes_per_second: tuple[int, ...] = (500, 1200)
    seconds: float = 8.0


@dataclass(slots=True)
class Found:
    """What came out of one side, one value per round: the backlog, and per load latencies and CPU."""

    rows_per_s: list[float] = field(default_factory=list)
    us_per_transaction: list[float] = field(default_factory=list)
    loads: dict[int, list[dict[str, float]]] = field(default_factory=dict)


def compare(instance_name: str, plan: Plan, console: Console, *, keep: bool) -> dict[str, Any]:
    """Run both sides on a broker of their own; give the report."""
    instance = Instance.load(instance_name)
    bootstrap = instance.environment()["KAFKA_BOOTSTRAP"]
    try:
        with Progress(console) as progress:
            lifecycle.up_broker(instance, progress)
        with TemporaryDirectory(prefix="tongbu-alone-") as folder:
            sides = [Side(name, bootstrap, Path(folder)) for name in COMMANDS]
            found = {side.name: Found() for side in sides}
            for number in range(plan.rounds + 1):
                for side in sides if number % 2 else reversed(sides):
                    _round(
                        side,
                        bootstrap,
                        plan,
                        found[side.name] if number else Found(),
                        console.print,
                    )
    finally:
        if not keep:
            lifecycle.down(instance, purge=True)
    return report(found)


def _round(
    side: Side, bootstrap: str, plan: Plan, found: Found, tell: Callable[[str], None]
) -> None:
    done = side.done()
    side.writer.backlog(plan.backlog)
    side.start()
    try:
        rate, cpu = _drain(side, done, plan.backlog)
        found.rows_per_s.append(rate)
        found.us_per_transaction.append(cpu)
        tell(f"{side.name}: {rate:,.0f} rows/s, {cpu:.0f} us CPU per transaction")
        for changes in plan.changes_per_second:
            load = _load(side, bootstrap, changes / ROWS, plan.seconds)
            found.loads.setdefault(changes, []).append(load)
            tell(f"{side.name}: {changes} changes/s: {load}")
    finally:
        side.stop()


def _drain(side: Side, done: int, backlog: int) -> tuple[float, float]:
    """Give rows per second and CPU microseconds per transaction, from one share of the backlog to another."""
    clocks = drained(side.done, done, backlog, lambda: (time.monotonic(), side.cpu()))
    side.await_output(done + backlog)
    (first, (began, before)), (last, (ended, after)) = clocks
    count = last - first
    return count * ROWS / (ended - began), (after - before) / count * 1e6


def _load(side: Side, bootstrap: str, rate: float, seconds: float) -> dict[str, float]:
    """Give the percentiles from input append to output consumed in ms, and the CPU per transaction."""
    done, count = side.done(), int(rate * seconds)
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "alone", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(side.output, 0, done)])
    consumer.poll(0.5)  # connected before the first comes
    arrived: list[float] = []
    reader = threading.Thread(target=_read, args=(consumer, count, arrived), daemon=True)
    reader.start()
    before = side.cpu()
    due = side.writer.load(rate, seconds)
    reader.join(30)
    used = side.cpu() - before
    consumer.close()
    if len(arrived) < count:
        raise TimeoutError(f"{side.name}: {len(arrived)} of {count} transactions came")
    lead_in = int(rate)
    waited = [(at - begun) * 1000 for begun, at in zip(due, arrived, strict=True)][lead_in:]
    return {**percentiles(waited), "us_per_transaction": round(used / count * 1e6)}


def _read(consumer: Consumer, count: int, arrived: list[float]) -> None:
    end = time.monotonic() + 60
    while len(arrived) < count and time.monotonic() < end:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            arrived.append(time.time())


def report(found: dict[str, Found]) -> dict[str, Any]:
    """Give medians of both sides, and ours by the plain loop's."""
    sides = {name: _medians(each) for name, each in found.items()}
    ours, plain = (sides[name] for name in COMMANDS)
    ratio = {"rows_per_s": round(ours["rows_per_s"] / plain["rows_per_s"], 2)}
    for changes, load in ours["loads"].items():
        for name in ("p50", "p99", "us_per_transaction"):
            ratio[f"{name}_{changes}"] = round(load[name] / plain["loads"][changes][name], 2)
    return {"sides": sides, "ratio": ratio}


def _medians(found: Found) -> dict[str, Any]:
    return {
        "rows_per_s": round(median(found.rows_per_s)),
        "us_per_transaction": round(median(found.us_per_transaction)),
        "loads": {
            changes: {name: round(median(each[name] for each in rounds), 3) for name in rounds[0]}
            for changes, rounds in found.loads.items()
        },
    }

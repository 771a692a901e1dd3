"""
The sink writer alone. Throughput: the same rows of the demo's ERP captured, processed, then applied, each while the others
stand still. Latency: messages of such orders appended at a rate, until the target's commit, in turn by the sink writer and by
a bare consumer (floor.py), which does the least that can be done.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console

from bench.alone.capture import Stage
from bench.source import Orders
from bench.system import wait
from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.registry import Registry
from sink_writers import bindings, targets
from tongbu.instance import Instance
from tongbu.latency import percentiles
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

_TOPIC = "canonical.transactions.v1"
_BINDING = """
binding: bench
kind: postgresql
dsn: ${{WAREHOUSE_DSN}}
schema: {schema}
sources: [erp]
entities:
  sales_order: {{children: {{lines: {{table: sales_order_line, key: line_no}}}}}}
"""
_SINK = "import sys, pathlib; from sink_writers.runner import run; run('bench', pathlib.Path(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does."""

    rounds: int
    rows: int
    rate: float
    seconds: float
    only: str = ""


def compare(instance_name: str, plan: Plan, console: Console, *, keep: bool) -> dict[str, Any]:
    """Measure; give the report: medians of the rounds and ratios."""
    instance = Instance.load(instance_name)
    os.environ.update(instance.environment())
    try:
        with Progress(console) as progress:
            lifecycle.up(instance, progress, with_pipeline=False)
        stage = Stage(instance, console.print)
        return _measure(stage, plan, console.print)
    finally:
        if not keep:
            lifecycle.down(instance, purge=True)


def _measure(stage: Stage, plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    rounds = plan.rounds + 1 if plan.only != "latency" else 1
    rows = (
        plan.rows
        if plan.only != "latency"
        else int(3.5 * plan.rate * plan.seconds * plan.rounds + 3000)
    )
    found = [_throughput(stage, rows, plan.only) for _ in range(rounds)]
    if plan.only != "latency":
        sides = {
            side: median(each[side] for each in found[1:]) for side in found[0] if side != "orders"
        }
        report["rows_per_s"] = {side: round(rate) for side, rate in sides.items()}
        report["sink_to_capture"] = round(sides["warehouse"] / sides["capture"], 2)
    if plan.only != "throughput":
        report["append_to_commit_ms"] = _latency(stage.processed(found[-1]["orders"]), plan, tell)
    return report


def _throughput(stage: Stage, rows: int, only: str) -> dict[str, Any]:
    """One round; the OA's sink takes the orders without their lines."""
    orders: Orders = stage.erp.backlog(rows, 2)
    captured, processed = stage.capture(orders), stage.process(orders)
    found = {
        "orders": orders,
        "capture": captured["rows_per_s"],
        "processor": processed["rows_per_s"],
    }
    if only != "latency":
        for name, written in (("warehouse", orders.rows), ("oa", orders.count)):
            found[name] = stage.apply(bindings.load(name), orders, written)["rows_per_s"]
    return found


class _Side:
    """A consumer process with a topic of its own; `commits` gives message number -> its commit, in microseconds."""

    def __init__(self, name: str, folder: Path) -> None:
        self.namespace = f"bench.{name}.{uuid.uuid4().hex[:6]}."
        self.topic = f"{self.namespace}{_TOPIC}"
        self.folder = folder / name
        self.folder.mkdir()
        bootstrap = os.environ["KAFKA_BOOTSTRAP"]
        AdminClient({"bootstrap.servers": bootstrap}).create_topics([NewTopic(self.topic, 1, 1)])[
            self.topic
        ].result()
        command = getattr(self, f"_{name}")()
        environment = os.environ | {
            "TONGBU_NAMESPACE": self.namespace,
            "TONGBU_DATA": str(self.folder),
        }
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        self.sent: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._name = name

    def _floor(self) -> list[str]:
        return [sys.executable, "-m", "bench.alone.floor", self.topic, str(self.folder / "commits")]

    def _sink(self) -> list[str]:
        schema = f"bench_{uuid.uuid4().hex[:6]}"
        (self.folder / "bench.yaml").write_text(_BINDING.format(schema=schema))
        binding, catalog = bindings.load("bench", self.folder), Catalog.load()
        targets.apply(binding, targets.plan(binding, catalog))
        return [sys.executable, "-c", _SINK, str(self.folder)]

    def expect(self, offset: int, lane_offset: int, sent: int) -> None:
        """Note when a message was appended."""
        key = offset if self._name == "floor" else lane_offset
        self.sent[key] = sent

    def latencies(self) -> dict[int, float]:
        """Give key -> ms from append to commit, of what is committed."""
        if self._name == "floor":
            file = self.folder / "commits"
            lines = (
                [line.split() for line in file.read_text().splitlines()] if file.exists() else []
            )
            done = {int(offset): int(at) for offset, at in lines}
        else:
            file = self.folder / "stages/bench.jsonl"
            rows = (
                [orjson.loads(line) for line in file.read_bytes().splitlines()]
                if file.exists()
                else []
            )
            done = {row["lane_offset"]: row["applied"] for row in rows}
        return {key: (at - self.sent[key]) / 1000 for key, at in done.items() if key in self.sent}

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def _latency(values: list[bytes], plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    decoder = Decoder(Registry(os.environ["REGISTRY_URL"]).schema)
    messages = [(decoder.decode(value)["lane_offset"], value) for value in values]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tongbu-sinks-")))
        sides = {
            name: stack.enter_context(closing(_Side(name, folder))) for name in ("floor", "sink")
        }
        producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"], "linger.ms": 0})
        remaining = {name: iter(messages) for name in sides}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for number in range(plan.rounds + 1):
            for name in sides if number % 2 else reversed(sides):
                seconds = plan.seconds if number else 3.0
                some = list(islice(remaining[name], int(plan.rate * seconds)))
                figures = _load(sides[name], producer, some, plan.rate)
                tell(f"{name}: {figures}")
                if number:
                    found[name].append(figures)
    quantiles = {
        name: {each: round(median(one[each] for one in some), 2) for each in ("p50", "p95", "p99")}
        for name, some in found.items()
    }
    ratio = {
        each: round(
            median(s[each] / f[each] for s, f in zip(found["sink"], found["floor"], strict=True)), 2
        )
        for each in ("p50", "p99")
    }
    return {**quantiles, "ratio": ratio}


def _load(
    side: _Side, producer: Producer, messages: list[tuple[int, bytes]], rate: float
) -> dict[str, float]:
    """Append messages at random times; give the percentiles of what became of them."""
    chance, due, keys = Random(1), time.perf_counter(), []

    def sent(lane_offset: int, at: int) -> Callable[[Any, Message], None]:
        def note(error: Any, message: Message) -> None:
            assert error is None, error
            side.expect(message.offset(), lane_offset, at)
            keys.append(lane_offset if "sink" in side.topic else message.offset())

        return note

    for lane_offset, value in messages:
        due += chance.expovariate(rate)
        while (left := due - time.perf_counter()) > 0:
            producer.poll(min(left, 0.01))
        producer.produce(
            side.topic, value, "erp", 0, on_delivery=sent(lane_offset, time.time_ns() // 1000)
        )
        producer.poll(0)
    producer.flush(10)
    wait("all is committed", lambda: set(keys) <= side.latencies().keys(), 60.0)
    found = side.latencies()
    return {
        name: round(value, 2) for name, value in percentiles(found[key] for key in keys).items()
    }

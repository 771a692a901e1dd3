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
import psutil
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console

from bench.alone.capture import Stage, staged
from bench.source import Orders
from bench.system import wait
from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.registry import Registry
from sink_writers import bindings, targets
from sink_writers.stage_log import predecessor
from tongbu.latency import percentiles

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
    with staged(instance_name, console, keep=keep) as stage:
        return _measure(stage, plan, console.print)


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
        sides = [side for side in found[0] if side != "orders"]
        rates = {side: median(one[side]["rows_per_s"] for one in found[1:]) for side in sides}
        report["rows_per_s"] = {side: round(rate) for side, rate in rates.items()}
        report["cpu_us_per_row"] = {
            side: round(median(sum(one[side]["us_per_row"].values()) for one in found[1:]), 1)
            for side in sides
        }
        report["sink_to_capture"] = round(
            median(
                one["warehouse"]["rows_per_s"] / one["capture"]["rows_per_s"] for one in found[1:]
            ),
            2,
        )
    if plan.only != "throughput":
        report["append_to_commit_ms"] = _latency(stage.processed(found[-1]["orders"]), plan, tell)
    return report


def _throughput(stage: Stage, rows: int, only: str) -> dict[str, Any]:
    """One round; the OA's sink takes the orders without their lines."""
    orders: Orders = stage.erp.backlog(rows, 2)
    captured, processed = stage.capture(orders), stage.process(orders)
    found = {"orders": orders, "capture": captured, "processor": processed}
    if only != "latency":
        for name, written in (("warehouse", orders.rows), ("oa", orders.count)):
            found[name] = stage.apply(bindings.load(name), orders, written)
    return found


class _Side:
    """A consumer process with a topic of its own."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.namespace = f"bench.{self.name}.{uuid.uuid4().hex[:6]}."
        self.topic = f"{self.namespace}{_TOPIC}"
        self.folder = folder / self.name
        self.folder.mkdir()
        admin = AdminClient({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]})
        admin.create_topics([NewTopic(self.topic, 1, 1)])[self.topic].result()
        environment = os.environ | {
            "TONGBU_NAMESPACE": self.namespace,
            "TONGBU_DATA": str(self.folder),
        }
        self.process = subprocess.Popen(self.command(), env=environment, stdout=subprocess.DEVNULL)
        #: Key of a message -> when it was appended, in microseconds.
        self.sent: dict[int, int] = {}

    def command(self) -> list[str]:
        """Give how it is started."""
        raise NotImplementedError

    def key(self, offset: int, lane_offset: int) -> int:
        """Give by what a message is known in `commits`."""
        raise NotImplementedError

    def commits(self) -> dict[int, int]:
        """Give key -> when it was committed, in microseconds, of what is committed."""
        raise NotImplementedError

    def latencies(self) -> dict[int, float]:
        """Give key -> ms from append to commit, of what is committed."""
        done = self.commits()
        return {key: (at - self.sent[key]) / 1000 for key, at in done.items() if key in self.sent}

    def cpu(self) -> float:
        """Give the CPU seconds that the process has used."""
        return sum(psutil.Process(self.process.pid).cpu_times()[:2])

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


class _Floor(_Side):
    name = "floor"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bench.alone.floor", self.topic, str(self.folder / "commits")]

    def key(self, offset: int, lane_offset: int) -> int:  # noqa: ARG002
        return offset

    def commits(self) -> dict[int, int]:
        lines = _lines(self.folder / "commits")
        return {int(offset): int(at) for offset, at in map(bytes.split, lines)}


class _Sink(_Side):
    name = "sink"

    def command(self) -> list[str]:
        schema = f"bench_{uuid.uuid4().hex[:6]}"
        (self.folder / "bench.yaml").write_text(_BINDING.format(schema=schema))
        binding, catalog = bindings.load("bench", self.folder), Catalog.load()
        targets.apply(binding, targets.plan(binding, catalog))
        return [sys.executable, "-c", _SINK, str(self.folder)]

    def key(self, offset: int, lane_offset: int) -> int:  # noqa: ARG002
        return lane_offset

    def commits(self) -> dict[int, int]:
        log = self.folder / "stages/bench.jsonl"
        # In this order: what is turned over between the two reads comes twice, not never.
        rows = [orjson.loads(line) for file in (log, predecessor(log)) for line in _lines(file)]
        return {row["lane_offset"]: row["applied"] for row in rows}


def _lines(file: Path) -> list[bytes]:
    """Give the whole lines that a process has written; none where it has not begun."""
    return file.read_bytes().rpartition(b"\n")[0].splitlines() if file.exists() else []


def _latency(values: list[bytes], plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    decoder = Decoder(Registry(os.environ["REGISTRY_URL"]).schema)
    messages = [(decoder.decode(value)["lane_offset"], value) for value in values]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tongbu-sinks-")))
        sides: dict[str, _Side] = {
            kind.name: stack.enter_context(closing(kind(folder))) for kind in (_Floor, _Sink)
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
        name: {
            each: round(median(one[each] for one in some), 2)
            for each in ("p50", "p95", "p99", "cpu_us")
        }
        for name, some in found.items()
    }
    ratio = {
        each: round(
            median(s[each] / f[each] for s, f in zip(found["sink"], found["floor"], strict=True)), 2
        )
        for each in ("p50", "p99", "cpu_us")
    }
    return {**quantiles, "ratio": ratio}


def _load(
    side: _Side, producer: Producer, messages: list[tuple[int, bytes]], rate: float
) -> dict[str, float]:
    """Append messages at random times; give the percentiles of what became of them, and the CPU per message."""
    chance, due, keys, before = Random(1), time.perf_counter(), [], side.cpu()

    def sent(lane_offset: int, at: int) -> Callable[[Any, Message], None]:
        def note(error: Any, message: Message) -> None:
            assert error is None, error
            keys.append(side.key(message.offset() or 0, lane_offset))
            side.sent[keys[-1]] = at

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
    used, found = side.cpu() - before, side.latencies()
    return {
        **{
            name: round(value, 2) for name, value in percentiles(found[key] for key in keys).items()
        },
        "cpu_us": round(used / len(messages) * 1e6),
    }

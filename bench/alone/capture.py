"""
The processor alone against capture alone: the same rows of the demo's ERP, first captured, then processed, in turn.

Capture is Kafka Connect with the connector as it ships, into an idle lane log; then the processor, with the demo's mappings
and rules, drains what was captured while Connect stands still. Both rates are taken between the same shares of the rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console

from bench import resources
from bench.alone.drain import FROM, TO, drained
from bench.connect import Connect
from bench.source import Erp, Orders
from bench.system import wait
from schemas.declarations import Binding, load_sources
from sink_writers import targets
from tongbu import topics
from tongbu.deploy import commands as deploy
from tongbu.deploy.deployment import Deployment
from tongbu.instance import Instance
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress
from tongbu.stack.supervision import Supervisor

_LANE, _OUTPUT = "cdc.erp", "canonical.transactions.v1"
#: BEGIN, header, two lines, END.
_RECORDS = 5
_QUIET_SECONDS = 2.0


def compare(
    instance_name: str, rounds: int, rows: int, console: Console, *, keep: bool
) -> dict[str, Any]:
    """Measure both; give rows per second and CPU per row by part, medians of the rounds, and the ratio."""
    with staged(instance_name, console, keep=keep) as stage:
        found = [stage.round(rows) for _ in range(rounds + 1)][1:]
    report = {
        side: {name: _median([each[side][name] for each in found]) for name in found[0][side]}
        for side in ("capture", "processor")
    }
    rates = {side: report[side]["rows_per_s"] for side in report}
    return {**report, "ratio": round(rates["processor"] / rates["capture"], 2)}


@contextmanager
def staged(instance_name: str, console: Console, *, keep: bool) -> Iterator[Stage]:
    """Give a stage on an instance of its own, whose environment is this process's; `keep` leaves it up."""
    instance = Instance.load(instance_name)
    os.environ.update(instance.environment())
    try:
        with Progress(console) as progress:
            lifecycle.up(instance, progress, with_pipeline=False)
        yield Stage(instance, console.print)
    finally:
        if not keep:
            lifecycle.down(instance, purge=True)


def _position(cursor: Any, table: str, binding: Binding, partition: int) -> int:
    cursor.execute(
        f"select coalesce(max(next_offset), 0) from {table} where binding = %s and partition_no = %s",
        [binding.binding, partition],
    )
    return int(cursor.fetchone()[0])


def _median(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {
            name: round(median(each.get(name, 0.0) for each in values), 1) for name in values[0]
        }
    return round(median(values))


class Stage:
    """The demo's ERP with capture and processor, both stopped."""

    def __init__(self, instance: Instance, tell: Callable[[str], None]) -> None:
        environment = instance.environment()
        self._tell, self._folder = tell, instance.folder
        self._bootstrap = environment["KAFKA_BOOTSTRAP"]
        self._partition = load_sources()["erp"].partition
        self.erp = Erp(environment["ERP_DSN"])
        self._connect = Connect(environment["CONNECT_URL"])
        self._supervisor = Supervisor(instance)
        tell("deploying, and waiting for the snapshot")
        self._connect.resume(*{"erp"} & self._connect.names())
        deploy.perform(Deployment(environment), None, lambda _: None)
        self._status = Path(environment["TONGBU_DATA"]) / "processor.json"
        self._supervisor.start_process("processor")
        wait("the initial snapshot is published", self._published)
        self._stop()
        self._connect.stop("erp")

    def round(self, rows: int) -> dict[str, dict[str, Any]]:
        """Write rows, capture them, process them."""
        orders = self.erp.backlog(rows, 2)
        return {"capture": self.capture(orders), "processor": self.process(orders)}

    def capture(self, orders: Orders) -> dict[str, Any]:
        """Have Connect read what was written."""
        start, before = self._end(_LANE), resources.cpu_seconds(self._folder)
        self._connect.resume("erp")
        wanted = start + orders.count * _RECORDS
        wait("the rows are captured", lambda: self._end(_LANE) >= wanted)
        spent = resources.difference(before, resources.cpu_seconds(self._folder))
        wait(
            "nothing more comes", self._quiet
        )  # heartbeats are among the records, so some rows may be missing
        self._connect.stop("erp")
        places = [start + int(orders.count * _RECORDS * share) for share in (FROM, TO)]
        first, last = (self._appended(place) for place in places)
        rate = orders.rows * (TO - FROM) / (last - first)
        return self.found("capture", rate, spent, orders.rows)

    def process(self, orders: Orders) -> dict[str, Any]:
        """Have the processor read what was captured."""
        done = self._end(_OUTPUT, self._partition)
        self._supervisor.start_process("processor")
        read = partial(self._end, _OUTPUT, self._partition)
        found = self._drained("processor", read, done, orders, orders.rows)
        wait("all is processed", lambda: read() >= done + orders.count)
        self._stop()
        return found

    def apply(self, binding: Binding, orders: Orders, rows: int) -> dict[str, Any]:
        """Have a sink write what was processed, `rows` of it into its target; it may have been stopped for long."""
        service = f"sink-{binding.binding}"
        end = self._end(_OUTPUT, self._partition)
        with targets.opened(binding) as (target, cursor):
            read = partial(
                _position, cursor, target.table("tongbu_position"), binding, self._partition
            )
            self._supervisor.start_process(service)
            found = self._drained(service, read, end - orders.count, orders, rows)
            wait("all is applied", lambda: read() >= end)
        self._supervisor.rpc.stopProcess(service)
        return found

    def _drained(
        self, side: str, read: Callable[[], int], begin: int, orders: Orders, rows: int
    ) -> dict[str, Any]:
        """Follow a side through a backlog; its start and its end count neither for the rate nor for the CPU."""

        def clocks() -> tuple[float, dict[str, float]]:
            return time.monotonic(), resources.cpu_seconds(self._folder)

        (first, (began, before)), (last, (ended, after)) = drained(
            read, begin, orders.count, clocks
        )
        done = (last - first) / orders.count * rows
        return self.found(side, done / (ended - began), resources.difference(before, after), done)

    def processed(self, orders: Orders) -> list[bytes]:
        """Give the messages that the processor made of orders."""
        end = self._end(_OUTPUT, self._partition)
        some = topics.read(self._bootstrap, _OUTPUT, self._partition, end - orders.count, end)
        return [message.value() for message in some]

    def found(self, side: str, rate: float, spent: dict[str, float], rows: float) -> dict[str, Any]:
        """Tell the figures of a side."""
        micros = {role: round(used / rows * 1e6, 1) for role, used in spent.items() if used > 0.05}
        said = ", ".join(f"{role} {used}" for role, used in micros.items())
        self._tell(f"{side} alone: {rate:,.0f} rows/s; us of CPU per row: {said}")
        return {"rows_per_s": rate, "us_per_row": micros}

    def _end(self, topic: str, partition: int = 0) -> int:
        return topics.ends(self._bootstrap, [topic])[topic, partition]

    def _quiet(self) -> bool:
        before = self._end(_LANE)
        time.sleep(_QUIET_SECONDS)
        return self._end(_LANE) == before

    def _appended(self, offset: int) -> float:
        (message,) = topics.read(self._bootstrap, _LANE, 0, offset, offset + 1)
        return float(message.timestamp()[1]) / 1000

    def _published(self) -> bool:
        lanes = orjson.loads(self._status.read_bytes()) if self._status.exists() else {}
        return bool(lanes.get("erp", {}).get("snapshot_published"))

    def _stop(self) -> None:
        self._supervisor.rpc.stopProcess("processor")

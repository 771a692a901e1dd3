"""The measurements: each takes a running worker with three lanes on a broker of its own, and gives figures."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from bench.faults.arena import Arena
from bench.lanes.live import Meter, Traffic, Writer
from schemas import control
from tongbu import topics
from tongbu.instance import Instance, run_folder
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

_LIVE, _OTHER = "oa", "erp"
#: A finished phase has delivered its last transactions after so long.
_TAIL_SECONDS = 1.0
_LONGEST_SECONDS = 3600.0
_NOTE = "a note as long as notes are in orders of a company " * 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: rows of the giant, or published again, or in the state; live transactions per second; seconds without."""

    rows: int
    rate: float
    seconds: float


@dataclass(slots=True)
class Scene:
    """A worker that has opened its lanes, with live traffic in one of them."""

    arena: Arena
    writer: Writer
    meter: Meter
    plan: Plan
    console: Console

    def quiet(self) -> dict[str, float]:
        """Give the latency of the live lane with nothing beside it."""
        begin = time.time()
        time.sleep(self.plan.seconds)
        return self.between(begin, time.time())

    def between(self, begin: float, end: float) -> dict[str, float]:
        """Give the latency of what was appended between two times, once it is there."""
        time.sleep(_TAIL_SECONDS)
        return self.meter.between(begin, end)

    def await_finished(self) -> None:
        """Wait until the worker has finished all that stands in its logs now."""
        ends = self.arena.ends()
        until = time.monotonic() + _LONGEST_SECONDS
        while self.arena.wait(ends) is None:
            if time.monotonic() > until:
                raise TimeoutError("the worker does not finish its logs")


def giant(scene: Scene) -> dict[str, Any]:
    """A giant transaction in one lane beside live traffic in another: its latency, and the memory of the worker."""
    without = scene.quiet()
    with _memory(scene.arena) as memory:
        begin = time.time()
        scene.writer.giant(_OTHER, scene.plan.rows)
        scene.await_finished()
        end = time.time()
    beside = scene.between(begin, end)
    return {
        "rows": scene.plan.rows,
        "giant_seconds": round(end - begin, 1),
        "live_ms_without": without,
        "live_ms_beside_giant": beside,
        "memory_before_mb": round(memory[0] / 1e6),
        "memory_peak_mb": round(max(memory) / 1e6),
        "bytes_per_aggregate": round((max(memory) - memory[0]) / scene.plan.rows),
    }


def republish(scene: Scene) -> dict[str, Any]:
    """All rows of a lane published again beside live traffic in the same lane: the latency of that, and the rate."""
    without = scene.quiet()
    entity = f"{scene.arena.prefix}canonical.order.v1"

    def count() -> int:
        return sum(topics.ends(scene.arena.bootstrap, [entity]).values())

    before, begin = count(), time.time()
    log = scene.writer.logs[_LIVE]
    log.control(control.Republish(source=_LIVE, entity="order", fill=f"bench-{begin}", limit=200))
    scene.writer.send(_LIVE)
    while count() - before < scene.plan.rows:
        if time.time() - begin > _LONGEST_SECONDS:
            raise TimeoutError("the republish does not end")
        time.sleep(0.5)
    end = time.time()
    beside = scene.between(begin, end)
    return {
        "rows": scene.plan.rows,
        "republish_seconds": round(end - begin, 1),
        "rows_per_second": round(scene.plan.rows / (end - begin)),
        "live_ms_without": without,
        "live_ms_beside_republish": beside,
        "p99_ratio": round(beside["p99"] / without["p99"], 2),
    }


def restart(scene: Scene) -> dict[str, Any]:
    """Kill -9 of the worker under live traffic, several times: from its new start to the first transaction of that time."""
    worker = scene.arena.workers[0]
    seconds: list[float] = []
    until = time.monotonic() + scene.plan.seconds
    while time.monotonic() < until or len(seconds) < 3:
        time.sleep(2.0)
        worker.end(signal.SIGKILL)
        began = time.time()
        worker.start()
        seconds.append(scene.meter.first_after(began) - began)
        scene.await_finished()
    seconds.sort()
    return {
        "rows_in_state": scene.plan.rows,
        "kills": len(seconds),
        "first_record_seconds_median": round(seconds[len(seconds) // 2], 2),
        "first_record_seconds_max": round(seconds[-1], 2),
    }


#: Name -> the measurement, and the source that gets `rows` of prepared rows before it.
MEASUREMENTS: dict[str, tuple[Callable[[Scene], dict[str, Any]], str | None]] = {
    "giant": (giant, None),
    "republish": (republish, _LIVE),
    "restart": (restart, _LIVE),
}


def perform(name: str, plan: Plan, instance: Instance, console: Console) -> dict[str, Any]:
    """Do one of MEASUREMENTS on a broker and a worker of its own; give its figures."""
    measure, prepared = MEASUREMENTS[name]
    folder = run_folder() / f"lanes-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with Progress(console) as progress:
            lifecycle.up_broker(instance, progress)
        with _scene(instance, folder, plan, prepared, console) as scene:
            figures = measure(scene)
    finally:
        lifecycle.down(instance, purge=True)
    shutil.rmtree(folder, ignore_errors=True)
    return figures


@contextmanager
def _scene(
    instance: Instance, folder: Path, plan: Plan, prepared: str | None, console: Console
) -> Iterator[Scene]:
    arena = Arena(instance, folder)
    writer = Writer(arena)
    del arena.workers[1:]
    meter, traffic = Meter(arena, _LIVE), Traffic(writer, _LIVE, plan.rate)
    scene = Scene(arena, writer, meter, plan, console)
    try:
        arena.workers[0].start()
        if prepared is not None:
            console.print(f"preparing {plan.rows:,} rows")
            writer.snapshot(prepared, plan.rows, _NOTE)
            writer.flush()
        scene.await_finished()
        meter.start()
        traffic.start()
        time.sleep(3.0)  # the first transactions are slower
        yield scene
    finally:
        for thread in (traffic, meter):
            if thread.is_alive():
                thread.stop()
        arena.close()


@contextmanager
def _memory(arena: Arena) -> Iterator[list[int]]:
    """Note the worker's resident memory, from the beginning on."""
    process = arena.workers[0].process
    assert process is not None
    watched, ended = psutil.Process(process.pid), threading.Event()
    found = [watched.memory_info().rss]

    def watch() -> None:
        while not ended.wait(0.1):
            found.append(watched.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()

"""
The rounds: every system drains the same backlog and takes the same loads, in turn, on warm machines.

While one system runs, the others are stopped; what they missed waits in their slots and is part of their next
backlog, so that at the end each has to have every row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import figures, resources, stages
from bench.source import Orders, Source
from bench.system import System, wait
from tongbu.latency import Tail, percentiles


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. `loads` are (transactions per second, lines per order); times in seconds."""

    rounds: int = 3
    loads: tuple[tuple[int, int], ...] = ((50, 2), (400, 2))
    seconds: float = 5.0
    backlog_rows: int = 50_000
    warm_up_rows: int = 20_000
    #: Until then the JVMs' compilers take a tenth to a third of a core, and decide who is slow. With 16 s the first round's p50 at 400/s was
    #: 6.4 to 8.8 ms in four runs, those of the rounds after it 4.5 to 8.5.
    warm_up_seconds: float = 22.0
    idle_seconds: float = 0.0


#: What `--full` measures: every rate with small and large orders, and what each system costs when nothing happens; larger backlogs.
FULL = Plan(
    backlog_rows=100_000,
    loads=tuple((rate, lines) for lines in (2, 20) for rate in (50, 200, 400, 1000)),
    idle_seconds=10.0,
)

#: What `--full` measures on the paths from and to MariaDB.
OTHER_PATHS = Plan(backlog_rows=20_000)


@dataclass(slots=True)
class Measured:
    """What came out; `memory` is the most that each role held, in MiB, per system."""

    loads: list[figures.Load] = field(default_factory=list)
    backlogs: list[figures.Backlog] = field(default_factory=list)
    #: (system, path, transactions per second, lines): not run, because queues would only grow.
    saturated: set[tuple[str, str, int, int]] = field(default_factory=set)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    idle: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, other: Measured) -> None:
        """Take in what was measured on another path; memory and idle CPU are those of the first."""
        self.loads += other.loads
        self.backlogs += other.backlogs
        self.saturated |= other.saturated
        self.memory = self.memory or other.memory
        self.idle = self.idle or other.idle


class Rounds:
    """Runs a plan on systems; `settle` ends what a backlog leaves behind; `tell` hears what is being done."""

    def __init__(
        self,
        plan: Plan,
        source: Source,
        systems: Sequence[System],
        folder: Path,
        settle: Callable[[], None],
        tell: Callable[[str], None],
        path: str = figures.PATH,
    ) -> None:
        self._plan, self._source, self._systems = plan, source, systems
        self._folder, self._settle, self._tell, self._path = folder, settle, tell, path
        self._seed, self._first = 1, source.next_number
        self._rates: dict[str, float] = {}
        self.measured = Measured()

    def run(self) -> Measured:
        """Warm up, then measure round after round; every other round in the opposite order."""
        self._round(0)
        for number in range(1, self._plan.rounds + 1):
            self._round(number)
        self._catch_up()
        return self.measured

    def _round(self, number: int) -> None:
        rows = self._plan.backlog_rows if number else self._plan.warm_up_rows
        self._tell(f"round {number}: writing a backlog of {rows:,} rows")
        backlog = self._source.backlog(rows, 2)
        for system in self._systems if number % 2 else reversed(self._systems):
            self._drain(system, backlog, number)
            for rate, lines in self._plan.loads if number else ((400, 2),):
                self._load(system, rate, lines, number)
            if number == 1 and self._plan.idle_seconds:
                self.measured.idle[system.name] = _idle(self._folder, self._plan.idle_seconds)
            self._remember_memory(system)
            system.stop()

    def _catch_up(self) -> None:
        """Let each system have what the others' loads were, so that all rows can be compared."""
        everything = self._source.since(self._first)
        for system in self._systems:
            self._tell(f"{system.name}: catching up, to compare every row")
            system.start()
            wait(f"{system.name} has every row", partial(system.arrived, everything))
            system.stop()

    def _drain(self, system: System, backlog: Orders, number: int) -> None:
        self._tell(f"{self._named(number)}{system.name}: draining the backlog")
        missed = self._source.since(backlog.first)
        before = resources.cpu_seconds(self._folder)
        system.start()
        wait(f"{system.name} has drained its backlog", partial(system.arrived, missed))
        spent = resources.difference(before, resources.cpu_seconds(self._folder))
        if number:
            rate = figures.backlog_rate(system.commits(backlog), backlog.rows / backlog.count)
            self._rates[system.name] = rate
            self._tell(f"{self._named(number)}{system.name}: {rate:,.0f} rows/s")
            self.measured.backlogs.append(
                figures.Backlog(
                    system.name, number, backlog.rows, rate, spent, missed.rows, self._path
                )
            )

    def _load(self, system: System, rate: int, lines: int, number: int) -> None:
        rows = self._source.rows_of(lines)
        if figures.saturated(rate, rows, self._rates.get(system.name, math.inf)):
            self.measured.saturated.add((system.name, self._path, rate, lines))
            return
        seconds = self._plan.seconds if number else self._plan.warm_up_seconds
        self._seed += 10
        log = getattr(system, "stages", None)
        tail = Tail(log) if log else None
        self._settle()
        before = resources.cpu_seconds(self._folder)
        orders = self._source.load(rate, lines, seconds + figures.LEAD_IN_SECONDS, self._seed)
        wait(f"{system.name} has applied the load", partial(system.arrived, orders))
        spent = resources.difference(before, resources.cpu_seconds(self._folder))
        if not number:
            return
        found = figures.latencies(self._source.commits(orders), system.commits(orders))
        load = figures.Load(
            system.name,
            number,
            rate,
            lines,
            found,
            orders.late_ms,
            spent,
            orders.rows,
            path=self._path,
        )
        if tail is not None:
            load.stages = stages.by_hop(tail.follow(), found[0][0], found[-1][0])
        self.measured.loads.append(load)
        said = percentiles(ms for _, ms in found)
        self._tell(
            f"{self._named(number)}{system.name} at {rate}/s x {lines}: p50 {said['p50']:.1f}, "
            f"p99 {said['p99']:.1f}, max {said['max']:.0f} ms; late {orders.late_ms:.0f} ms"
        )

    def _remember_memory(self, system: System) -> None:
        most = self.measured.memory.setdefault(system.name, {})
        for role, held in resources.memory(self._folder).items():
            most[role] = max(most.get(role, 0.0), round(held, 1))

    def _named(self, number: int) -> str:
        return f"round {number}: " if number else "warming up: "


def _idle(folder: Path, seconds: float) -> dict[str, float]:
    """Give the CPU of each role in % of a core while nothing happens."""
    before = resources.cpu_seconds(folder)
    time.sleep(seconds)
    spent = resources.difference(before, resources.cpu_seconds(folder))
    return {role: round(used / seconds * 100, 2) for role, used in spent.items()}

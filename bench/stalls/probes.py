"""Probes that look at the machine many times a second, and give spans of time in which it was not at rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from bench import resources
from bench.stalls.spans import Span

#: What a probe gives each time it is asked.
Probe = Callable[[], Iterator[Span]]
_FSYNC_SECONDS = 0.01
#: From these shares of a look's time on something is said to wait, or to be taken away.
_PRESSURE, _STEAL, _WAITING, _WORKING = 0.4, 0.05, 0.3, 0.4
_BLOCK = b"x" * 4096
_NANO = 1e9


class Looks(threading.Thread):
    """Asks a probe every so many seconds. Use as a context manager; `spans` is what it has found."""

    def __init__(self, probe: Probe, seconds: float) -> None:
        super().__init__(daemon=True)
        self.spans: list[Span] = []
        self._probe, self._seconds = probe, seconds
        self._ending = threading.Event()

    def __enter__(self) -> Looks:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        """Ask until the end."""
        while not self._ending.wait(self._seconds):
            self.spans += self._probe()


def fsyncs(folder: Path) -> Probe:
    """Write and sync a block beside the data, as a commit does; tell of those that were slow."""
    file = (folder / "fsync-probe").open("wb", buffering=0)

    def probe() -> Iterator[Span]:
        begin = time.time()
        os.pwrite(file.fileno(), _BLOCK, 0)
        os.fdatasync(file.fileno())
        if (end := time.time()) - begin > _FSYNC_SECONDS:
            yield Span("disk: a sync of 4 KiB is slow", begin, end)

    return probe


def pressure() -> Probe:
    """Tell when work waited for a core or the disk (pressure stall information), and when the host took a core away."""
    before, at = _counters(), time.time()

    def probe() -> Iterator[Span]:
        nonlocal before, at
        now, counters = time.time(), _counters()
        for what, limit in (("cpu", _PRESSURE), ("io", _PRESSURE), ("steal", _STEAL)):
            if counters[what] - before[what] > limit * (now - at):
                yield Span(f"pressure: {what}", at, now)
        before, at = counters, now

    return probe


def _counters() -> dict[str, float]:
    """Give seconds since the start of the machine."""
    found = {}
    for what in ("cpu", "io"):
        some = Path(f"/proc/pressure/{what}").read_text().splitlines()[0]
        found[what] = int(some.rpartition("total=")[2]) / 1e6
    with Path("/proc/stat").open() as stat:
        found["steal"] = int(stat.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    return found


def cores(folder: Path) -> Probe:
    """Tell which part of an instance works much, which has work but no core, and when others work (schedstat of all threads)."""
    tasks = [(role, Path(f"/proc/{process.pid}/task")) for role, process in resources.processes(folder)]  # fmt: skip
    before, busy, at = _times(tasks), _busy(), time.time()

    def probe() -> Iterator[Span]:
        nonlocal before, busy, at
        now, times, all_busy = time.time(), _times(tasks), _busy()
        ours = 0.0
        for part, (used, waited) in times.items():
            used_before, waited_before = before.get(part, (used, waited))
            ours += used - used_before
            if used - used_before > _WORKING * (now - at):
                yield Span(f"{part}: works", at, now)
            if waited - waited_before > _WAITING * (now - at):
                yield Span(f"{part}: waits for a core", at, now)
        if all_busy - busy - ours > _WORKING * (now - at):
            yield Span("others (load, harness, kernel, other programs): work", at, now)
        before, busy, at = times, all_busy, now

    return probe


def _times(tasks: Sequence[tuple[str, Path]]) -> dict[str, tuple[float, float]]:
    """Give the seconds that each part has used and waited for a core; a JVM's compiler is a part of its own."""
    found: dict[str, tuple[float, float]] = {}
    for role, folder in tasks:
        with suppress(OSError):  # ended meanwhile
            for task in folder.iterdir():
                used, waited, _ = (task / "schedstat").read_text().split()
                part = f"{role}, compiler" if "Compiler" in (task / "comm").read_text() else role
                before = found.get(part, (0.0, 0.0))
                found[part] = before[0] + int(used) / _NANO, before[1] + int(waited) / _NANO
    return found


def _busy() -> float:
    """Give the seconds that all cores have worked."""
    with Path("/proc/stat").open() as stat:
        user, nice, system, _, _, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def postgresql(dsn: str) -> Probe:
    """
    Tell for what PostgreSQL's sessions wait longer than from one look to the next, and when it tidies up.

    Waits are for writes and syncs of its log, for locks and for files.
    """
    connection = psycopg.connect(dsn, autocommit=True)
    before: set[tuple[str, ...]] = set()
    at = time.time()

    def probe() -> Iterator[Span]:
        nonlocal before, at
        rows = connection.execute(
            """SELECT CASE backend_type WHEN 'autovacuum worker' THEN 'autovacuum works'
                      ELSE 'waits for ' || wait_event_type || ' ' || wait_event END, pid::text, query_start::text
                 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'
                   OR wait_event_type IN ('IO', 'LWLock', 'Lock') AND pid <> pg_backend_pid()"""
        )
        now, seen = time.time(), set(rows.fetchall())
        for what in {what for what, *_ in seen & before}:
            yield Span(f"postgresql: {what}", at, now)
        before, at = seen, now

    return probe

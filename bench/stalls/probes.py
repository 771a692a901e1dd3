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
_PRESSURE, _STEAL, _WAITING = 0.4, 0.05, 0.3
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


def waits_for_a_core(folder: Path) -> Probe:
    """Tell which part of an instance had work but no core (run delay of all its threads, from schedstat)."""
    threads = [
        (role, Path(f"/proc/{process.pid}/task"))
        for role, process in resources.processes(folder)
    ]  # fmt: skip
    before, at = _delays(threads), time.time()

    def probe() -> Iterator[Span]:
        nonlocal before, at
        now, delays = time.time(), _delays(threads)
        for role, seconds in delays.items():
            if seconds - before.get(role, seconds) > _WAITING * (now - at):
                yield Span(f"{role}: waits for a core", at, now)
        before, at = delays, now

    return probe


def _delays(threads: Sequence[tuple[str, Path]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for role, tasks in threads:
        with suppress(OSError):  # ended meanwhile
            for task in tasks.iterdir():
                delay = int((task / "schedstat").read_text().split()[1])
                found[role] = found.get(role, 0.0) + delay / _NANO
    return found


def postgresql_waits(dsn: str) -> Probe:
    """Tell for what PostgreSQL's sessions wait longer than from one look to the next: writes and syncs of its log, locks, files."""
    connection = psycopg.connect(dsn, autocommit=True)
    before: set[tuple[str, ...]] = set()
    at = time.time()

    def probe() -> Iterator[Span]:
        nonlocal before, at
        rows = connection.execute(
            """SELECT wait_event_type || ' ' || wait_event, pid::text, query_start::text FROM pg_stat_activity
                WHERE wait_event_type IN ('IO', 'LWLock', 'Lock') AND pid <> pg_backend_pid()"""
        )
        now, waiting = time.time(), set(rows.fetchall())
        for what in {what for what, *_ in waiting & before}:
            yield Span(f"postgresql: waits for {what}", at, now)
        before, at = waiting, now

    return probe

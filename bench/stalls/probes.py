"""Probes that look at the machine many times a second, and give spans of time in which it was not at rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg

from bench import resources
from bench.stalls.spans import Span

#: What a probe gives each time it is asked.
Probe = Callable[[], Iterator[Span]]
_FSYNC_SECONDS = 0.01
#: From these shares of a look's time on something is said to wait, to be taken away, or to work much.
_PRESSURE, _STEAL, _WORKING = 0.4, 0.05, 0.4
#: A thread that waited longer than this for a core is told of; every so many looks new threads are looked for.
_WAITED_SECONDS, _SEEK_THREADS = 0.02, 20
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


def cores(threads: Threads) -> Probe:
    """Tell which part of an instance works much, which has a thread that waited long for a core, and when others work."""
    threads.look()
    busy, at = _busy(), time.time()

    def probe() -> Iterator[Span]:
        nonlocal busy, at
        now, parts, all_busy = time.time(), threads.look(), _busy()
        for part, (used, waited) in parts.items():
            if used > _WORKING * (now - at):
                yield Span(f"{part}: works", at, now)
            if waited > _WAITED_SECONDS:
                yield Span(f"{part}: a thread waits for a core", now - max(waited, now - at), now)
        ours = sum(used for used, _ in parts.values())
        if all_busy - busy - ours > _WORKING * (now - at):
            yield Span("others (load, harness, kernel, other programs): work", at, now)
        busy, at = all_busy, now

    return probe


class Threads:
    """
    What the threads of an instance's processes have used and waited for (schedstat).

    Their files stay open, and new threads are looked for now and then: a look at 300 threads has to be cheap, or it makes
    the stalls that it is to explain.
    """

    def __init__(self, folder: Path) -> None:
        self._tasks = [(role, Path(f"/proc/{process.pid}/task")) for role, process in resources.processes(folder)]  # fmt: skip
        #: Folder of a thread -> its part, the open file, and what it had used and waited at the last look.
        self._known: dict[Path, tuple[str, int, int, int]] = {}
        self._looks = 0

    def look(self) -> dict[str, tuple[float, float]]:
        """Give for each part the seconds used since the last look, and the longest that one of its threads waited for a core."""
        if self._looks % _SEEK_THREADS == 0:
            self._seek()
        self._looks += 1
        found: dict[str, tuple[float, float]] = {}
        for task, (part, file, used_before, waited_before) in list(self._known.items()):
            try:
                used, waited, _ = map(int, os.pread(file, 128, 0).split())
            except OSError:  # the thread has ended
                os.close(file)
                del self._known[task]
                continue
            self._known[task] = part, file, used, waited
            sum_used, most_waited = found.get(part, (0.0, 0.0))
            found[part] = (
                sum_used + (used - used_before) / _NANO,
                max(most_waited, (waited - waited_before) / _NANO),
            )
        return found

    def _seek(self) -> None:
        """Find threads that are new; a JVM's compiler is a part of its own."""
        for role, folder in self._tasks:
            with suppress(OSError):  # ended meanwhile
                for task in folder.iterdir():
                    if task not in self._known:
                        compiler = "Compiler" in (task / "comm").read_text()
                        part = f"{role}, compiler" if compiler else role
                        used, waited, _ = map(int, (task / "schedstat").read_text().split())
                        file = os.open(task / "schedstat", os.O_RDONLY)
                        self._known[task] = part, file, used, waited

    def close(self) -> None:
        """Close the files."""
        for _, file, _, _ in self._known.values():
            os.close(file)


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

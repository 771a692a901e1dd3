"""What each part of the stack costs: CPU seconds and memory, by role, of one instance's processes only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from tongbu.stack.supervision import MARK

#: What is in a command line -> role; the first that fits counts.
_ROLES = (
    ("kafka.Kafka", "kafka"),
    ("ConnectDistributed", "connect"),
    ("registry.jar", "registry"),
    ("run processor", "processor"),
    ("run sink", "sink"),
    ("mariadbd", "mariadb"),
    ("postgres", "postgresql"),
)


def cpu_seconds(folder: Path) -> dict[str, float]:
    """Give the CPU seconds that each role has used so far; those of ended database sessions are their server's."""
    used: dict[str, float] = defaultdict(float)
    for role, process in processes(folder):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used[role] += times.user + times.system
            if role == "postgresql":
                used[role] += times.children_user + times.children_system
    return dict(used)


def memory(folder: Path) -> dict[str, float]:
    """Give the memory of each role in MiB now: proportional set size, so shared pages count once."""
    held: dict[str, float] = defaultdict(float)
    for role, process in processes(folder):
        with suppress(psutil.NoSuchProcess):
            held[role] += process.memory_full_info().pss / 2**20
    return dict(held)


def open_files(folder: Path) -> dict[str, int]:
    """Give the open file handles of each role, sockets included."""
    held: dict[str, int] = defaultdict(int)
    for role, process in processes(folder):
        with suppress(psutil.Error, OSError):
            held[role] += process.num_fds()
    return dict(held)


def processes(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Give the instance's processes. A database session's environment is not readable, its parent's is."""
    alive = list(psutil.process_iter())
    own: dict[int, str] = {}
    for process in alive:
        with suppress(psutil.Error, OSError):
            if role := _role(process, folder):
                own[process.pid] = role
    for process in alive:
        with suppress(psutil.Error, OSError):
            if role := own.get(process.pid) or own.get(process.ppid()):
                yield role, process


def _role(process: psutil.Process, folder: Path) -> str | None:
    if process.environ().get(MARK) != str(folder):
        return None
    command = " ".join(process.cmdline())
    return next((role for words, role in _ROLES if words in command), None)


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Give what was used between two readings; a process that started in between counts from its start."""
    return {
        role: seconds - (earlier if (earlier := before.get(role, 0.0)) <= seconds else 0.0)
        for role, seconds in after.items()
    }

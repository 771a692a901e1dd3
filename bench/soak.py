"""
Soak: business for hours, and what grows meanwhile: memory, file handles, RocksDB, topics, the write-ahead log.

A sample per interval goes to `soak.jsonl` at once, so that an ended run keeps what it has seen.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psycopg

from bench import resources
from bench.system import one
from schemas.errors import TongbuError
from tongbu.instance import ROOT, Instance

_SAMPLES = 60
_BLOCK = 512


def play(
    instance: Instance, hours: float, rate: float, file: Path, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Play business for so many hours; give the samples. Raise TongbuError where the load ends early."""
    seconds = hours * 3600
    options = {"rate": rate, "seconds": seconds}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    load = subprocess.Popen(
        [sys.executable, "-m", "tongbu.cli", "load", *arguments],
        env=instance.environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    began, samples = time.monotonic(), []
    try:
        with file.open("wb") as out:
            while load.poll() is None:
                found = sample(instance) | {"minutes": round((time.monotonic() - began) / 60, 2)}
                samples.append(found)
                out.write(orjson.dumps(found) + b"\n")
                out.flush()
                tell(_line(found))
                _wait(load, seconds / _SAMPLES)
    finally:
        load.terminate()
    if load.wait():
        raise TongbuError("the load ended early", f"Samples so far: {file}")
    return samples


def sample(instance: Instance) -> dict[str, Any]:
    """Give memory (MiB) and open files by role, and the sizes (MiB) of state, topics and the source's unread log."""
    data = instance.folder
    with psycopg.connect(instance.postgres_admin_dsn()) as postgres:
        lag = one(
            postgres,
            """SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)), 0)::bigint
                 FROM pg_replication_slots""",
        )
    return {
        "memory_mib": {role: round(held, 1) for role, held in resources.memory(data).items()},
        "files": resources.open_files(data),
        "state_mib": round(_size(data / "state") / 2**20, 1),
        "topics_mib": round(_size((data / "data/kafka").resolve()) / 2**20, 1),
        "slot_lag_mib": round(int(lag) / 2**20, 2),
    }


def growth(samples: list[dict[str, Any]], what: str) -> dict[str, float]:
    """
    Give what each role's memory (`memory_mib`) or `files` grew by per hour, by the medians of the second and the last quarter.

    The first quarter is left out: caches fill. So is a role that a sample lacks, as of a process that was just starting.
    Empty for fewer than eight samples.
    """
    quarter = len(samples) // 4
    if quarter < 2:
        return {}
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    hours = (late[0]["minutes"] - early[0]["minutes"]) / 60
    roles = set.intersection(*(set(each[what]) for each in (*early, *late)))
    return {
        role: round((_middle(late, what, role) - _middle(early, what, role)) / hours, 1)
        for role in sorted(roles)
    }


def _middle(samples: list[dict[str, Any]], what: str, role: str) -> float:
    values = sorted(each[what][role] for each in samples)
    return float(values[len(values) // 2])


def _size(folder: Path) -> int:
    """Give the bytes that a folder takes on the disk; a broker's index files are mostly holes."""
    taken = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            taken += file.lstat().st_blocks * _BLOCK
    return taken


def _line(found: dict[str, Any]) -> str:
    memory = ", ".join(f"{role} {held:.0f}" for role, held in found["memory_mib"].items())
    return (
        f"{found['minutes']:6.1f} min  MiB: {memory}; state {found['state_mib']}, "
        f"topics {found['topics_mib']}, slot {found['slot_lag_mib']}"
    )


def _wait(load: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        load.wait(seconds)
    except subprocess.TimeoutExpired:
        return

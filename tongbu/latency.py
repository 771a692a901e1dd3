"""
Latency: how long a source's commit takes to be applied in a target, and in which stage the time goes.

Both ends are commits, by one clock: PostgreSQL tells the time of each commit itself (at the source it stands in
the WAL, at the target `pg_xact_commit_timestamp` has it). MariaDB's binlog has whole seconds only, so there the
source's commit is what the load generator saw right after COMMIT, and the target's what the sink saw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg

#: (source, transaction) of a commit.
Transaction = tuple[str, str]

#: The stages of a change's way, each with the two times that it lies between.
STAGES = {
    "capture": ("committed", "captured"),
    "process": ("captured", "produced"),
    "apply": ("produced", "applied"),
    "total": ("committed", "applied"),
}
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Passage:
    """One transaction on its way to one target, in microseconds. `captured` is the broker's clock: whole ms."""

    transaction: Transaction
    committed: int
    captured: int
    produced: int
    applied: int

    def milliseconds(self, stage: str) -> float:
        """Give how long a stage took."""
        begin, end = STAGES[stage]
        return float(getattr(self, end) - getattr(self, begin)) / 1000


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Give p50, p95, p99, p99.9 and max by nearest rank: each is a value that occurred. Empty without values."""
    ranked = sorted(values)
    return {
        name: round(ranked[max(math.ceil(share * len(ranked)), 1) - 1], 3)
        for name, share in _QUANTILES.items()
        if ranked
    }


def by_stage(passages: Iterable[Passage]) -> dict[str, dict[str, float]]:
    """Give the percentiles of each stage, in ms."""
    found = list(passages)
    return {stage: percentiles(each.milliseconds(stage) for each in found) for stage in STAGES}


class Tail:
    """Follows a log of JSON lines, from its present end on; a file that is not there yet is an empty one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = file.stat().st_size if file.exists() else 0
        #: All lines read so far.
        self.lines: list[dict[str, Any]] = []

    def follow(self) -> list[dict[str, Any]]:
        """Give the lines that were completed since the last call."""
        if not self._file.exists():
            return []
        with self._file.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        fresh = [orjson.loads(line) for line in whole.splitlines()]
        self.lines += fresh
        return fresh


def passages(
    stage_log: Iterable[dict[str, Any]],
    journal: Mapping[Transaction, int],
    wal_clock: frozenset[str],
    target_commits: Mapping[str, int] | None = None,
) -> list[Passage]:
    """
    Join a target's stage log with the commits of a journal: (source, transaction) -> microseconds.

    `wal_clock` names the sources whose log tells commits exactly; for the others the journal's time holds.
    `target_commits` has the target's own commit times by its transaction id. Transactions that the journal
    does not know are left out; of one that was applied again after a crash, the first time counts.
    """
    found: dict[Transaction, Passage] = {}
    for line in stage_log:
        transaction = (line["source"], line["transaction"])
        if transaction not in journal or transaction in found:
            continue
        exact = line["committed_at"] if line["source"] in wal_clock else None
        found[transaction] = Passage(
            transaction,
            exact or journal[transaction],
            line["captured"],
            line["produced"],
            (target_commits or {}).get(line["target_tx"]) or line["applied"],
        )
    return list(found.values())


def commit_times(dsn: str, transactions: Iterable[str]) -> dict[str, int]:
    """Ask PostgreSQL when transactions (64-bit ids as text) committed, in microseconds; needs track_commit_timestamp."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            """select x, (extract(epoch from pg_xact_commit_timestamp(x::xid8::xid)) * 1000000)::bigint
                 from unnest(%s::text[]) x""",
            [sorted(set(transactions))],
        )
        return {transaction: at for transaction, at in rows if at is not None}

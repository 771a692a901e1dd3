"""
Latency: how long a source's commit takes to be applied in a target, and in which stage the time goes.

Both ends are commits, by one clock: PostgreSQL tells the time of each commit itself (at the source it stands in
the WAL, at the target `pg_xact_commit_timestamp` has it). MariaDB's binlog has whole seconds only, so there the
source's commit is what the load generator saw right after COMMIT, and the target's what the sink saw.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import psycopg

from sink_writers.stage_log import predecessor

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
    """
    Follows a log of JSON lines, from its present end on; a file that is not there yet is an empty one.

    A stage log may be turned over meanwhile: files stay open until nothing more comes into them, so each is known again
    under its other name and read to its end.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._open: list[BinaryIO] = []
        self._open = self._there()
        for each in self._open:
            each.seek(0, os.SEEK_END)
        #: All lines read so far.
        self.lines: list[dict[str, Any]] = []

    def follow(self) -> list[dict[str, Any]]:
        """Give the lines that were completed since the last call."""
        there = self._there()
        gone = [each for each in self._open if each not in there]
        fresh = [orjson.loads(line) for each in (*gone, *there) for line in _whole_lines(each)]
        for each in gone:
            each.close()
        self._open = there
        self.lines += fresh
        return fresh

    def _there(self) -> list[BinaryIO]:
        """Give what the log consists of now, oldest first."""
        there: list[BinaryIO] = []
        # In this order: what is turned over between the two looks is seen twice, not never.
        for place in (self._file, predecessor(self._file)):
            with suppress(FileNotFoundError):
                found = place.open("rb")
                same = (
                    each
                    for each in (*self._open, *there)
                    if os.path.sameopenfile(each.fileno(), found.fileno())
                )
                if (known := next(same, None)) is not None:
                    found.close()
                if known not in there:
                    there.insert(0, known or found)
        return there


def _whole_lines(file: BinaryIO) -> list[bytes]:
    """Read on; a line that is still being written is left."""
    whole, newline, rest = file.read().rpartition(b"\n")
    file.seek(-len(rest), os.SEEK_CUR)
    return (whole + newline).splitlines()


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

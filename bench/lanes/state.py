"""A state of a million row images, without Kafka: its size, opening, rebuilding, and what it costs per transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.lane_log import Log, head, line
from streams.checkpoints import Checkpoints
from streams.lane import Lane
from streams.seal import Seal
from streams.state import State

_BATCH, _BLOCK, _BLOCKS = 500, 1_000, 10
_NOTE = "a note as long as notes are in orders of a company " * 8


class _Side:
    """A lane over a state; `rows` images are in it."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.log, self.next, self.eating = Log().start(), 0, 0.0
        self._chance, self._new = random.Random(7), 10_000_000
        self.open()
        self.eat()

    def open(self) -> None:
        self.state = State(self.folder)
        self.lane = Lane("erp", 0, self.state, Seal(None), None)

    def fill(self) -> None:
        """Take a snapshot of all rows; `eating` says how long it took."""
        self.eating = 0.0
        for first in range(0, self.rows, _BATCH):
            for id_ in range(first, min(first + _BATCH, self.rows)):
                self.log.row("r", "head", head(id_, note=_NOTE))
            self.eat()

    def eat(self) -> None:
        """Process what the log has got."""
        records, self.log.records = self.log.records, []
        began = time.monotonic()
        for record in records:
            for _ in self.lane.process(record):
                pass
        self.next += len(records)
        self.lane.end_batch()
        self.state.commit(self.next)
        self.eating += time.monotonic() - began

    def block(self) -> float:
        """Process a block of transactions, changes of old orders and new ones; give CPU seconds."""
        batches = []
        for _ in range(0, _BLOCK, 100):
            for number in range(100):
                if number % 2 and self.rows:
                    id_ = self._chance.randrange(self.rows)
                    self.log.transaction(("u", "head", head(id_, 1, f"{_NOTE}{self._new}")))
                else:
                    self._new += 1
                    rows = [
                        ("c", "line", line(self._new * 10 + no, self._new, no)) for no in (1, 2)
                    ]
                    self.log.transaction(("c", "head", head(self._new, note=_NOTE)), *rows)
            batches.append(self.log.records)
            self.log.records = []
        began = time.process_time()
        for records in batches:
            self.log.records = records
            self.eat()
        return time.process_time() - began


def measure(rows: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Give the figures of a state with so many rows, beside one with a thousand."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        small, large = _Side(folder / "small", 1_000), _Side(folder / "large", rows)
        small.fill()
        tell(f"reading {rows:,} rows")
        large.fill()
        rebuilt = large.eating
        large.state.close()
        opened = _seconds(large.open)
        kept = Checkpoints(folder / "checkpoints", "cdc.erp", keep=1)
        made = _seconds(lambda: kept.make(large.state, large.next))
        restored = _seconds(lambda: kept.restore(large.next, folder / "restored"))
        tell("changing rows, in turn with the small state")
        pairs = [(small.block(), large.block()) for _ in _warm(_BLOCKS)]
        ratios = sorted(mine / other for other, mine in pairs[1:])
        size = sum(each.stat().st_size for each in large.folder.iterdir())
        for side in (small, large):
            side.state.close()
    return {
        "rows": rows,
        "disk_mb": round(size / 1e6),
        "open_seconds": round(opened, 2),
        "rebuild_seconds": round(rebuilt, 1),
        "rebuild_rows_per_second": round(rows / rebuilt),
        "checkpoint_seconds": round(made, 2),
        "restore_seconds": round(restored, 2),
        "us_per_transaction_small": round(min(each for each, _ in pairs[1:]) / _BLOCK * 1e6, 1),
        "us_per_transaction_large": round(min(each for _, each in pairs[1:]) / _BLOCK * 1e6, 1),
        "cost_ratio_median": round(ratios[len(ratios) // 2], 2),
    }


def _warm(blocks: int) -> Iterator[int]:
    """One block more than is counted."""
    yield from range(blocks + 1)


def _seconds(what: Callable[[], Any]) -> float:
    began = time.monotonic()
    what()
    return time.monotonic() - began

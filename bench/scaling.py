"""
Does cost grow linearly? The processor alone, without Kafka: CPU per transaction as state, rows and mappings grow.

Each case runs the same transactions (a header and two lines, new and then changed) through a lane with RocksDB, and is
compared with the base. The batch that took least counts: what else the machine does makes others slower, none faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from bench.lane_log import CAPTURED, MAPPING, ORDER, Log, declarations
from schemas import control
from schemas.captured import Column
from streams.lane import Lane
from streams.seal import Seal
from streams.state import State

_BATCH = 500
_MEASURED = 3000


@dataclass(frozen=True, slots=True)
class Case:
    """How large things are: transactions already in each state, columns of a header, mapped pairs of tables; how many lanes."""

    name: str
    earlier: int = 5_000
    columns: int = 10
    tables: int = 1
    sources: int = 1


BASE = Case("base")
CASES = (
    BASE,
    replace(BASE, name="10 x rows in state", earlier=50_000),
    replace(BASE, name="10 x columns", columns=100),
    replace(BASE, name="10 x mapped tables", tables=10),
    replace(BASE, name="4 sources", sources=4),
)


def run(cases: tuple[Case, ...], tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure each case; give one line per case, with its ratio to the first."""
    lines: list[dict[str, Any]] = []
    for case in cases:
        micros = measure(case)
        line = {"case": case.name, "us_per_transaction": round(micros, 1)}
        line["ratio"] = round(micros / (lines[0]["us_per_transaction"] if lines else micros), 2)
        lines.append(line)
        tell(f"{case.name:<20} {micros:7.1f} us per transaction, {line['ratio']:.2f} x")
    return lines


def measure(case: Case, measured: int = _MEASURED) -> float:
    """Give the CPU microseconds per transaction of the best batch; lanes take turns, as those of a worker do."""
    with TemporaryDirectory() as folder:
        log = log_of(case, measured)
        lanes = [_Lane(Path(folder) / str(number), log) for number in range(case.sources)]
        begin = len(log.records) - measured * 5  # BEGIN, three rows, END
        best = float("inf")
        for first in range(0, len(log.records), _BATCH):
            cpu, done = time.process_time(), sum(lane.batch(first) for lane in lanes)
            if first >= begin and first + _BATCH <= len(log.records):
                best = min(best, (time.process_time() - cpu) / done * 1e6)
        for lane in lanes:
            lane.state.close()
    return best


class _Lane:
    """A lane that reads a log in batches, each committed, as the processor does."""

    def __init__(self, folder: Path, log: Log) -> None:
        self.state = State(folder)
        self._lane = Lane("erp", 0, self.state, Seal(None), None)
        self._records = log.records

    def batch(self, first: int) -> int:
        """Read a batch; give how many transactions it ended."""
        before = self._lane.counters.transactions
        batch = self._records[first : first + _BATCH]
        for record in batch:
            for _ in self._lane.process(record):
                pass
        self._lane.end_batch()
        self.state.commit(batch[-1].offset + 1)
        return self._lane.counters.transactions - before


def log_of(case: Case, measured: int) -> Log:
    """Give the lane log of a case: what is in the state before, then the transactions that are measured."""
    log = Log()
    log.control(control.Lane(source="erp", epoch=1, topic_id="t1"))
    for record in _declared(case):
        log.control(record)
    extra = {f"c{number}": f"value {number}" for number in range(case.columns)}
    for number in range(case.earlier + measured):
        table, order = number % case.tables, number // 2  # every order is written twice
        head = {
            "id": order,
            "code": f"SO{order}",
            "state": number % 2,
            "note": "n",
            "returned": False,
        }
        rows: list[tuple[str, str, dict[str, Any]]] = [("c", f"head{table}", head | extra)]
        rows += [
            ("c", f"line{table}", {"id": order * 2 + line, "head_id": order, "no": line, "amount": f"{number}.5"})
            for line in (0, 1)
        ]  # fmt: skip
        log.transaction(*rows)
    return log


def _declared(case: Case) -> tuple[control.CapturedSchema, control.Declarations]:
    """Give captured schema and declarations of as many pairs of tables, each its own entity."""
    head, line = CAPTURED.tables
    wide = tuple(Column(name=f"c{number}", type="text") for number in range(case.columns))
    tables, mappings, schemas = [], [], []
    common = [each for each in declarations().schemas if each.topic != "canonical.order.v1"]
    for number in range(case.tables):
        tables.append(
            msgspec.structs.replace(head, name=f"head{number}", columns=head.columns + wide)
        )
        tables.append(msgspec.structs.replace(line, name=f"line{number}"))
        mapping = deepcopy(MAPPING) | {"mapping": f"t.order{number}", "entity": f"order{number}", "from": f"public.head{number}"}  # fmt: skip
        mapping["parts"]["lines"]["from"] = f"public.line{number}"  # type: ignore[index]
        mappings.append({"file": f"t/order{number}.yaml", "declaration": mapping})
        schemas.append(control.OutputSchema(topic=f"canonical.order{number}.v1", id=number + 10, schema=ORDER))  # fmt: skip
    declared = msgspec.structs.replace(
        declarations(), mappings=tuple(mappings), schemas=(*common, *schemas)
    )
    return msgspec.structs.replace(CAPTURED, tables=tuple(tables)), declared

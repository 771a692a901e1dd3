"""The lane log that both sides read: orders of a header with 25 columns, all of them mapped, and two lines."""

from __future__ import annotations

import itertools
import time
from copy import deepcopy

import msgspec
from confluent_kafka import Producer

from bench.lane_log import CAPTURED, MAPPING, ORDER, Log, declarations
from schemas import control
from schemas.captured import Column
from streams.records import LaneRecord

#: Rows and lane records of a transaction: header and lines; with BEGIN and END.
ROWS, RECORDS = 3, 5
_EXTRA = tuple(f"c{number:02}" for number in range(20))


class Orders:
    """Writes a lane log, record by record; every third transaction changes an order that is there."""

    def __init__(self, topic_id: str) -> None:
        self._log = Log()
        self._number = itertools.count()
        self._log.control(control.Lane(source="erp", epoch=1, topic_id=topic_id))
        for record in _declared():
            self._log.control(record)

    def transaction(self) -> list[LaneRecord]:
        """Give the records of the next transaction, and those that every lane begins with before the first."""
        number = next(self._number)
        order = number - number // 3 - (number % 3 == 2)  # 0 1 1, 2 3 3, …
        head = {"id": order, "code": f"SO{order:08}", "state": number % 2, "note": "n", "returned": False}  # fmt: skip
        extra = {name: f"{name} of order {order}" for name in _EXTRA}
        operation = "u" if number % 3 == 2 else "c"
        lines = [
            {"id": order * 2 + no, "head_id": order, "no": no, "amount": f"{number}.5000"}
            for no in (0, 1)
        ]
        self._log.transaction(
            (operation, "head", head | extra), *((operation, "line", line) for line in lines)
        )
        records, self._log.records = self._log.records, []
        return records


def _declared() -> tuple[control.CapturedSchema, control.Declarations]:
    head, line = CAPTURED.tables
    wide = msgspec.structs.replace(
        head, columns=head.columns + tuple(Column(name=name, type="text") for name in _EXTRA)
    )
    mapping, order = deepcopy(MAPPING), deepcopy(ORDER)
    mapping["fields"] |= {name: name for name in _EXTRA}  # type: ignore[operator]
    text = [{"name": name, "type": ["null", "string"], "default": None} for name in _EXTRA]
    order["fields"] += text  # type: ignore[operator]
    declared = declarations(mapping)
    schemas = tuple(
        msgspec.structs.replace(each, schema=order) if each.topic == "canonical.order.v1" else each
        for each in declared.schemas
    )
    captured = msgspec.structs.replace(CAPTURED, tables=(wide, line))
    return captured, msgspec.structs.replace(declared, schemas=schemas)


class Writer:
    """Appends transactions to a lane log of a broker."""

    def __init__(self, bootstrap: str, topic: str, orders: Orders) -> None:
        self._topic, self._orders = topic, orders
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": 0,
                "queue.buffering.max.messages": 500_000,
                "log_level": 0,
            }
        )

    def backlog(self, transactions: int) -> None:
        """Append so many at once."""
        for _ in range(transactions):
            self._append(self._orders.transaction())
        self._producer.flush()

    def load(self, per_second: float, seconds: float) -> list[float]:
        """Append at a steady rate, open loop; give when each was due, seconds since the epoch."""
        due = [each / per_second for each in range(int(per_second * seconds))]
        began = time.time()
        for at in due:
            records = self._orders.transaction()
            time.sleep(max(0.0, began + at - time.time()))
            self._append(records)
            self._producer.poll(0)
        self._producer.flush()
        return [began + at for at in due]

    def _append(self, records: list[LaneRecord]) -> None:
        for record in records:
            self._producer.produce(self._topic, record.value, record.key, 0)

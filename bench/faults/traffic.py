"""Traffic for the crash runner: business as usual, what a killed capture repeats, control records, giants."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

from bench.lane_log import MAPPING, Log, captured, declarations, head, line
from schemas import control
from schemas.captured import Column
from streams.records import LaneRecord

#: One amount in so many can't be mapped: its order is withheld until a later good change.
_POISON = 25
_LINES = 3
#: What goes over all orders, or over all that are withheld, comes once per so many new ones: more often, and long runs
#: would do nothing else.
_ORDERS_PER_SWEEP = 5_000


class Orders:
    """The live orders, id -> its number of lines; any of them is found in the same time, however many there are."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lines: dict[int, int] = {}
        self._ids: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._ids)

    def __setitem__(self, id_: int, lines: int) -> None:
        self._lines[id_] = lines
        self._ids.append(id_)

    def any(self) -> int:
        """Give one."""
        place = self._chance.randrange(len(self._ids))
        self._ids[place], self._ids[-1] = self._ids[-1], self._ids[place]
        return self._ids[-1]

    def some(self, count: int) -> list[int]:
        """Give up to so many."""
        return self._ids[-count:]

    def pop(self, id_: int) -> int:
        """Remove the one that `any` gave last; give its number of lines."""
        self._ids.pop()
        return self._lines.pop(id_)


class Traffic:
    """Writes one lane log."""

    def __init__(self, source: str, topic_id: str, seed: int) -> None:
        self._random = random.Random(f"{seed}/{source}")
        self._log = Log(source)
        self._source = source
        self._orders = Orders(self._random)
        #: The records of the last transactions, whether they are taken or not.
        self._last: list[list[LaneRecord]] = []
        self._number = 0
        self._fills = self._captured = 0
        self._log.control(control.Lane(source=source, epoch=1, topic_id=topic_id))
        self._log.control(captured(source))
        self._log.control(declarations(source=source))

    def step(self) -> None:
        """Write one transaction, now and then with a control record or a repeat from capture."""
        chance = self._random.random()
        start = len(self._log.records)
        self._log.transaction(*self._rows())
        written = self._log.records[start:]
        if chance < 0.02:
            self._repeat(written)
        elif chance < 0.03:
            self._control()
        self._last = [*self._last[-4:], written]

    def giant(self, rows: int) -> None:
        """Write one transaction of so many rows."""
        made: list[tuple[Any, ...]] = []
        while len(made) < rows:
            made += self._create()
        self._log.transaction(*made)
        self._last = []  # what comes again is what came last, without gaps

    def take(self) -> list[Any]:
        """Give what was written since the last call."""
        taken, self._log.records = self._log.records, []
        return taken

    def _rows(self) -> list[tuple[Any, ...]]:
        action = self._random.random()
        if action < 0.45 or not self._orders:
            return self._create()
        id_ = self._orders.any()
        if action < 0.55:
            return [("u", "line", self._line(id_, 1))]
        if action < 0.65:
            lines = self._orders.pop(id_)
            gone = [("d", "line", None, {"id": id_ * 10 + no}) for no in range(1, lines + 1)]
            return [*gone, ("d", "head", None, {"id": id_})]
        code = f"SO{id_}-{self._random.randrange(100)}" if action < 0.70 else None
        note = f"note {self._random.randrange(3)}"
        return [("u", "head", head(id_, self._random.randrange(2), note, code))]

    def _create(self) -> list[tuple[Any, ...]]:
        self._number += 1
        id_, count = self._number, self._random.randint(1, _LINES)
        self._orders[id_] = count
        lines = [("c", "line", self._line(id_, no)) for no in range(1, count + 1)]
        return [("c", "head", head(id_)), *lines]

    def _line(self, id_: int, no: int) -> dict[str, Any]:
        poison = self._random.randrange(_POISON) == 0
        amount = "NaN" if poison else f"{self._random.randrange(1000)}.2500"
        return line(id_ * 10 + no, id_, no, amount)

    def _repeat(self, last: list[LaneRecord]) -> None:
        """Do as a killed capture: the last transaction cut off, then some again, then all of the last."""
        again = self._last[-self._random.randint(1, 4) :]
        records = self._log.records
        del records[len(records) - len(last) + self._random.randint(1, len(last)) :]
        for each in [*again, last]:
            for record in each:
                self._log.add(record.value, record.key, record.headers)

    def _control(self) -> None:
        kind = self._random.randrange(5)
        ids = tuple(f"{self._source}:SO{id_}" for id_ in self._orders.some(20))
        if kind == 0:
            version = self._random.randint(1, 3)
            mapping = MAPPING | {"version": version}
            self._log.control(declarations(mapping, self._source, f"h{version}"))
        elif kind == 1 and self._number >= self._fills * _ORDERS_PER_SWEEP:
            self._fills += 1
            fill = f"fill-{self._fills}"
            self._log.control(
                control.Republish(source=self._source, entity="order", fill=fill, limit=200)
            )
        elif kind == 2 and self._number >= self._captured * _ORDERS_PER_SWEEP:
            self._captured += 1
            extra = (Column(name=f"extra{self._captured}", type="text"),)
            self._log.control(captured(self._source, extra))
        elif kind == 3:
            self._log.control(control.Skip(source=self._source, entity="order", ids=ids[:3]))
        else:
            self._log.control(control.Retry(source=self._source, entity="order", ids=ids))


class Load(threading.Thread):
    """Appends traffic to its lane logs at a steady rate (transactions/s, all lanes together) until it is stopped."""

    def __init__(
        self, bootstrap: str, lanes: dict[str, Traffic], topic: Callable[[str], str], rate: float
    ) -> None:
        super().__init__(name="load", daemon=True)
        self._lanes, self._topic, self._rate = lanes, topic, rate
        self._stop_asked = threading.Event()
        self._giants: list[tuple[str, int]] = []
        self._failed: str | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 1,
                "delivery.timeout.ms": 300_000,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )

    def giant(self, source: str, rows: int) -> None:
        """Ask for a transaction of so many rows."""
        self._giants.append((source, rows))

    def run(self) -> None:
        """Write until `stop`."""
        started, written = time.monotonic(), 0
        sources = list(self._lanes)
        while not self._stop_asked.wait(0.005):
            due = int((time.monotonic() - started) * self._rate)
            for number in range(written, due):
                self._lanes[sources[number % len(sources)]].step()
            written = due
            while self._giants:
                source, rows = self._giants.pop()
                self._lanes[source].giant(rows)
            self._send()
        self._send()
        self._producer.flush(300)

    def stop(self) -> None:
        """End after what was written is delivered; raise RuntimeError where it is not."""
        self._stop_asked.set()
        self.join()
        if self._failed or len(self._producer):
            raise RuntimeError(f"the load could not be written: {self._failed or 'time-out'}")

    def _send(self) -> None:
        for source, traffic in self._lanes.items():
            for record in traffic.take():
                self._produce(self._topic(source), record)
        self._producer.poll(0)

    def _produce(self, topic: str, record: Any) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, record.value, record.key, 0, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failed = str(error)

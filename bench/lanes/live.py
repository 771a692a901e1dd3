"""Live traffic in one lane, and how long it takes from the append to the output."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.faults.arena import SOURCES, Arena
from bench.lane_log import Log, captured, declarations, head, line
from schemas import control
from tongbu import topics
from tongbu.latency import percentiles

#: A live transaction's message is smaller, a chunk of a republish or a part of a giant is larger.
_LIVE_BYTES = 4_000
_CHUNK = 5_000
#: Ids of live orders begin here, above those of prepared rows.
_LIVE_IDS = 100_000_000


class Writer:
    """Appends to lane logs."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.logs = {source: Log(source) for source in SOURCES}
        self._lock = threading.Lock()
        self._producer = Producer(
            {
                "bootstrap.servers": arena.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 0,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )
        for source, log in self.logs.items():
            log.control(control.Lane(source=source, epoch=1, topic_id=arena.topic_id(source)))
            log.control(captured(source))
            log.control(declarations(source=source))
            self.send(source)
        self.flush()

    def send(self, source: str) -> None:
        """Append what the log of a source has got."""
        with self._lock:
            log = self.logs[source]
            records, log.records = log.records, []
            for record in records:
                self._produce(self._arena.lane_topic(source), record)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until all is there."""
        self._producer.flush(120)

    def snapshot(self, source: str, rows: int, note: str) -> None:
        """Append so many heads as a snapshot reads them."""
        log = self.logs[source]
        for first in range(0, rows, _CHUNK):
            for id_ in range(first + 1, min(first + _CHUNK, rows) + 1):
                log.row("r", "head", head(id_, note=note))
            self.send(source)

    def giant(self, source: str, rows: int) -> None:
        """Append one transaction that creates so many heads."""
        log = self.logs[source]
        log.xid += 1
        log.begin(log.xid)
        for id_ in range(1, rows + 1):
            log.row("c", "head", head(id_), xid=log.xid)
            if id_ % _CHUNK == 0:
                self.send(source)
        log.end(log.xid)
        self.send(source)

    def _produce(self, topic: str, record: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, record.value, record.key, 0)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return


class Traffic(threading.Thread):
    """Orders with two lines at a steady rate, until it is stopped."""

    def __init__(self, writer: Writer, source: str, rate: float) -> None:
        super().__init__(name="traffic", daemon=True)
        self._writer, self._source, self._rate = writer, source, rate
        self._ended = threading.Event()

    def run(self) -> None:
        """Write until `stop`."""
        began, written = time.monotonic(), 0
        while not self._ended.wait(max(0.0, began + written / self._rate - time.monotonic())):
            written += 1
            id_ = _LIVE_IDS + written
            rows = [("c", "line", line(id_ * 10 + no, id_, no)) for no in (1, 2)]
            self._writer.logs[self._source].transaction(("c", "head", head(id_)), *rows)
            self._writer.send(self._source)

    def stop(self) -> None:
        """Write no more."""
        self._ended.set()
        self.join()


@dataclass(frozen=True, slots=True)
class Seen:
    """A live transaction as a reader of its topic saw it: times in seconds since 1970."""

    appended: float
    consumed: float


class Meter(threading.Thread):
    """Reads the transaction messages of a source as a sink would."""

    def __init__(self, arena: Arena, source: str) -> None:
        super().__init__(name="meter", daemon=True)
        self.seen: list[Seen] = []
        self._ended = threading.Event()
        topic, partition = f"{arena.prefix}canonical.transactions.v1", SOURCES[source]
        self._consumer = Consumer(
            {"bootstrap.servers": arena.bootstrap, "group.id": "meter", "log_level": 0}
        )
        end = topics.ends(arena.bootstrap, [topic])[topic, partition]
        self._consumer.assign([TopicPartition(topic, partition, end)])

    def run(self) -> None:
        """Note every live transaction until `stop`."""
        while not self._ended.is_set():
            for message in self._consumer.consume(100, 0.02):
                now = time.time()
                if message.error() is None and len(message.value()) < _LIVE_BYTES:
                    clock = orjson.loads(dict(message.headers())["stage-clock"])
                    self.seen.append(Seen(clock["captured"] / 1e6, now))
        self._consumer.close()

    def between(self, begin: float, end: float) -> dict[str, float]:
        """Give count and percentiles of append to consumed, in ms, of what was appended between two times."""
        return _figures(each for each in list(self.seen) if begin <= each.appended < end)

    def first_after(self, moment: float, seconds: float = 60.0) -> float:
        """Give when the first transaction that was appended after a moment was consumed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = [each.consumed for each in self.seen[-200:] if each.appended > moment]
            if found:
                return min(found)
            time.sleep(0.005)
        raise TimeoutError(f"nothing came for {seconds:.0f} s")

    def stop(self) -> None:
        """Read no more."""
        self._ended.set()
        self.join()


def _figures(seen: Iterable[Seen]) -> dict[str, float]:
    values = [(each.consumed - each.appended) * 1000 for each in seen]
    return {"count": len(values), **(percentiles(values) if values else {})}

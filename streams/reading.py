"""
Reading lane logs: librdkafka fetches, and the event loop takes batches from it when they are there.

It is no member of any group: which partitions are read, and from where, is said by whoever owns their states. One
`Reading` lives as long as one assignment, so what it gives is never of another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from faust.types import TP

from streams.records_waiting import RecordsWaiting

#: Records per batch: bounds the latency of the other lanes and the size of a state write.
BATCH_RECORDS = 500
#: Capture sends the records of a transaction one by one: its END is waited for this long, so that it makes one batch.
_GATHER_SECONDS = 0.002
#: How often it is looked whether a partition that was full takes more.
_PAUSED_SECONDS = 0.05
#: How the END of a transaction begins as Debezium writes it. Batches may be cut anywhere: this only saves work.
_END = b'{"status":"END"'

_SETTINGS = {
    "group.id": "tongbu-lane-reader",  # librdkafka wants one; it is never joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "socket.nagle.disable": True,
    "reconnect.backoff.max.ms": 1000,
    "queued.max.messages.kbytes": 16 * 1024,
    "fetch.queue.backoff.ms": 20,
    "log_level": 0,  # a broker that is away has twenty lines a second; the trouble with it is told once
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A batch: confluent_kafka messages of one partition, in order; `number` counts the batches of a reading from 1."""

    reading: Reading
    number: int
    tp: TP
    messages: list[Any]


class Reading:
    """Reads partitions from given offsets until `stop`; those that are `full` at a time are left out."""

    def __init__(
        self,
        bootstrap: str,
        starts: Mapping[TP, int],
        full: Callable[[], Collection[TP]] = frozenset,
    ) -> None:
        self._consumer = Consumer(_SETTINGS | {"bootstrap.servers": bootstrap})
        self._consumer.assign([TopicPartition(*tp, start) for tp, start in starts.items()])
        self._full, self._paused = full, set[TP]()
        #: Gathered and not taken yet.
        self._batches: deque[tuple[TP, list[Any]]] = deque()
        self._taken = self._begun = 0
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        #: There may be records, or there was enough waiting.
        self._ready = asyncio.Event()
        self._waiting = RecordsWaiting(self._consumer)
        self._loop.add_reader(self._waiting, self._records_wait)

    async def take(self) -> Fetched | None:
        """
        Give the next batch; None where the reading has been stopped.

        Raise KafkaException where the log can't be read on, e.g. because the offset is no longer there.
        """
        if not self._batches:
            self._batches.extend(self._by_partition(await self._gather()))
        if self._stopped:
            return None
        self._taken += 1
        return Fetched(self, self._taken, *self._batches.popleft())

    def begin(self, fetched: Fetched) -> None:
        """Say that a batch is processed now; raise RuntimeError where the one before it was lost on its way, or the reading is over."""
        if self._stopped:
            raise RuntimeError(f"batch {fetched.number} came when its reading was over")
        self._begun += 1
        if fetched.number != self._begun:
            raise RuntimeError(f"batch {fetched.number} came instead of batch {self._begun}")

    def end(self, tp: TP) -> int | None:
        """Give the end of a partition's log as of the last fetch; for any thread."""
        try:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*tp), cached=True)
        except (RuntimeError, KafkaException):  # stopped meanwhile; not read
            return None
        return end if end >= 0 else None

    async def stop(self) -> None:
        """Read no more; who waits for a batch gets none."""
        self._stopped = True
        self._ready.set()
        self._loop.remove_reader(self._waiting)
        self._waiting.close()
        await asyncio.to_thread(self._consumer.close)

    async def _gather(self) -> list[Any]:
        """Give what has come; wait for the first record, and a little for the rest of a transaction."""
        messages: list[Any] = []
        until = 0.0
        others_had_turns = False
        while not self._stopped:
            self._ready.clear()
            self._pause()
            messages += self._consumer.consume(BATCH_RECORDS - len(messages), 0)
            if not messages:
                await self._wait(_PAUSED_SECONDS if self._paused else None)
                others_had_turns = True
                continue
            if len(messages) == BATCH_RECORDS or _ends_transaction(messages[-1]):
                break
            now = self._loop.time()
            until = until or now + _GATHER_SECONDS
            if now >= until:
                break
            await self._wait(until - now)
            others_had_turns = True
        if not others_had_turns:  # in a backlog nothing is waited for
            await asyncio.sleep(0)
        return messages

    async def _wait(self, seconds: float | None) -> None:
        """Wait until there may be records, at most so long."""
        if seconds is None:
            await self._ready.wait()
            return
        timer = self._loop.call_later(seconds, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            timer.cancel()

    def _records_wait(self) -> None:
        self._waiting.clear()
        self._ready.set()

    def _pause(self) -> None:
        """Leave out what is full: more of it would only wait in memory."""
        full = set(self._full())
        if full != self._paused:
            self._consumer.pause([TopicPartition(*tp) for tp in full - self._paused])
            self._consumer.resume([TopicPartition(*tp) for tp in self._paused - full])
            self._paused = full

    @staticmethod
    def _by_partition(messages: list[Any]) -> list[tuple[TP, list[Any]]]:
        found: dict[TP, list[Any]] = {}
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            found.setdefault(TP(message.topic(), message.partition()), []).append(message)
        return list(found.items())


def _ends_transaction(message: Any) -> bool:
    value = message.value()
    return value is not None and value.startswith(_END)

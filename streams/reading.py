"""
Reading lane logs: librdkafka fetches, in one small thread, and hands batches over to the event loop.

It is no member of any group: which partitions are read, and from where, is said by whoever owns their states. One
`Reading` lives as long as one assignment, so what it hands over is never of another one.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from faust.types import TP

#: Records per batch: bounds the latency of the other lanes and the size of a state write.
BATCH_RECORDS = 500
#: Batches that are handed over and not processed; more waits in librdkafka, outside of Python.
_BATCHES_AHEAD = 2
#: Capture sends the records of a transaction one by one: its END is waited for this long, so that it makes one batch.
_GATHER_SECONDS = 0.002
#: How long a record is waited for at a time, and how old what is known of the logs' ends may be.
_IDLE_SECONDS = 0.25
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
        self._loop = asyncio.get_running_loop()
        self._consumer = Consumer(_SETTINGS | {"bootstrap.servers": bootstrap})
        self._consumer.assign([TopicPartition(*tp, start) for tp, start in starts.items()])
        self._full, self._paused = full, set[TP]()
        self._ends: dict[TP, int | None] = dict.fromkeys(starts)
        self._batches: asyncio.Queue[Fetched | None] = asyncio.Queue()
        self._made = self._begun = 0
        self._ahead = threading.Semaphore(_BATCHES_AHEAD)
        self._failure: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lane-reader", daemon=True)
        self._thread.start()

    async def take(self) -> Fetched | None:
        """
        Give the next batch; None where the reading has been stopped.

        Raise what has ended the reading: KafkaException where the log can't be read on, e.g. because the offset is no
        longer there.
        """
        found = await self._batches.get()
        if self._failure is not None:
            raise self._failure
        return found

    def begin(self, fetched: Fetched) -> None:
        """Say that a batch is processed now; raise RuntimeError where the one before it was lost on its way, or the reading is over."""
        if self._stopped.is_set():
            raise RuntimeError(f"batch {fetched.number} came when its reading was over")
        self._begun += 1
        if fetched.number != self._begun:
            raise RuntimeError(f"batch {fetched.number} came instead of batch {self._begun}")

    def done(self) -> None:
        """Say that a batch that was taken is done with."""
        self._ahead.release()

    def end(self, tp: TP) -> int | None:
        """Give the end of a partition's log as it was some tenths of a second ago."""
        return self._ends.get(tp)

    async def stop(self) -> None:
        """Read no more; who waits for a batch gets none."""
        self._stopped.set()
        self._ahead.release()
        self._batches.put_nowait(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        noted = -math.inf
        try:
            while not self._stopped.is_set():
                self._pause()
                gathered = self._gather()
                for tp, messages in self._by_partition(gathered):
                    self._ahead.acquire()
                    if self._stopped.is_set():
                        break
                    self._made += 1
                    fetched = Fetched(self, self._made, tp, messages)
                    self._loop.call_soon_threadsafe(self._batches.put_nowait, fetched)
                if time.monotonic() - noted > _IDLE_SECONDS:
                    self._note_ends()
                    noted = time.monotonic()
        except (
            Exception
        ) as error:  # whatever it is, a reader that has ended must not be taken for a quiet log
            self._failure = error
            self._loop.call_soon_threadsafe(self._batches.put_nowait, None)
        finally:
            self._consumer.close()

    def _pause(self) -> None:
        """Leave out what is full: more of it would only wait in memory."""
        full = set(self._full())
        if full != self._paused:
            self._consumer.pause([TopicPartition(*tp) for tp in full - self._paused])
            self._consumer.resume([TopicPartition(*tp) for tp in self._paused - full])
            self._paused = full

    def _note_ends(self) -> None:
        """Keep what the client knows of the ends: it can be asked in this thread only, others wait until `poll` is over."""
        for tp in self._ends:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*tp), cached=True)
            if end >= 0:
                self._ends[tp] = end

    def _gather(self) -> list[Any]:
        """Give what has come; wait a little for the rest of a transaction."""
        poll, consume = self._consumer.poll, self._consumer.consume
        first = poll(_PAUSED_SECONDS if self._paused else _IDLE_SECONDS)
        if first is None:
            return []
        messages = [first, *consume(BATCH_RECORDS - 1, 0)]
        until = time.monotonic() + _GATHER_SECONDS
        while len(messages) < BATCH_RECORDS and not _ends_transaction(messages[-1]):
            more = poll(max(0.0, until - time.monotonic()))
            if more is None:
                break
            messages += [more, *consume(BATCH_RECORDS - len(messages) - 1, 0)]
        return messages

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

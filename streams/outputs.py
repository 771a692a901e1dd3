"""Outputs: what lanes make goes to Kafka, and each batch knows when the broker has all of it."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import orjson
from confluent_kafka import Producer

from streams.records import Output
from streams.state import Writes

#: So much of a batch is sent at once: between two outputs that come one by one the client would send each in a request
#: of its own, which costs it, the broker and every reader more than the output itself.
SENT_TOGETHER, SENT_TOGETHER_BYTES = 200, 1024 * 1024


class Batch:
    """A batch of a lane log under way: `waiting` of its outputs are not delivered; `writes` once it has ended."""

    def __init__(self, taken: list[Any] | None = None) -> None:
        #: The records themselves, until the batch departs.
        self.taken = taken or []
        self.records = 0
        self.waiting = 0
        self.writes: Writes | None = None
        #: What the lane appends to its own log: sent when all else is delivered, and not before `next_at`.
        self.asked: deque[Output] = deque()
        #: What is made and not sent yet, and its bytes.
        self.ready: deque[Output] = deque()
        self.ready_bytes = 0
        self.began = time.monotonic()
        #: Wall clock, in microseconds since the epoch.
        self.received = time.time_ns() // 1000
        self.ended = 0.0
        self.next_at = 0.0
        self.failed: str | None = None

    def gather(self, output: Output) -> bool:
        """Add an output; tell whether it is time to send what is ready."""
        self.ready.append(output)
        self.ready_bytes += len(output.value or b"")
        return len(self.ready) >= SENT_TOGETHER or self.ready_bytes >= SENT_TOGETHER_BYTES

    def on_delivery(self, error: Any, message: Any) -> None:
        """Take the broker's answer for one output."""
        self.waiting -= 1
        if error is not None:
            self.failed = f"{message.topic()}: {error}"

    @property
    def delivered(self) -> bool:
        """Tell whether nothing more is to come."""
        return self.writes is not None and self.waiting == 0 and not self.asked

    def due(self, now: float) -> Output | None:
        """Give what the lane may append to its own log now."""
        if self.asked and self.writes is not None and self.waiting == 0 and now >= self.next_at:
            return self.asked.popleft()
        return None


class Outputs:
    """
    The producer. It has no thread of its own on our side: `poll` takes the broker's answers.

    `delivery_seconds`: an output that the broker did not take within them has failed.
    """

    def __init__(self, bootstrap: str, namespace: str, delivery_seconds: float) -> None:
        self._namespace = namespace
        self._settings = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "partitioner": "murmur2_random",
            "socket.nagle.disable": True,
            "reconnect.backoff.max.ms": 1000,  # a broker that is back is found at once
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 128 * 1024,
            "delivery.timeout.ms": int(delivery_seconds * 1000),
            "message.max.bytes": 16 * 1024 * 1024,
            "log_level": 0,  # a broker that is away has twenty lines a second; the trouble with it is told once
        }
        self._producer = Producer(self._settings)

    def forget(self) -> None:
        """Send nothing more of what was produced; what is on its way may arrive, as before a crash."""
        self._producer.purge()
        # A new one: idempotence does not go on after a message that failed.
        self._producer = Producer(self._settings)

    def produce(self, output: Output, batch: Batch) -> bool:
        """Send an output; False where there is no room for it yet."""
        headers = output.headers
        if output.captured is not None:
            times = {
                "captured": output.captured,
                "received": batch.received,
                "produced": time.time_ns() // 1000,
            }
            headers = (*headers, ("stage-clock", orjson.dumps(times)))
        try:
            self._producer.produce(
                self._namespace + output.topic,
                output.value,
                output.key,
                output.partition,
                on_delivery=batch.on_delivery,
                headers=list(headers),
            )
        except BufferError:
            return False
        batch.waiting += 1
        return True

    def poll(self) -> None:
        """Take the answers that have come."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait for all answers; for whoever has nothing else to do meanwhile."""
        self._producer.flush()

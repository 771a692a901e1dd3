"""
The transactions topic as a binding reads it: a consumer whose positions come from the target, not from Kafka.

Partitions are given by the consumer group; reading starts when the runner says where. Offsets are
committed to Kafka as well, after the target's commit, so that every lag tool tells the truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from schemas.errors import ServiceUnavailable, TongbuError
from sink_writers.messages import Raw

#: Most messages of one target transaction; more is not faster (see docs of the sink's figures).
_BATCH = 500
_TIMEOUT_S = 5.0
#: A dead owner's partitions move on after this; above the targets' lock time-outs.
_SESSION_MS = 6000

_SETTINGS: dict[str, Any] = {
    "enable.auto.offset.store": False,
    "auto.commit.interval.ms": 1000,
    "auto.offset.reset": "error",
    "session.timeout.ms": _SESSION_MS,
    "heartbeat.interval.ms": 1500,
    # Latency: ask again at once when the queue is empty, and don't wait to fill packets.
    "fetch.queue.backoff.ms": 1,
    "fetch.error.backoff.ms": 100,
    "socket.nagle.disable": True,
    "reconnect.backoff.max.ms": 1000,
    # Memory: what is fetched ahead; decoded it takes several times as much.
    "queued.max.messages.kbytes": 16384,
    "log_level": 0,
}

log = structlog.get_logger("sink")


class TransactionLog:
    """One binding's reader. `given` are partitions that wait for `start`; those taken away call `on_lost`."""

    def __init__(self, bootstrap: str, topic: str, group: str) -> None:
        self.topic = topic
        self.given: set[int] = set()
        self._taken: set[int] = set()
        self._bootstrap = bootstrap
        self._trouble = ""
        common = {"bootstrap.servers": bootstrap, "error_cb": self._report}
        self._admin = AdminClient(common | {"log_level": 0})
        self._consumer = Consumer(common | {"group.id": group} | _SETTINGS)

    def topic_id(self) -> str:
        """Give the topic's id; raise ServiceUnavailable where the broker or the topic is not there (yet)."""
        try:
            request = self._admin.describe_topics(
                TopicCollection([self.topic]), request_timeout=_TIMEOUT_S
            )
            return str(request[self.topic].result().topic_id)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise ServiceUnavailable(
                    f"the topic {self.topic} is not there", "`tongbu apply` makes it."
                ) from None
            raise self._unavailable(error) from None

    def subscribe(self) -> None:
        """Join the group; partitions appear in `given`."""
        self._consumer.subscribe(
            [self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def start(self, offsets: dict[int, int]) -> None:
        """Read the given partitions from these offsets; 0 means from the beginning of what is there."""
        begins = [
            TopicPartition(self.topic, partition, self._within(partition, offset))
            for partition, offset in offsets.items()
        ]
        self._consumer.assign(begins)
        # A pause outlasts that a partition was taken away: `idle` may have been what it was taken away in.
        self._consumer.resume(begins)
        self._taken |= set(offsets)
        self.given -= set(offsets)
        # What was applied before a crash may not have been told to Kafka.
        self._consumer.store_offsets(offsets=begins)

    def read(self, seconds: float) -> list[Raw]:
        """Give what is there: at once if there is anything, else after the first record or the time."""
        first = self._consumer.poll(seconds)
        if first is None:
            return []
        rest = self._consumer.consume(_BATCH - 1, 0) if first.error() is None else []
        return [_raw(message) for message in (first, *rest) if not self._failed(message)]

    def idle(self, seconds: float, still: Callable[[], bool]) -> None:
        """Stay in the group without reading, while `still` holds; ends early where partitions come or go."""
        until = time.monotonic() + seconds
        assigned = self._consumer.assignment()
        self._consumer.pause(assigned)
        before = set(self._taken), set(self.given)
        while (
            (left := until - time.monotonic()) > 0
            and still()
            and before == (self._taken, self.given)
        ):
            message = self._consumer.poll(min(left, 0.2))
            if message is not None:
                self._failed(message)
        if before[0] == self._taken:
            self._consumer.resume(assigned)

    def owns(self, partition: int) -> bool:
        """Tell whether a started partition is still ours."""
        return partition in self._taken

    def applied(self, partition: int, next_offset: int) -> None:
        """Let Kafka know, with the next periodical commit, how far the target is."""
        if self.owns(partition):
            self._consumer.store_offsets(
                offsets=[TopicPartition(self.topic, partition, next_offset)]
            )

    def close(self) -> None:
        """Commit what was applied and leave the group."""
        self._consumer.close()

    def _within(self, partition: int, offset: int) -> int:
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self.topic, partition), timeout=_TIMEOUT_S
            )
        except KafkaException as error:
            raise self._unavailable(error) from None
        if offset and not low <= offset <= high:
            raise TongbuError(
                f"the position {offset} is outside {self.topic}[{partition}], which holds {low}..{high}",
                "Records were lost to retention. Empty the binding's tables and tongbu_position, and republish.",
            )
        return max(offset, int(low))

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Nothing is read before the position is known; asking the target here would block the group.
        consumer.assign([])
        self._taken.clear()
        self.given = {each.partition for each in partitions}

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:  # noqa: ARG002
        self._taken.clear()
        self.given.clear()
        consumer.unassign()

    def _failed(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            if self._trouble:
                log.info("kafka answers again")
                self._trouble = ""
            return False
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's own codes have no other name
            raise TongbuError(
                f"{self.topic}[{message.partition()}] no longer holds the next record: {error.str()}",
                "Records were lost to retention. Empty the binding's tables and tongbu_position, and republish.",
            )
        self._report(error)
        return True

    def _report(self, error: KafkaError) -> None:
        if error.str() != self._trouble:
            self._trouble = error.str()
            log.warning("waiting for kafka", at=self._bootstrap, reason=self._trouble)

    def _unavailable(self, error: KafkaException) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"Kafka does not answer at {self._bootstrap}: {error.args[0].str()}",
            "`tongbu status` says why.",
        )


def _raw(message: Message) -> Raw:
    return Raw(
        message.partition(), message.offset(), message.value(), dict(message.headers() or ())
    )

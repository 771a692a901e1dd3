"""Reading topics as logs: from one offset to another, without a group; and how far a group is behind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ClusterMetadata, OffsetSpec

from schemas.errors import ServiceUnavailable, TongbuError

_SECONDS = 10.0
#: A batch is whatever comes in this time.
_BATCH_SECONDS = 0.05
#: A broker that is back is found at once.
_CLIENT = {"reconnect.backoff.max.ms": 500, "log_level": 0}
_READER = _CLIENT | {
    "group.id": "tongbu-reader",
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "fetch.message.max.bytes": 16 * 1024 * 1024,
    "enable.partition.eof": True,
}


@cache
def _admin(bootstrap: str) -> AdminClient:
    """Give one client for all questions: an answer is lost with the client that asked."""
    return AdminClient(_CLIENT | {"bootstrap.servers": bootstrap})


@cache
def _of_group(bootstrap: str, group: str) -> Consumer:
    """
    Give a consumer that only asks what its group has committed; it never joins.

    The admin client's own question ends the process where the group's coordinator is just loading, as it is after a
    broker's start (confluentinc/librdkafka#5040, open in 2.16.0), and only asks the coordinator that it first knew.
    """
    return Consumer(_READER | {"bootstrap.servers": bootstrap, "group.id": group})


def _metadata(bootstrap: str, **asked: str) -> ClusterMetadata:
    try:
        return _admin(bootstrap).list_topics(**asked, timeout=_SECONDS)
    except (KafkaException, TimeoutError) as error:
        raise _unavailable(bootstrap, error) from error


def partitions(bootstrap: str, topic: str) -> list[int]:
    """Give the partitions of a topic; raise TongbuError where there is no such topic."""
    numbers = sorted(_metadata(bootstrap, topic=topic).topics[topic].partitions)
    if not numbers:
        raise TongbuError(f"there is no topic {topic}", "`tongbu apply` makes it.")
    return numbers


def names(bootstrap: str) -> set[str]:
    """Give the names of all topics."""
    return set(_metadata(bootstrap).topics)


def lone(bootstrap: str) -> set[str] | None:
    """Give the topics that have a partition on one broker only; None where there is only one broker."""
    found = _metadata(bootstrap)
    if len(found.brokers) == 1:
        return None
    return {
        name
        for name, topic in found.topics.items()
        if any(len(each.replicas) == 1 for each in topic.partitions.values())
    }


def ends(bootstrap: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Give (topic, partition) -> the offset that the next record will have."""
    return _offsets(bootstrap, topics, OffsetSpec.latest())


def starts(bootstrap: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Give (topic, partition) -> the first offset that is still there."""
    return _offsets(bootstrap, topics, OffsetSpec.earliest())


def _offsets(bootstrap: str, topics: Sequence[str], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    wanted = {
        TopicPartition(topic, number): spec
        for topic in topics
        for number in partitions(bootstrap, topic)
    }
    try:
        answers = _admin(bootstrap).list_offsets(wanted)
        return {
            (place.topic, place.partition): answer.result(_SECONDS).offset
            for place, answer in answers.items()
        }
    except (KafkaException, TimeoutError) as error:
        raise _unavailable(bootstrap, error) from error


def read(bootstrap: str, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
    """Give the records of a partition from offset `start` up to, not including, `end`."""
    if start >= end:
        return
    consumer = Consumer(_READER | {"bootstrap.servers": bootstrap})
    consumer.assign([TopicPartition(topic, partition, start)])
    came = time.monotonic()
    try:
        while time.monotonic() - came < _SECONDS:
            for message in consumer.consume(5000, _BATCH_SECONDS):
                came = time.monotonic()
                if _is_end(message, bootstrap):
                    return
                if message.offset() < end:
                    yield message
                if message.offset() >= end - 1:
                    return
    finally:
        consumer.close()
    raise ServiceUnavailable(
        f"{topic}: nothing came for {_SECONDS:.0f} s, offset {end} is not reached",
        "Is Kafka well? `tongbu status` tells.",
    )


def follow(bootstrap: str, topic: str, partition: int, start: int) -> Iterator[Any]:
    """Give the records of a partition from offset `start` on, for ever; None where nothing came for a moment."""
    consumer = Consumer(_READER | {"bootstrap.servers": bootstrap})
    consumer.assign([TopicPartition(topic, partition, start)])
    try:
        while True:
            found = consumer.consume(5000, _BATCH_SECONDS)
            yield from (each for each in found if not _is_end(each, bootstrap))
            yield None
    finally:
        consumer.close()


def _is_end(message: Any, bootstrap: str) -> bool:
    """Tell whether there are no more records; raise ServiceUnavailable for any other trouble."""
    error = message.error()
    if error is None:
        return False
    if error.name() == "_PARTITION_EOF":
        return True
    raise _unavailable(bootstrap, KafkaException(error))


def backlog(bootstrap: str, group: str, topics: Sequence[str]) -> int:
    """Give how many records of topics a group has not finished; it commits what it finished."""
    done = finished(bootstrap, group, topics)
    return sum(end - done[place] for place, end in ends(bootstrap, topics).items())


def finished(bootstrap: str, group: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Give (topic, partition) -> the offset before which a group has finished everything."""
    places = [
        TopicPartition(topic, number) for topic in topics for number in partitions(bootstrap, topic)
    ]
    try:
        answer = _of_group(bootstrap, group).committed(places, _SECONDS)
    except KafkaException as error:
        raise _unavailable(bootstrap, error) from error
    return {(place.topic, place.partition): max(place.offset, 0) for place in answer}


def _unavailable(bootstrap: str, error: KafkaException | TimeoutError) -> ServiceUnavailable:
    why = error.args[0].str() if isinstance(error, KafkaException) else "time-out"
    return ServiceUnavailable(
        f"Kafka at {bootstrap} does not answer: {why}", "Start it: `tongbu up`."
    )

"""The first record of a lane log, on the stack's broker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, TopicPartition
from fastavro.utils import generate_one

from schemas import codec, lane_offset
from tongbu.deploy import lanes, topics
from tongbu.deploy.deployment import Deployment

NAMESPACE = "anew."
LOG = f"{NAMESPACE}cdc.erp"


@pytest.fixture
def subject(stack: dict[str, str]) -> Iterator[Deployment]:
    """A deployment with topics, and without any record."""
    made = Deployment(stack, NAMESPACE)
    del made.sources["oa"]
    for change in topics.plan(made):
        change.perform()
    names = {topic.name for topic in topics.wanted(made)}
    end = time.monotonic() + 20
    while not names <= made.admin.list_topics(timeout=10).topics.keys():
        assert time.monotonic() < end
    yield made
    for future in made.admin.delete_topics([*names]).values():
        future.result(20)
    while names & made.admin.list_topics(timeout=10).topics.keys():
        assert time.monotonic() < end + 20


def write(subject: Deployment, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": subject.bootstrap})
    producer.produce(topic, value, partition=0)
    assert producer.flush(20) == 0


def opened(subject: Deployment) -> list[str]:
    found = list(lanes.plan_lanes(subject))
    for change in found:
        change.perform()
    return [change.detail.partition(",")[0] for change in found]


def test_the_first_log_of_a_source_has_epoch_1(subject: Deployment) -> None:
    assert opened(subject) == ["epoch 1"]
    assert opened(subject) == []


def test_a_log_that_was_made_anew_has_a_higher_epoch_whatever_its_connector_wrote_first(
    subject: Deployment,
) -> None:
    told = subject.catalog.record("transactions")
    schema_id = subject.registry.register(told.subject, told.schema)
    message = generate_one(told.schema) | {"lane_offset": lane_offset.pack(3, 7)}
    write(subject, f"{NAMESPACE}{told.topic}", codec.encode(schema_id, told.parsed, message))
    write(subject, LOG, b'{"serverName":"erp"}')

    assert opened(subject) == ["epoch 4"]

    lane = lanes.read(subject, "erp").lane
    assert lane is not None
    assert lane.epoch == 4
    assert opened(subject) == []


def test_a_log_whose_retention_has_passed_its_first_record_keeps_its_epoch(
    subject: Deployment,
) -> None:
    assert opened(subject) == ["epoch 1"]
    write(subject, LOG, b"{}")
    place = TopicPartition(LOG, 0, 1)
    subject.admin.delete_records([place])[place].result(20)

    assert opened(subject) == []

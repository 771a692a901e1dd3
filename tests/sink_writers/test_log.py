"""The runner on a real topic: positions from the target, owners that come and go, a log that was cut."""

from __future__ import annotations

import time
import uuid
from threading import Thread

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.codec import encode
from schemas.errors import ServiceUnavailable, TongbuError
from sink_writers.log import TransactionLog
from sink_writers.pulse import Pulse
from sink_writers.runner import Runner
from sink_writers.sink import Fenced, Place
from sink_writers.stage_log import StageLog

pytestmark = pytest.mark.integration


class Topic:
    """A transactions topic of its own, with two partitions."""

    def __init__(self, bootstrap: str, world) -> None:
        self.bootstrap, self.world = bootstrap, world
        self.name = f"test.{uuid.uuid4().hex[:8]}.canonical.transactions.v1"
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self.admin.create_topics([NewTopic(self.name, 2, 1)])[self.name].result()
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def put(self, *records, partition: int = 0) -> None:
        fields = ("topic", "key", "operation", "version", "value")
        value = {
            "source": "erp",
            "lane_offset": records[0].version,
            "part": 1,
            "parts": 1,
            "kind": "transaction",
            "records": [{name: getattr(each, name) for name in fields} for each in records],
        }
        self.producer.produce(
            self.name, encode(99, self.world.transaction_schema.parsed, value), "erp", partition
        )

    def flush(self) -> None:
        assert self.producer.flush(10) == 0


@pytest.fixture
def topic(stack, world):
    made = Topic(stack["KAFKA_BOOTSTRAP"], world)
    yield made
    made.admin.delete_topics([made.name])[made.name].result()


class Copy:
    """A sink writer in a thread, as one process would run it."""

    def __init__(self, topic, target, folder) -> None:
        self.log = TransactionLog(topic.bootstrap, topic.name, f"group-{topic.name}")
        self.error: Exception | None = None
        self._sink = target.sink()
        self._stages, self._pulse = StageLog(folder, "b"), Pulse(folder, "b", topic.name)
        topic_id = self.log.topic_id()
        self.runner = Runner(
            target.spec.model_copy(update={"binding": "b"}),
            self.log,
            self._sink,
            topic.world.decoder,
            lambda partition: Place(target.place.binding, topic.name, topic_id, partition),
            self._stages,
            self._pulse,
        )
        # The tables are named after the target's own prefix; the topics are those of the entities.
        self.log.subscribe()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.runner.run()
        except Exception as error:
            self.error = error
        finally:
            self.log.close()
            self._sink.close()
            self._stages.close()
            self._pulse.close()

    def stop(self) -> None:
        self.runner.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()


def wait_for(condition, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def customers(target) -> list[str]:
    return [row["id"] for row in target.rows("customer")]


def test_a_second_start_goes_on_and_kafka_knows_the_offset(topic, database, world, tmp_path):
    for version in (1, 2, 3):
        topic.put(world.customer(f"c{version}", version))
    topic.flush()
    copy = Copy(topic, database, tmp_path)
    wait_for(lambda: len(customers(database)) == 3)
    copy.stop()
    topic.put(world.customer("c4", 4))
    topic.put(world.customer("c5", 5), partition=1)
    topic.flush()
    again = Copy(topic, database, tmp_path)
    wait_for(lambda: len(customers(database)) == 5)
    again.stop()

    assert (copy.error, again.error) == (None, None)
    lines = (tmp_path / "stages/b.jsonl").read_bytes().splitlines()
    assert len(lines) == 5
    committed = TransactionLog(topic.bootstrap, topic.name, f"group-{topic.name}")
    offsets = committed._consumer.committed(
        [TopicPartition(topic.name, each) for each in (0, 1)], timeout=10
    )
    assert [each.offset for each in offsets] == [4, 1]
    committed.close()


def test_a_second_copy_shares_the_partitions_and_takes_over(topic, database, world, tmp_path):
    first = Copy(topic, database, tmp_path)
    topic.put(world.customer("c1", 1))
    topic.flush()
    wait_for(lambda: customers(database) == ["c1"])
    second = Copy(topic, database, tmp_path)
    wait_for(lambda: len(second.log._taken) == 1 and len(first.log._taken) == 1)
    for version in range(2, 50):
        topic.put(world.customer(f"c{version}", version), partition=version % 2)
    topic.flush()
    wait_for(lambda: len(customers(database)) == 49)
    first.stop()
    for version in range(50, 60):
        topic.put(world.customer(f"c{version}", version), partition=version % 2)
    topic.flush()
    wait_for(lambda: len(customers(database)) == 59)
    second.stop()

    assert (first.error, second.error) == (None, None)


def test_partitions_that_were_taken_away_in_trouble_are_read_when_they_come_back(topic, world):
    group = f"group-{topic.name}"
    first, second = (TransactionLog(topic.bootstrap, topic.name, group) for _ in range(2))

    def polled(condition) -> bool:
        first.read(0.05)
        return condition()

    first.subscribe()
    wait_for(lambda: polled(lambda: first.given == {0, 1}))
    first.start({0: 0, 1: 0})
    second.subscribe()
    while first.owns(0) and first.owns(1):  # as long as the target can't take it
        first.idle(0.5, lambda: True)
        second.read(0.05)
    second.close()
    wait_for(lambda: polled(lambda: first.given == {0, 1}), 60)
    first.start({0: 0, 1: 0})

    for partition in (0, 1):
        topic.put(world.customer(f"c{partition}", 1), partition=partition)
    topic.flush()
    seen: set[int] = set()
    wait_for(lambda: seen.update(raw.partition for raw in first.read(0.1)) or seen == {0, 1})
    first.close()


def test_an_owner_whose_place_was_claimed_stops(topic, database, world, tmp_path):
    copy = Copy(topic, database, tmp_path)
    wait_for(lambda: copy.log._taken == {0, 1})
    database.sink().claim(Place(database.place.binding, topic.name, copy.log.topic_id(), 0))
    topic.put(world.customer("c1", 1))
    topic.flush()
    wait_for(lambda: copy.error is not None)
    copy.stop()

    assert isinstance(copy.error, Fenced)
    assert customers(database) == []


def test_a_position_outside_the_log_stops_the_binding(topic, database, world, tmp_path):
    for version in (1, 2, 3):
        topic.put(world.customer(f"c{version}", version))
    topic.flush()
    copy = Copy(topic, database, tmp_path)
    wait_for(lambda: len(customers(database)) == 3)
    copy.stop()
    topic.put(world.customer("c4", 4))
    topic.put(world.customer("c5", 5))
    topic.flush()
    cut = TopicPartition(topic.name, 0, 4)
    topic.admin.delete_records([cut])[cut].result()
    again = Copy(topic, database, tmp_path)
    wait_for(lambda: again.error is not None)
    again.stop()

    assert isinstance(again.error, TongbuError)
    assert "position 3 is outside" in str(again.error)


def test_a_missing_topic_or_broker_is_named(stack):
    with pytest.raises(ServiceUnavailable, match=r"the topic nobody\.made\.it is not there"):
        TransactionLog(stack["KAFKA_BOOTSTRAP"], "nobody.made.it", "g").topic_id()
    with pytest.raises(ServiceUnavailable, match=r"Kafka does not answer at 127\.0\.0\.1:1"):
        TransactionLog("127.0.0.1:1", "t", "g").topic_id()

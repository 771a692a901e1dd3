"""The processor as a process on a real broker: nothing lost, repeats byte-identical, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic
from lanes import CAPTURED, Log, Reader, declarations, head, line

from schemas import control
from streams.records import LaneRecord
from streams.settings import REPLAY_OFFSET

OUTPUTS = {"canonical.order.v1": 4, "canonical.transactions.v1": 2, "hub.dead-letter.v1": 1}


class Namespace:
    """Topics and a data folder of a test's own, with a log that is written piece by piece."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.prefix = f"test.{uuid.uuid4().hex[:8]}."
        self.bootstrap = environment["KAFKA_BOOTSTRAP"]
        self.environment = {
            **os.environ,
            **environment,
            "TONGBU_NAMESPACE": self.prefix,
            "TONGBU_DATA": str(folder / "data"),
            "TONGBU_SESSION_SECONDS": "6",
        }
        #: What the process logs.
        self.told = folder / "log"
        self.reader = Reader(folder)
        (folder / "data").mkdir()
        (folder / "data" / "dead-letter.key").write_bytes((folder / "key").read_bytes())
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap})
        wanted = {"cdc.erp": 1, "cdc.oa": 1, **OUTPUTS}
        keep = {
            "retention.ms": "-1"
        }  # the records' times are long ago, and the broker sweeps at any moment
        topics = [
            NewTopic(self.prefix + name, partitions, 1, config=keep)
            for name, partitions in wanted.items()
        ]
        for future in self.admin.create_topics(topics).values():
            future.result(20)
        self.log = Log()
        self.log.control(control.Lane(source="erp", epoch=1, topic_id=self.topic_id("erp")))
        self.log.control(CAPTURED)
        self.log.control(declarations())
        self.reader.lane.topic_id = None
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 0})
        self._sent = 0

    def topic_id(self, source: str) -> str:
        """Give the id of a lane log, once the broker knows it."""
        name = f"{self.prefix}cdc.{source}"
        end = time.monotonic() + 30
        while True:  # the broker may know a new topic a moment later
            try:
                described = self.admin.describe_topics(TopicCollection([name]))[name].result(10)
            except KafkaException:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return str(described.topic_id)

    def write(self) -> None:
        for record in self.log.records[self._sent :]:
            self.produce("erp", record)
        self.flush()
        self._sent = len(self.log.records)

    def flush(self) -> None:
        assert self._producer.flush(20) == 0

    def produce(self, source: str, record: LaneRecord) -> None:
        self._producer.produce(
            f"{self.prefix}cdc.{source}",
            record.value,
            record.key,
            0,
            timestamp=record.timestamp // 1000,
            headers=list(record.headers),
        )

    def start(self, name: str = "main", **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tongbu.cli", "run", "processor", name]
        wanted = {**self.environment, **environment}
        with self.told.open("ab") as log:
            return subprocess.Popen(command, env=wanted, stdout=log, stderr=log)

    def make_anew(self, source: str) -> None:
        """Delete a lane log, and make an empty one of its name."""
        name = f"{self.prefix}cdc.{source}"
        self.admin.delete_topics([name])[name].result(20)
        end = time.monotonic() + 30
        while True:  # the broker forgets a moment later
            try:
                self.admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
            except KafkaException:
                assert time.monotonic() < end, "it is not deleted"
                time.sleep(0.2)
            else:
                return

    def _lane(self, source: str = "erp") -> TopicPartition:
        return TopicPartition(f"{self.prefix}cdc.{source}", 0)

    def _member(self) -> Consumer:
        return Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": f"{self.prefix}tongbu-processor"}
        )

    def wait_committed(self, offset: int, source: str = "erp") -> int:
        """Wait until so much of the lane is committed; give how much that is."""
        asking, end = self._member(), time.monotonic() + 120
        place = self._lane(source)
        while (found := asking.committed([place], timeout=20)[0].offset) < offset:
            assert time.monotonic() < end, f"{found} of {offset} committed"
            time.sleep(0.02)
        asking.close()
        return int(found)

    def go_back(self, offset: int) -> None:
        """Have less committed, as if the last commits of a group that nobody is in any more had not arrived."""
        member, place = self._member(), self._lane()
        place.offset = offset
        end = time.monotonic() + 30
        while True:  # those that were killed are members until their session is over
            try:
                member.commit(offsets=[place], asynchronous=False)
            except KafkaException:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
            else:
                member.close()
                return

    def read(self, topic: str) -> list[tuple[bytes, bytes | None]]:
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.partition.eof": True}
        )
        found = []
        for partition in range(OUTPUTS[topic]):
            consumer.assign([TopicPartition(self.prefix + topic, partition, 0)])
            while (message := consumer.poll(10)) is not None:
                if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                    break
                found.append((message.key(), message.value()))
        consumer.close()
        return found

    def wait(self, last: bytes, seconds: float = 120) -> None:
        """Wait until the record with these bytes is out."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(value == last for _, value in self.read("canonical.transactions.v1")):
                return
            time.sleep(0.3)
        told = self.told.read_text(errors="replace")[-3000:]
        pytest.fail(f"the last transaction is not out after {seconds} s: {told}")

    def close(self) -> None:
        self.admin.delete_topics([self.prefix + name for name in ("cdc.erp", "cdc.oa", *OUTPUTS)])


@pytest.fixture
def namespace(stack: dict[str, str], tmp_path: Path) -> Iterator[Namespace]:
    opened = Namespace(stack, tmp_path)
    yield opened
    opened.close()


#: Stands in rows, in those that can't be mapped, too.
PERSONAL = "Li Lei, 13800001111"


def business(log: Log, start: int, count: int) -> None:
    for number in range(start, start + count):
        amount = "NaN" if number % 17 == 0 else "1.5000"
        log.transaction(
            ("c", "head", head(number, note=PERSONAL)),
            ("c", "line", line(number, number, amount=amount)),
        )
        if number % 5 == 0:
            log.transaction(("u", "head", head(number, state=1)))
        if number % 7 == 0:
            log.transaction(
                ("d", "line", None, {"id": number}), ("d", "head", None, {"id": number})
            )


def stop(process: subprocess.Popen[bytes], how: signal.Signals) -> int:
    process.send_signal(how)
    return process.wait(30)


def test_kill_9_in_mid_load_loses_nothing_and_repeats_are_byte_identical(
    namespace: Namespace,
) -> None:
    process = namespace.start()
    for round_ in range(5):
        business(namespace.log, 1 + round_ * 300, 300)
        namespace.write()
        time.sleep((1.5, 0.3, 0.8, 0.5, 1.0)[round_])
        stop(process, signal.SIGKILL)
        process = namespace.start()
    # The last one has something to do, however far the one before it has come.
    business(namespace.log, 1501, 1)
    namespace.write()
    expected = namespace.reader.run(namespace.log)
    transactions = [each for each in expected if each.topic == "canonical.transactions.v1"]

    namespace.wait(transactions[-1].value or b"")
    assert stop(process, signal.SIGTERM) == 0

    for topic in OUTPUTS:
        wanted = {(each.key, each.value) for each in expected if each.topic == topic}
        found = set(namespace.read(topic))
        assert (found - wanted, wanted - found) == (set(), set()), topic
    first_seen = list(
        dict.fromkeys(value for _, value in namespace.read("canonical.transactions.v1"))
    )
    assert first_seen == [each.value for each in transactions]


def test_a_lane_that_goes_to_another_worker_and_back_has_the_newest_record_of_each_id_last(
    namespace: Namespace, tmp_path: Path
) -> None:
    """The state of the first was ahead of what it had committed, and stayed ahead of how far the other came."""
    namespace.environment["TONGBU_CHECKPOINTS"] = str(tmp_path / "checkpoints")
    (tmp_path / "other").mkdir()
    key = Path(namespace.environment["TONGBU_DATA"]) / "dead-letter.key"
    (tmp_path / "other" / key.name).write_bytes(key.read_bytes())
    for number in range(25_000):  # a worker on a fast machine takes more than a second for them
        namespace.log.transaction(
            ("u" if number >= 300 else "c", "head", head(number % 300, note=f"{number}"))
        )
    expected = namespace.reader.run(namespace.log)
    transactions = [each for each in expected if each.topic == "canonical.transactions.v1"]
    namespace.write()
    end = len(namespace.log.records)

    process = namespace.start()
    namespace.wait(transactions[-1].value or b"")
    namespace.wait_committed(end)
    stop(process, signal.SIGKILL)
    namespace.go_back(2_000)
    process = namespace.start("other", TONGBU_DATA=str(tmp_path / "other"))
    reached = namespace.wait_committed(2_001)
    stop(process, signal.SIGKILL)
    assert reached < end, "the other one has come too far for this to tell anything"
    process = namespace.start()
    namespace.log.transaction(("c", "head", head(300)))
    (last,) = [
        each
        for each in namespace.reader.run(namespace.log)
        if each.topic == "canonical.transactions.v1"
    ]
    namespace.write()
    namespace.wait(last.value or b"")
    assert stop(process, signal.SIGTERM) == 0

    newest = {each.key: each.value for each in expected if each.topic == "canonical.order.v1"}
    found = dict(namespace.read("canonical.order.v1"))
    assert {id_: found[id_] for id_ in newest} == newest


def test_a_lane_whose_log_was_made_anew_is_stopped_and_the_others_go_on(
    namespace: Namespace,
) -> None:
    process = namespace.start()
    business(namespace.log, 1, 20)
    namespace.write()
    namespace.wait_committed(len(namespace.log.records))
    assert stop(process, signal.SIGTERM) == 0
    namespace.make_anew("erp")

    process = namespace.start()
    end = time.monotonic() + 60
    while "is another topic" not in namespace.told.read_text():
        assert time.monotonic() < end, namespace.told.read_text()[-3000:]
        time.sleep(0.1)
    oa = Log()
    oa.control(control.Lane(source="oa", epoch=1, topic_id=namespace.topic_id("oa")))
    for record in oa.records:
        namespace.produce("oa", record)
    namespace.flush()
    namespace.wait_committed(1, "oa")
    time.sleep(2)  # a reader of the log would be told by now that its place is not there
    assert process.poll() is None
    assert stop(process, signal.SIGTERM) == 0


def test_an_error_that_ends_a_worker_is_told_in_its_log(namespace: Namespace) -> None:
    namespace.environment["TONGBU_REPLAY"] = "true"  # of a log that was not loaded for it
    namespace.write()

    process = namespace.start()

    assert process.wait(60) != 0
    *told, last = namespace.told.read_text().splitlines()
    assert f"KeyError: '{REPLAY_OFFSET}'" in told  # with its traceback
    assert f"KeyError('{REPLAY_OFFSET}')" in last


def test_a_lost_state_is_rebuilt_from_the_log_without_repeating_what_was_delivered(
    namespace: Namespace,
) -> None:
    process = namespace.start()
    namespace.log.add(f"no JSON: {PERSONAL}".encode(), b"key")
    business(namespace.log, 1, 50)
    namespace.write()
    first = [
        each
        for each in namespace.reader.run(namespace.log)
        if each.topic == "canonical.transactions.v1"
    ]
    namespace.wait(first[-1].value or b"")
    assert stop(process, signal.SIGTERM) == 0
    subprocess.run(
        ["rm", "-r", str(Path(namespace.environment["TONGBU_DATA"]) / "state")], check=True
    )

    process = namespace.start()
    business(namespace.log, 51, 20)
    namespace.write()
    then = [
        each
        for each in namespace.reader.run(namespace.log)
        if each.topic == "canonical.transactions.v1"
    ]
    namespace.wait(then[-1].value or b"")
    assert stop(process, signal.SIGTERM) == 0

    values = [value for _, value in namespace.read("canonical.transactions.v1")]
    assert values == [each.value for each in first + then]
    told = namespace.told.read_text(errors="replace")
    assert "lane opened" in told
    assert PERSONAL not in told, "dead letters are sealed, logs are not"

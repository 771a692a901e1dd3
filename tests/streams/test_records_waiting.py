"""What streams.records_waiting expects of the pinned confluent-kafka and of its librdkafka."""

from __future__ import annotations

import asyncio
import ctypes
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition, cimpl
from confluent_kafka.admin import AdminClient, NewTopic

from streams.records_waiting import RecordsWaiting, client


def consumer(bootstrap: str) -> Consumer:
    settings = {"bootstrap.servers": bootstrap, "group.id": "t", "enable.auto.commit": False}
    return Consumer(settings | {"client.id": "lane-reader", "log_level": 0})


def test_the_client_of_librdkafka_stands_first_in_a_consumer() -> None:
    name_of = ctypes.CDLL(cimpl.__file__).rd_kafka_name
    name_of.argtypes, name_of.restype = [ctypes.c_void_p], ctypes.c_char_p
    consumers = [consumer("127.0.0.1:1") for _ in range(2)]
    names = [name_of(client(each)).rpartition(b"-")[0] for each in consumers]
    assert names == [b"lane-reader#consumer"] * 2


def test_it_is_readable_when_records_come_and_not_when_all_are_taken(
    stack: dict[str, str],
) -> None:
    topic, bootstrap = f"test.{uuid.uuid4().hex[:8]}", stack["KAFKA_BOOTSTRAP"]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def append(count: int) -> None:
        for number in range(count):
            producer.produce(topic, str(number), partition=0)
        producer.flush()

    async def rounds() -> None:
        found = consumer(bootstrap)
        found.assign([TopicPartition(topic, 0, 0)])
        waiting, ready = RecordsWaiting(found), asyncio.Event()

        def readable() -> None:
            waiting.clear()
            ready.set()

        loop = asyncio.get_running_loop()
        loop.add_reader(waiting, readable)
        there = taken = 0
        for count in (1, 3, 2000, 1):
            await asyncio.to_thread(append, count)
            there, end = there + count, time.monotonic() + 60
            while taken < there and time.monotonic() < end:
                ready.clear()
                got = found.consume(100, 0)
                assert not [each.error() for each in got if each.error()]
                if got:
                    taken += len(got)
                else:
                    await asyncio.wait_for(ready.wait(), 60)
            assert taken == there
            assert found.consume(100, 0) == []
            await asyncio.sleep(0.1)  # that records came is told even where they are taken by now
            ready.clear()
            await asyncio.sleep(0.6)  # the broker answers with nothing, which is no record
            assert not ready.is_set()
        loop.remove_reader(waiting)
        waiting.close()
        await asyncio.to_thread(append, 1)  # what comes now is told to nobody
        await asyncio.sleep(0.2)
        found.close()

    asyncio.run(rounds())

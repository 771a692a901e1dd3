"""
The batching transport: Faust, reading whole fetches and starting where the state says.

Stock Faust makes one event (and four tasks) per record, seeks to the committed offset and loses records on
gaps and errors (docs/faust.md). Here a partition's fetch is one event, the start position comes from the
owner of the partition's state, and what is committed to Kafka is that owner's position. It uses private hooks of
faust-streaming 0.15.3 and aiokafka 0.14.0, which are pinned; tests/streams/test_transport.py holds them to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol

import faust
from aiokafka import TopicPartition
from faust.events import Event
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP

#: Records per event: bounds the latency of the other lanes and the size of a state write.
BATCH_RECORDS = 500

#: aiokafka asks for the other partitions alone once a fetch has waited this long to be consumed, and that request
#: then keeps the broker's connection for up to 1.5 s while a busy lane has nothing in flight (0.1 s by
#: default: a backlog went at a tenth of its speed). One worker consumes all lanes in turn anyway.
PREFETCH_BACKOFF_SECONDS = 60.0


class Owner(Protocol):
    """Who holds the state of the partitions that this worker owns."""

    def open(self, tps: set[TP], committed: dict[TP, int]) -> dict[TP, int]:
        """Take partitions over (in a worker thread); give the offset to start each at."""

    async def drain(self) -> None:
        """Finish what is in hand, so that its position can be committed; take nothing new."""

    async def release(self) -> None:
        """Close all partitions, after `drain`."""

    def position(self, tp: TP) -> int | None:
        """Give the next offset to read of a partition, as its state has it on disk."""


class Fetched(list[Any]):
    """The records of one fetch of a partition; `generation` tells which seek it follows."""

    generation = 0


class Batch:
    """Looks like a record to Faust; its value is (generation, records)."""

    __slots__ = (
        "checksum",
        "headers",
        "key",
        "offset",
        "partition",
        "serialized_key_size",
        "serialized_value_size",
        "timestamp",
        "timestamp_type",
        "topic",
        "value",
    )

    def __init__(self, records: list[Any], generation: int) -> None:
        last = records[-1]
        self.topic, self.partition, self.offset = last.topic, last.partition, last.offset
        self.timestamp, self.timestamp_type = last.timestamp, last.timestamp_type
        self.headers, self.key, self.checksum = (), None, None
        self.serialized_key_size = self.serialized_value_size = 0
        self.value = (generation, records)


class BatchScheduler(DefaultSchedulingStrategy):  # type: ignore[misc]
    """Yields a batch per partition and fetch."""

    def iterate(self, records: dict[TP, Fetched]) -> Iterator[tuple[TP, Batch]]:
        """Cut each partition's fetch into batches."""
        for tp, fetched in records.items():
            for start in range(0, len(fetched), BATCH_RECORDS):
                yield tp, Batch(fetched[start : start + BATCH_RECORDS], fetched.generation)


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Hands a batch to the agent as it is."""

    def compile(self, app: Any, **_: Any) -> Any:
        """Give Faust its decoder."""

        async def decode(message: Any, *, propagate: bool = False) -> Event:
            del propagate
            return Event(app, None, message.value, {}, message)

        return decode


class _FetchThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Seeks and fetches run in this one thread, so the generation stamped here is exact."""

    generation = 0

    async def on_start(self) -> None:
        await super().on_start()
        self._ensure_consumer()._fetcher._prefetch_backoff = PREFETCH_BACKOFF_SECONDS

    async def seek_all(self, starts: dict[TP, int]) -> int:
        consumer = self._ensure_consumer()
        self.generation += 1
        for tp, offset in starts.items():
            consumer.seek(TopicPartition(tp.topic, tp.partition), offset)
        return self.generation

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> dict[TP, Fetched]:
        stamped = {}
        for tp, records in (await super()._fetch_records(*args, **kwargs)).items():
            if records:
                stamped[tp] = Fetched(records)
                stamped[tp].generation = self.generation
        return stamped


class LaneConsumer(driver.Consumer):  # type: ignore[misc]
    """A consumer whose offsets are those of the states that `owner` holds."""

    owner: Owner
    #: The generation of the last seek; batches of earlier ones are stale and will be fetched again.
    generation = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._seeking = asyncio.Lock()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> _FetchThread:
        return _FetchThread(self, loop=self.loop, beacon=self.beacon)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:
        del topics
        return [tp for tp in self.assignment() if self.owner.position(tp) is not None]

    def _new_offset(self, tp: TP) -> int | None:
        return self.owner.position(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Forget gaps: positions come from the state, not from acknowledged offsets."""

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:
        """Skip the four tasks that stock Faust makes per message to be able to suspend in its midst."""
        if len(coros) == 2 and self.flow_active:
            coros[1].close()
            await coros[0]
            return None
        return await super().wait_first(*coros, timeout=timeout)

    async def perform_seek(self) -> None:
        """Start every owned partition where its state stands; called after each assignment, possibly twice."""
        async with self._seeking:
            tps = {tp for tp in self.assignment() if tp.topic in self.app.lane_topics}
            if not tps:
                return
            committed = {tp: offset or 0 for tp, offset in (await self.seek_to_committed()).items()}
            await self.owner.release()
            starts = await asyncio.get_running_loop().run_in_executor(
                None, self.owner.open, tps, committed
            )
            self.generation = await self._thread.call_thread(self._thread.seek_all, starts)
            for tp in tps:
                self._read_offset[tp] = None
                self._committed_offset[tp] = committed.get(tp) or None

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish, commit and close before another worker starts."""
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        self.generation = -1
        await self.owner.drain()
        await self.commit()
        await self.owner.release()
        await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        """Finish, commit and close on SIGTERM."""
        self.generation = -1
        await self.owner.drain()
        await super().on_stop()
        await self.owner.release()


class _Tables(TableManager):  # type: ignore[misc]
    """There are no tables; stock Faust sleeps a second for them at start."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def install(app: Any, owner: Owner, lane_topics: set[str]) -> None:
    """Make an app read lanes for an owner."""

    class OwnedConsumer(LaneConsumer):
        pass

    class Transport(driver.Transport):  # type: ignore[misc]
        Consumer = OwnedConsumer

    OwnedConsumer.owner = owner
    app.lane_topics = lane_topics
    app.transport = Transport(app.conf.broker_consumer, app, loop=None)


#: Settings of the Faust app that the transport relies on.
SETTINGS: dict[str, Any] = {
    "ConsumerScheduler": BatchScheduler,
    "TableManager": _Tables,
    "key_serializer": "raw",
    "value_serializer": "raw",
    "topic_allow_declare": False,
    "topic_disable_leader": True,
    "table_standby_replicas": 0,
    "web_enabled": False,
    "stream_wait_empty": False,
    "autodiscover": False,
    "consumer_auto_offset_reset": "earliest",
    "broker_commit_interval": 0.3,
    "broker_heartbeat_interval": 1.0,
    "broker_max_poll_records": 2000,
}

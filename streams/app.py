"""
The processor as a process: the only place that knows Faust, Kafka and the disk.

A batch of a lane log is processed, its outputs are delivered, its state and position are written at once, and
then the offset may be committed (invariant I3). One batch at a time: whatever is interrupted is done again,
byte for byte the same.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import mode
import orjson
import structlog
from confluent_kafka import KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient
from faust.types import TP

from schemas.declarations import Source, load_sources
from schemas.errors import TongbuError
from streams.errors import LaneStopped
from streams.lane import Lane
from streams.records import LaneRecord, Output
from streams.seal import Seal
from streams.settings import REPLAY_OFFSET, Settings
from streams.state import State
from streams.transport import SETTINGS, BatchSchema, install

log = structlog.get_logger("processor")

#: Seconds within which the broker takes an output, or the process ends and starts again from its state.
DELIVERY_SECONDS = 8
_EXIT_DELIVERY = 75


@dataclass(slots=True)
class OwnedLane:
    """A lane that this worker owns; below `mute_below` its outputs were delivered before its state was lost."""

    lane: Lane
    state: State
    mute_below: int
    stopped: str | None = None


class Processor:
    """Owns lanes and produces what they make."""

    def __init__(self, settings: Settings, sources: dict[str, Source]) -> None:
        self.settings = settings
        self.sources = sources
        self.lanes: dict[TP, OwnedLane] = {}
        self._busy = asyncio.Lock()
        self._seal = Seal(settings.key_file)
        self._failed: str | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,
                "partitioner": "murmur2_random",
                "socket.nagle.disable": True,
                "queue.buffering.max.messages": 1_000_000,
                "delivery.timeout.ms": DELIVERY_SECONDS * 1000,
                "message.max.bytes": 16 * 1024 * 1024,
            }
        )

    # -- owner of the partitions' states (streams.transport.Owner)

    def open(self, tps: set[TP], committed: dict[TP, int]) -> dict[TP, int]:
        """Open the states of lanes; give where to start reading each."""
        return {tp: self._open(tp, committed.get(tp, 0)) for tp in tps}

    def _open(self, tp: TP, committed: int) -> int:
        topic = tp.topic.removeprefix(self.settings.tongbu_namespace)
        source = topic.removeprefix("cdc.")
        state = State(self.settings.state_folder / topic)
        start = state.position or 0
        topic_id = None if self.settings.tongbu_replay else self._topic_id(tp.topic)
        try:
            lane = Lane(source, self.sources[source].partition, state, self._seal, topic_id)
        except TongbuError:
            state.close()
            raise
        self.lanes[tp] = OwnedLane(lane, state, mute_below=committed)
        log.info("lane opened", source=source, start=start, committed=committed)
        return start

    def _topic_id(self, topic: str) -> str:
        admin = AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap})
        described = admin.describe_topics(TopicCollection([topic]))[topic].result(10)
        return str(described.topic_id)

    async def release(self) -> None:
        """Wait for the batch in hand, and close all lanes."""
        async with self._busy:
            for owned in self.lanes.values():
                owned.state.discard()
                owned.state.close()
            self.lanes.clear()

    def position(self, tp: TP) -> int | None:
        """Give a lane's position on disk."""
        owned = self.lanes.get(tp)
        return owned.state.position if owned else None

    # -- the way of a batch

    async def process(self, tp: TP, records: list[Any]) -> None:
        """Process a batch of a lane: outputs, then state, then (by the transport) the offset."""
        async with self._busy:
            owned = self.lanes.get(tp)
            if owned is None or owned.stopped:
                return
            try:
                self._run(owned, records)
            except LaneStopped as error:
                owned.stopped = str(error)
                owned.state.discard()
                log.error("lane stopped", source=owned.lane.source, why=str(error))
                return
            await self._delivered()
            owned.lane.end_batch()
            owned.state.commit(records[-1].offset + 1)

    def _run(self, owned: OwnedLane, records: list[Any]) -> None:
        topic = f"cdc.{owned.lane.source}"
        received = time.time_ns() // 1000
        next_offset = owned.state.position or 0
        for record in records:
            if record.offset < next_offset:
                continue
            muted = record.offset < owned.mute_below
            for output in owned.lane.process(self._lane_record(topic, record)):
                if not muted and not (self.settings.tongbu_replay and output.topic == topic):
                    self._produce(output, received)

    def _lane_record(self, topic: str, record: Any) -> LaneRecord:
        headers = tuple(record.headers)
        offset = record.offset
        if self.settings.tongbu_replay:
            offset = int(dict(headers)[REPLAY_OFFSET])
        return LaneRecord(topic, offset, record.timestamp * 1000, record.key, record.value, headers)

    def _produce(self, output: Output, received: int) -> None:
        headers = list(output.headers)
        if output.captured is not None:
            times = {
                "captured": output.captured,
                "received": received,
                "produced": time.time_ns() // 1000,
            }
            headers.append(("stage-clock", orjson.dumps(times)))
        topic = self.settings.tongbu_namespace + output.topic
        while True:
            try:
                self._producer.produce(
                    topic,
                    output.value,
                    output.key,
                    output.partition,
                    on_delivery=self._on_delivery,
                    headers=headers,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed = f"{message.topic()}: {error}"

    async def _delivered(self) -> None:
        """Wait until the broker has all outputs; end the process where it does not take them."""
        while self._producer.flush(0.5) > 0:
            await asyncio.sleep(0)
        if self._failed is not None:
            log.critical(
                "Kafka did not take an output; ending, the restart does the batch again",
                seconds=DELIVERY_SECONDS,
                why=self._failed,
            )
            os._exit(_EXIT_DELIVERY)

    def status(self) -> dict[str, Any]:
        """Give what each lane has done, for `tongbu status`."""
        return {
            owned.lane.source: {
                "position": owned.state.position,
                "epoch": owned.lane.epoch,
                "snapshot_published": owned.lane.published,
                "stopped": owned.stopped,
                **{
                    name: getattr(owned.lane.counters, name)
                    for name in owned.lane.counters.__slots__
                },
            }
            for owned in self.lanes.values()
        }


def build(settings: Settings, name: str) -> Any:
    """Give the Faust app of a processor."""
    sources = load_sources(settings.tongbu_sources)
    processor = Processor(settings, sources)
    topics = {f"{settings.tongbu_namespace}cdc.{source}" for source in sources}
    session = settings.tongbu_session_seconds
    app = faust.App(
        f"{settings.tongbu_namespace}tongbu-processor",
        broker=f"kafka://{settings.kafka_bootstrap}",
        consumer_group_instance_id=name,
        broker_session_timeout=session,
        broker_rebalance_timeout=session + 5,
        broker_request_timeout=session + 10,
        agent_supervisor=mode.CrashingSupervisor,
        datadir=str(settings.tongbu_data / "faust"),
        **SETTINGS,
    )
    install(app, processor, topics)

    lane_logs = app.topic(*topics, schema=BatchSchema(key_type=bytes, value_type=bytes))

    @app.agent(lane_logs, name="lanes")  # type: ignore[untyped-decorator]
    async def lanes(stream: Any) -> None:
        async for event in stream.noack().events():
            generation, records = event.value
            if generation == app.consumer.generation:
                await processor.process(event.message.tp, records)

    @app.timer(1.0)  # type: ignore[untyped-decorator]
    async def write_status() -> None:
        _write(
            settings.tongbu_data / f"{settings.tongbu_namespace}processor.json", processor.status()
        )

    return app


def _write(file: Path, content: dict[str, Any]) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(content))
    fresh.replace(file)


def run(name: str = "main") -> None:
    """Run a processor in the foreground until SIGTERM; waits for broker and lane logs."""
    settings = Settings()
    settings.tongbu_data.mkdir(parents=True, exist_ok=True)
    _wait_for_lanes(settings)
    app = build(settings, name)
    worker = faust.Worker(
        app, override_logging=False, quiet=True, workdir=str(settings.tongbu_data)
    )
    worker.execute_from_commandline()


def _wait_for_lanes(settings: Settings) -> None:
    wanted = {
        f"{settings.tongbu_namespace}cdc.{source}"
        for source in load_sources(settings.tongbu_sources)
    }
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    pause = 0.5
    while True:
        try:
            missing = wanted - set(admin.list_topics(timeout=5).topics)
            why = f"no topic {min(missing)}: run `tongbu apply`" if missing else ""
        except KafkaException as error:
            missing, why = (
                wanted,
                f"Kafka at {settings.kafka_bootstrap} does not answer: {error.args[0].str()}",
            )
        if not missing:
            return
        log.warning("waiting", why=why, seconds=pause)
        time.sleep(pause)
        pause = min(pause * 2, 5.0)

"""
The processor without Faust: it owns lanes, and brings batches through them.

Outputs, then state, then offset (invariant I3), without waiting in between: a batch is processed and its outputs are
sent; when the broker has them, state and position are written at once; then the transport may commit. Whatever is
interrupted is done again, byte for byte the same.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import structlog

from schemas.declarations import Source
from streams.errors import LaneStopped
from streams.flight import OwnedLane
from streams.opening import Opener, Place
from streams.outputs import Batch, Outputs
from streams.records import LaneRecord, lane_record
from streams.settings import REPLAY_OFFSET, Settings

log = structlog.get_logger("processor")

#: How often the broker's answers are taken while something waits for them, and while outputs are merely in flight: every
#: batch takes them anyway, and nobody but the state waits.
_TICK_SECONDS, _LAND_SECONDS = 0.001, 0.005
_HEARTBEAT_SECONDS = 0.25
#: Exit codes; whoever supervises the process starts it again, and it does again what was not finished.
_EXIT_STALE, _EXIT_BROKEN, _EXIT_DELIVERY = 72, 73, 75


class _LeavingError(Exception):
    """The lanes are given up in the middle of a batch."""


class Processor:
    """Owns lanes and produces what they make. All of it runs in one thread, the event loop's."""

    def __init__(self, settings: Settings, sources: dict[str, Source]) -> None:
        self.settings = settings
        self.lanes: dict[Place, OwnedLane] = {}
        self._busy = asyncio.Lock()
        self._leaving = False
        self._landing: asyncio.TimerHandle | None = None
        self._alive = time.monotonic()
        self._opener = Opener(settings, sources)
        self._copying = asyncio.Lock()
        #: Gives the end of a lane log as the consumer knows it.
        self.end_of: Callable[[Place], int | None] = lambda _: None
        self._outputs = Outputs(
            settings.kafka_bootstrap, settings.tongbu_namespace, settings.delivery_seconds
        )

    # -- owner of the partitions' states (streams.transport.Owner)

    def open(self, places: set[Place], committed: dict[Place, int]) -> dict[Place, int]:
        """Open the states of lanes; give where to start reading each."""
        for place in places:
            self.lanes[place] = self._opener.open(place, committed.get(place, 0))
        self._leaving = False
        return {place: self.lanes[place].next for place in places}

    async def drain(self) -> None:
        """Take no more batches, and wait until those in flight are on disk: at most the delivery time-out."""
        self._leaving = True
        async with self._busy:
            while any(owned.batches for owned in self.lanes.values()):
                await self._pause()

    async def release(self) -> None:
        """Close all lanes, after `drain`."""
        await self.drain()
        async with self._busy, self._copying:
            for owned in self.lanes.values():
                owned.close()
            self.lanes.clear()

    def position(self, place: Place) -> int | None:
        """Give a lane's position on disk."""
        owned = self.lanes.get(place)
        return owned.state.position if owned else None

    # -- the way of a batch

    async def process(self, place: Place, messages: list[Any]) -> None:
        """Bring a batch of a lane (confluent_kafka messages) on its way; return before its outputs are delivered."""
        async with self._busy:
            owned = self.lanes.get(place)
            if owned is None or owned.stopped or self._leaving:
                return
            batch = Batch()
            try:
                while owned.full:
                    await self._breathe()
                await self._run(owned, messages, batch)
            except _LeavingError:
                return  # what it wrote is discarded when the lane is closed
            except LaneStopped as error:
                owned.stop(str(error))
                return
            owned.age = max(0, int(batch.received * 1e6) - messages[-1].timestamp()[1] * 1000)
            owned.took("captured", owned.age / 1e6)
            owned.depart(batch)
            self._land()
            self._land_later()

    async def _run(self, owned: OwnedLane, messages: list[Any], batch: Batch) -> None:
        lane, replay = owned.lane, self.settings.tongbu_replay
        topic = f"cdc.{lane.source}"
        received = int(batch.received * 1e6)
        for message in messages:
            offset = message.offset()
            if offset < owned.next:
                continue
            muted = offset < owned.mute_below
            for output in lane.process(self._lane_record(topic, message)):
                if output is None:
                    await self._breathe()
                elif muted:
                    continue
                elif output.topic == topic:
                    if not replay:
                        batch.asked.append(output)
                else:
                    self._check_fresh()
                    while not self._outputs.produce(output, received, batch):
                        await self._breathe()
            batch.records += 1
            owned.next = offset + 1

    def _lane_record(self, topic: str, message: Any) -> LaneRecord:
        record = lane_record(topic, message)
        if self.settings.tongbu_replay:
            offset = int(dict(record.headers)[REPLAY_OFFSET])
            return msgspec.structs.replace(record, offset=offset)
        return record

    async def _breathe(self) -> None:
        """Let others run in the middle of a batch; raise where the lanes are given up meanwhile."""
        await self._pause()
        if self._leaving:
            raise _LeavingError

    async def _pause(self) -> None:
        self._check_fresh()
        self._land()
        await asyncio.sleep(_TICK_SECONDS)
        self._alive = time.monotonic()

    def _land(self) -> None:
        """Take the broker's answers, and write what is delivered; end the process where it did not take an output."""
        self._outputs.poll()
        for owned in self.lanes.values():
            for batch, output in owned.asked():
                if not self._outputs.produce(output, 0, batch):
                    batch.asked.appendleft(output)
                    break
            failed = owned.land()
            if failed is not None:
                _die(
                    _EXIT_DELIVERY,
                    "Kafka did not take an output; ending, the restart does the batch again",
                    seconds=self.settings.delivery_seconds,
                    why=failed,
                )

    def _check_fresh(self) -> None:
        """End the process where it was frozen for longer than its session: another worker may own the lanes."""
        stale = time.monotonic() - self._alive
        if stale > self.settings.tongbu_session_seconds:
            _die(
                _EXIT_STALE,
                "frozen for longer than the session; ending, for another worker may have the lanes",
                seconds=round(stale, 1),
            )

    def _land_later(self) -> None:
        """Take the broker's answers in a moment, whether or not another batch comes, as long as any are due."""
        if self._landing is None and any(owned.batches for owned in self.lanes.values()):
            self._landing = asyncio.get_running_loop().call_later(_LAND_SECONDS, self._take_answers)

    def _take_answers(self) -> None:
        self._landing = None
        try:
            self._check_fresh()
            self._land()
        except Exception as error:
            log.exception("state can't be written")
            _die(_EXIT_BROKEN, "ending, the restart does the rest again", why=str(error))
        self._land_later()

    async def run(self) -> None:
        """Tell that the loop is alive, for as long as the process lives."""
        while True:
            if self._landing is not None:
                self._check_fresh()
            self._alive = time.monotonic()
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    async def checkpoint(self) -> None:
        """Copy the states of all lanes, in another thread; the log goes on meanwhile."""
        async with self._copying:
            for place, owned in list(self.lanes.items()):
                position = owned.state.position
                if owned.stopped or position is None:
                    continue
                kept = self._opener.checkpoints(place)
                began = time.monotonic()
                if position not in kept.positions():
                    await asyncio.to_thread(kept.make, owned.state, position)
                oldest = owned.checkpointed = kept.positions()[0]
                seconds = round(time.monotonic() - began, 2)
                source = owned.lane.source
                log.info("checkpoint", source=source, position=position, seconds=seconds)
                if await asyncio.to_thread(self._opener.first_offset, place) > oldest:
                    log.warning(
                        "the lane log no longer reaches back to the oldest checkpoint: keep fewer, or keep the log longer",
                        source=source,
                        position=oldest,
                    )

    @property
    def age(self) -> float:
        """Seconds since the event loop last ran."""
        return time.monotonic() - self._alive

    def status(self) -> dict[str, dict[str, Any]]:
        """Give how each lane is and what it has done; for `tongbu status`, metrics and health."""
        return {
            owned.lane.source: self._status(place, owned)
            for place, owned in list(self.lanes.items())
        }

    def _status(self, place: Place, owned: OwnedLane) -> dict[str, Any]:
        end = self.end_of(place)
        behind = None if end is None else max(0, end - owned.next)
        counters = owned.lane.counters
        return {
            "position": owned.state.position,
            "epoch": owned.lane.epoch,
            "snapshot_published": owned.lane.published,
            "stopped": owned.stopped or owned.lane.waiting.why,
            "behind": behind,
            "behind_ms": owned.age // 1000 if behind else 0,
            "outputs_in_flight": owned.outputs,
            "records_in_flight": owned.records,
            "state_bytes": owned.state.bytes_on_disk,
            "checkpoint_position": owned.checkpointed,
            "withheld": owned.lane.withheld,
            "quarantined": owned.lane.quarantine.status(),
            **{name: getattr(counters, name) for name in counters.__slots__},
        }


def _die(code: int, event: str, **why: Any) -> NoReturn:
    log.critical(event, **why)
    os._exit(code)

"""
The processor without Faust: it owns lanes, and brings batches through them.

Outputs, then state, then offset (invariant I3), without waiting in between: a batch is processed and its outputs are
sent; when the broker has them, state and position are written at once; then the transport may commit. Whatever is
interrupted is done again, byte for byte the same. Where the broker does not take an output, or no longer tells that the
lanes are ours, all that is under way is given up, and the group is asked for the lanes anew.

A batch is worked on where it arrives. What is long (a giant), or has to wait, goes on in a task of its lane, in slices:
other lanes have their turns in between.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import Any, NoReturn

import structlog
from confluent_kafka import KafkaException

from schemas.declarations import Source
from streams.errors import LaneStopped
from streams.flight import OwnedLane
from streams.opening import Opener, Place
from streams.outputs import Batch, Outputs
from streams.settings import Settings
from streams.terms import Committed
from streams.trouble import Trouble

log = structlog.get_logger("processor")

#: How often the broker's answers are taken while something waits for them, and while outputs are merely in flight: every
#: batch takes them anyway, and nobody but the state waits.
_TICK_SECONDS, _LAND_SECONDS = 0.001, 0.005
_HEARTBEAT_SECONDS = 0.25
#: The group is asked every second; where it does not answer for so long, health says so.
_SILENT_SECONDS = 5.0
#: What was on its way when a frozen process woke up has come after so long.
_LATE_SECONDS = 0.5
#: A lane works for so long on a batch at a stretch: nearly every one is done in the first.
_FIRST_SLICE_SECONDS, _SLICE_SECONDS = 0.05, 0.005
#: Exit codes; whoever supervises the process starts it again, and it does again what was not finished.
_EXIT_STALE, _EXIT_BROKEN = 72, 73


class Processor:
    """Owns lanes and produces what they make. All of it runs in one thread, the event loop's."""

    def __init__(self, settings: Settings, sources: dict[str, Source]) -> None:
        self.settings = settings
        self.lanes: dict[Place, OwnedLane] = {}
        self.trouble = Trouble()
        #: Nothing is taken: the lanes are being given up, or were.
        self._leaving = False
        self._landing: asyncio.TimerHandle | None = None
        self._alive = time.monotonic()
        self._opener = Opener(settings, sources)
        self._copying = asyncio.Lock()
        self._rejoining: asyncio.Task[None] | None = None
        #: Gives the end of a lane log as the consumer knows it.
        self.end_of: Callable[[Place], int | None] = lambda _: None
        #: Seconds since the group last said that the lanes are ours.
        self.silence: Callable[[], float] = lambda: 0.0
        #: Seconds for which the group has given lanes that are not open.
        self.opening: Callable[[], float] = lambda: 0.0
        #: Asks the group for lanes anew: what is owned is released, and opened again.
        self.rejoin: Callable[[], Awaitable[None]]
        self._outputs = Outputs(
            settings.kafka_bootstrap, settings.tongbu_namespace, settings.delivery_seconds
        )

    # -- owner of the partitions' states (streams.transport.Owner)

    def open(self, places: set[Place], committed: dict[Place, Committed]) -> dict[Place, int]:
        """Open the states of lanes; give where to start reading each that goes on. Nothing may be read before `begin`."""
        opened: dict[Place, OwnedLane] = {}
        try:
            for place in places:
                opened[place] = self._opener.open(place, committed.get(place, Committed()))
        except BaseException:
            for owned in opened.values():
                owned.close()
            raise
        self.lanes = opened
        self._leaving = False
        # The log of one that is stopped may be another one by now, without that offset.
        return {place: owned.next for place, owned in opened.items() if not owned.stopped}

    def claims(self) -> dict[Place, Committed]:
        """Give what to commit before lanes begin their terms; those that can't go on from their states claim nothing."""
        return {place: owned.claim for place, owned in self.lanes.items() if not owned.stopped}

    def begin(self) -> None:
        """Begin the terms of lanes: their claims are committed."""
        for owned in self.lanes.values():
            if not owned.stopped:
                owned.begin()

    def silent(self) -> dict[Place, Committed]:
        """Give the lanes for which nothing was sent in their terms, with what was committed before."""
        return {place: owned.committed for place, owned in self.lanes.items() if owned.silent}

    async def drain(self) -> None:
        """Take no more batches, and wait until those in flight are on disk: at most the delivery time-out."""
        self._leaving = True
        while any(owned.under_way for owned in self.lanes.values()):
            await self._pause(_TICK_SECONDS)

    async def release(self) -> None:
        """Close all lanes, after `drain`."""
        await self.drain()
        async with self._copying:
            lanes, self.lanes = self.lanes, {}  # the thread that opens lanes may put others there
            for owned in lanes.values():
                owned.close()

    def end(self) -> None:
        """Wait for no broker any more: the process is to end."""
        self._opener.ending.set()

    def full(self) -> set[Place]:
        """Give the lanes that have to finish what they hold before they take more."""
        return {place for place, owned in self.lanes.items() if owned.inbox_full}

    def position(self, place: Place) -> int | None:
        """Give a lane's position on disk; None where its term has not begun."""
        owned = self.lanes.get(place)
        return owned.state.position if owned and owned.has_begun else None

    def term(self, place: Place) -> str | None:
        """Give a lane's term; None where it has not begun."""
        owned = self.lanes.get(place)
        return owned.term if owned and owned.has_begun else None

    # -- the way of a batch

    async def process(self, place: Place, messages: list[Any]) -> None:
        """Bring a batch of a lane (confluent_kafka messages) on its way; return before its outputs are delivered."""
        owned = self.lanes.get(place)
        if owned is None or owned.stopped or self._leaving:
            return
        owned.receive(messages)
        if owned.task is None:
            steps = self._work(owned)
            if next(steps, None) is not None:
                owned.task = asyncio.create_task(self._go_on(owned, steps))

    async def _go_on(self, owned: OwnedLane, steps: Iterator[float]) -> None:
        """Do the rest of a lane's work, with pauses in which others run."""
        try:
            for seconds in steps:
                await self._pause(seconds)
        except Exception as error:
            log.exception("a lane can't go on", source=owned.lane.source)
            _die(_EXIT_BROKEN, "ending, the restart does the rest again", why=str(error))
        finally:
            owned.task = None

    def _work(self, owned: OwnedLane) -> Iterator[float]:
        """Bring what a lane has received on its way; yields how many seconds it has to wait, 0 where others have a turn."""
        while not self._leaving and (batch := owned.next_batch()) is not None:
            while owned.full:
                yield _TICK_SECONDS
                if self._leaving:
                    return
            try:
                for seconds in self._run(owned, batch):
                    yield seconds
                    if self._leaving:
                        return  # what it wrote is discarded when the lane is closed
            except LaneStopped as error:
                owned.stop(str(error))
                return
            owned.age = max(0, batch.received - batch.taken[-1].timestamp()[1] * 1000)
            owned.took("captured", owned.age / 1e6)
            owned.depart(batch)
            self._land_later()

    def _run(self, owned: OwnedLane, batch: Batch) -> Iterator[float]:
        """Make what a batch makes, and send it; yields as `_work` does."""
        turn_ends = time.monotonic() + _FIRST_SLICE_SECONDS
        try:
            for output in owned.make(batch, replayed=self.settings.tongbu_replay):
                if output is not None and batch.gather(output):
                    yield from self._send(batch)
                if time.monotonic() > turn_ends:
                    yield from self._send(batch)
                    yield 0.0
                    turn_ends = time.monotonic() + _SLICE_SECONDS
        except LaneStopped:  # what is before the record that stops the lane is published
            yield from self._send(batch)
            raise
        yield from self._send(batch)

    def _send(self, batch: Batch) -> Iterator[float]:
        """Send what a batch has ready."""
        while batch.ready:
            self._check_fresh()
            if self._outputs.produce(batch.ready[0], batch):
                batch.ready.popleft()
            else:
                yield _TICK_SECONDS
        batch.ready_bytes = 0

    async def _pause(self, seconds: float) -> None:
        """Let others run."""
        self._check_fresh()
        self._land()
        await asyncio.sleep(seconds)
        self._alive = time.monotonic()

    def _land(self) -> None:
        """Take the broker's answers, and write what is delivered; give all up where it did not take an output."""
        self._outputs.poll()
        for owned in self.lanes.values():
            for batch, output in owned.asked():
                if not self._outputs.produce(output, batch):
                    batch.asked.appendleft(output)
                    break
            landed = owned.landed
            failed = owned.land()
            if failed is not None:
                self._give_up(failed)
                return
            if owned.landed != landed:
                self.trouble.end()

    def _give_up(self, why: str) -> None:
        """Forget all that is not on disk, and ask the group for the lanes anew, after a pause."""
        self._leaving = True
        self._outputs.forget()
        for owned in self.lanes.values():
            owned.forget()
        if self._rejoining is None or self._rejoining.done():
            self._rejoining = asyncio.create_task(self._rejoin(self.trouble.begin(why)))

    async def _rejoin(self, pause: float) -> None:
        """Ask for lanes anew, and again every session, until those that were given up are released."""
        given_up = self.lanes
        while self.lanes is given_up:
            await asyncio.sleep(pause)
            await self.rejoin()
            pause = self.settings.tongbu_session_seconds

    def _check_fresh(self) -> None:
        """End the process where it was frozen for longer than its session: another worker may own the lanes."""
        stale = time.monotonic() - self._alive
        if stale > self.settings.tongbu_session_seconds:
            self._mend_late()
            _die(
                _EXIT_STALE,
                "frozen for longer than the session; ending, for another worker may have the lanes",
                seconds=round(stale, 1),
            )

    def _mend_late(self) -> None:
        """
        Have what was under way published again by whoever owns the lanes now.

        The producer's threads wake up with the process and may send what was queued before they can be told not to.
        """
        if self.settings.tongbu_replay:
            return
        asked = [output for owned in self.lanes.values() for output in owned.lane.late()]
        if not asked:
            return
        self._outputs.forget()
        time.sleep(_LATE_SECONDS)
        for output in asked:
            self._outputs.produce(output, Batch())
        self._outputs.flush()

    def _check_trouble(self) -> None:
        """Give all up where the group is silent for a session, for another worker may own the lanes; see trouble end."""
        silence = self.silence()
        if self._leaving or not self.lanes:
            return
        if silence > self.settings.tongbu_session_seconds:
            self._give_up(f"the group has not answered for {silence:.0f} s")
        elif self.trouble.why and all(self._behind(*each) == 0 for each in self.lanes.items()):
            self.trouble.end()

    def _behind(self, place: Place, owned: OwnedLane) -> int | None:
        end = self.end_of(place)
        return None if end is None else max(0, end - owned.next)

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
            self._check_trouble()
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    async def checkpoint(self) -> None:
        """Copy the states of all lanes, in another thread; the log goes on meanwhile."""
        for place, owned in list(self.lanes.items()):
            async with self._copying:
                position = owned.state.position
                if self.lanes.get(place) is not owned or owned.stopped or position is None:
                    continue
                kept = self._opener.checkpoints(place)
                began = time.monotonic()
                await asyncio.to_thread(kept.make, owned.state, position)
            oldest = owned.checkpointed = kept.positions()[0]
            seconds = round(time.monotonic() - began, 2)
            source = owned.lane.source
            log.info("checkpoint", source=source, position=position, seconds=seconds)
            # A broker that is away keeps this waiting: not with the lock, which lanes that are released need.
            try:
                first = await asyncio.to_thread(self._opener.first_offset, place)
            except (KafkaException, TimeoutError):  # asked no more: the process is to end
                return
            if first > oldest:
                log.warning(
                    "the lane log no longer reaches back to the oldest checkpoint: keep fewer, or keep the log longer",
                    source=source,
                    position=oldest,
                )

    @property
    def age(self) -> float:
        """Seconds since the event loop last ran."""
        return time.monotonic() - self._alive

    def kafka(self) -> dict[str, Any]:
        """Give what is waited for (`waiting`: why, None where all is well), for how long, how often, the group's silence, and for how long lanes are being opened."""
        status, silence = self.trouble.status(), self.silence()
        if status["waiting"] is None and silence > _SILENT_SECONDS:
            why = "the consumer group does not answer"
            status |= {"waiting": why, "waiting_seconds": round(silence, 1)}
        opening = round(self.opening(), 1)
        return status | {"silence_seconds": round(silence, 1), "opening_seconds": opening}

    def status(self) -> dict[str, dict[str, Any]]:
        """Give how each lane is and what it has done; for `tongbu status`, metrics and health."""
        return {
            owned.lane.source: self._status(place, owned)
            for place, owned in list(self.lanes.items())
        }

    def _status(self, place: Place, owned: OwnedLane) -> dict[str, Any]:
        behind = self._behind(place, owned)
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
            "tables_being_read": len(owned.lane.snapshots.active),
            "tables_incomplete": len(owned.lane.snapshots.incomplete),
            **asdict(counters),
        }


def _die(code: int, event: str, **why: Any) -> NoReturn:
    log.critical(event, **why)
    os._exit(code)

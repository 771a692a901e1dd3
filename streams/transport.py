"""
The batching transport: Faust, with a batch of records as what an agent iterates over, starting where the state says.

Stock Faust makes one event (and four tasks) per record, seeks to the committed offset and loses records on
gaps and errors (docs/faust.md). Here the agent takes its records from `streams.reading`, batch by batch; Faust has the agent,
the group, the assignment, the commits and the life cycle. The start position comes from the owner of the partition's state, and
what is committed to Kafka is that owner's position. It uses private hooks of faust-streaming 0.15.3 and aiokafka
0.14.0, which are pinned; tests/streams/test_transport.py holds them to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Protocol

import faust
from aiokafka.errors import CommitFailedError, IllegalGenerationError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.reading import Fetched, Reading
from streams.terms import Committed

#: So often it is looked whether partitions are assigned.
_UNASSIGNED_SECONDS = 0.05


class Owner(Protocol):
    """Who holds the state of the partitions that this worker owns."""

    def open(self, tps: set[TP], committed: dict[TP, Committed]) -> dict[TP, int]:
        """Take partitions over (in a worker thread); give the offset to start each at."""

    def claims(self) -> dict[TP, Committed]:
        """Give what to commit before the terms begin in which partitions were taken over."""

    def begin(self) -> None:
        """The claims are committed: what is read from here on may be published."""

    def silent(self) -> dict[TP, Committed]:
        """Give the partitions of which nothing was published in their terms, with what was committed before."""

    async def drain(self) -> None:
        """Finish what is in hand, so that its position can be committed; take nothing new."""

    async def release(self) -> None:
        """Close all partitions, after `drain`."""

    def position(self, tp: TP) -> int | None:
        """Give the next offset to read of a partition, as its state has it on disk; None before its term begins."""

    def term(self, tp: TP) -> str | None:
        """Give the term of a partition; None before it begins."""

    def end(self) -> None:
        """The process is to end: wait for no broker any more."""

    def full(self) -> set[TP]:
        """Give the partitions that take no more at present."""


class LaneLogs(faust.Topic):  # type: ignore[misc]
    """The lane logs for an agent: what it iterates over are batches, as they were fetched, and no events."""

    async def __anext__(self) -> Fetched:
        fetched: Fetched = await self.app.consumer.next_batch()
        return fetched


class _GroupThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """aiokafka is the member of the group: it joins, heartbeats and commits, and fetches nothing."""

    async def on_start(self) -> None:
        await super().on_start()
        # A member that seems not to fetch leaves the group after max.poll.interval.
        self._fetching = self._ensure_consumer()._subscription.fetch_context()
        self._fetching.__enter__()
        self._listen()
        self._fence()

    def _listen(self) -> None:
        """Note when the group last said that this worker is a member."""
        coordinator = self._ensure_consumer()._coordinator
        beat = coordinator._do_heartbeat
        self.consumer.heard = time.monotonic()

        async def heartbeat() -> bool:
            success: bool = await beat()
            if success:
                self.consumer.heard = time.monotonic()
            return success

        coordinator._do_heartbeat = heartbeat

    def _fence(self) -> None:
        """
        Commit nothing but in the assignment that it was asked for in.

        aiokafka tries again after a rebalance, in the name of the new generation; and in that of none where the group has
        forgotten this member, which Kafka takes from anybody while the group is empty.
        """
        coordinator = self._ensure_consumer()._coordinator
        commit = coordinator._do_commit_offsets

        async def commit_in(assignment: Any, offsets: Any) -> None:
            if not assignment.active or coordinator.generation != self.app.consumer_generation_id:
                raise IllegalGenerationError
            await commit(assignment, offsets)

        coordinator._do_commit_offsets = commit_in

    async def rejoin(self) -> None:
        """Ask the group for partitions anew."""
        self._ensure_consumer()._coordinator.request_rejoin()

    async def committed(self, tps: set[TP]) -> dict[TP, Committed]:
        """Give what the group has committed of partitions, those left out of which it has nothing."""
        coordinator = self._ensure_consumer()._coordinator
        found = await coordinator.fetch_committed_offsets([TopicPartition(*tp) for tp in tps])
        return {TP(*tp): Committed(each.offset, each.metadata or "") for tp, each in found.items()}

    async def _commit(self, offsets: Mapping[TP, Committed]) -> bool:
        """Commit offsets as stock Faust does, with their terms; give whether the partitions are still ours."""
        owned = self.assignment()
        wanted = {
            TopicPartition(*tp): OffsetAndMetadata(*each)
            for tp, each in offsets.items()
            if tp in owned
        }
        if not wanted:
            return False
        try:
            await self._ensure_consumer().commit(wanted)
        except CommitFailedError:
            return False
        except Exception as error:
            self.log.exception("Offsets can't be committed")
            await self.crash(error)
            return False
        return True

    async def rest(self) -> None:
        consumer = self._ensure_consumer()
        consumer.pause(*consumer.assignment())


class LaneConsumer(driver.Consumer):  # type: ignore[misc]
    """A consumer whose offsets are those of the states that `owner` holds; `reading` brings their records."""

    owner: Owner
    bootstrap: str
    #: That of the present assignment: what others have brought is stale, and will be read again.
    reading: Reading | None = None
    #: When the group last answered as to a member (monotonic seconds).
    heard: float

    #: Stands for the present assignment; None from the moment on at which it is revoked.
    _assigned: object | None = None
    #: Since when lanes are assigned and not open (monotonic seconds).
    _opening_since: float | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._seeking = asyncio.Lock()
        self.heard = time.monotonic()
        super().__init__(*args, **kwargs)

    @property
    def silence(self) -> float:
        """Seconds since the group last answered."""
        return time.monotonic() - self.heard

    @property
    def opening(self) -> float:
        """Seconds for which lanes are assigned and not open; 0 where they are, or none is assigned."""
        since = self._opening_since
        return 0.0 if since is None else time.monotonic() - since

    async def rejoin(self) -> None:
        """Have all partitions revoked and assigned anew, by the group, once it answers."""
        await self._thread.call_thread(self._thread.rejoin)

    def _new_consumer_thread(self) -> _GroupThread:
        return _GroupThread(self, loop=self.loop, beacon=self.beacon)

    async def next_batch(self) -> Fetched:
        """Give the next batch of the present assignment. Raise what ends its reading."""
        while True:
            reading = self.reading
            if reading is None:
                await asyncio.sleep(_UNASSIGNED_SECONDS)
                continue
            fetched = await reading.take()
            if fetched is not None and reading is self.reading:
                return fetched

    async def _drain_messages(self, fetcher: Any) -> None:
        """Bring nothing: the agent takes batches itself. Stock Faust's way from here to there takes as long as a small batch."""
        try:
            await fetcher.wait_for_stopped()
        except asyncio.CancelledError:
            # In a rebalance Faust takes its own stop for a restart, and fails.
            if not fetcher.should_stop:
                raise

    def end(self, tp: TP) -> int | None:
        """Give the end of a partition as the reading knows it."""
        return None if self.reading is None else self.reading.end(tp)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave it to /healthz: stock Faust looks at aiokafka's fetches, of which there are none."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:
        del topics
        return [tp for tp in self.assignment() if self.owner.position(tp) is not None]

    def _new_offset(self, tp: TP) -> int | None:
        return self.owner.position(tp)

    async def perform_seek(self) -> None:
        """
        Start every owned partition where its state stands; called after each assignment, possibly twice.

        Faust cancels a seek when the group rebalances meanwhile. The thread that opens the lanes goes on nevertheless, so
        the next seek waits until it is done: a state can be open once only.
        """
        await asyncio.shield(self._seek_all())

    async def _seek_all(self) -> None:
        async with self._seeking:
            assigned = self._assigned
            tps = {tp for tp in self.assignment() if tp.topic in self.app.lane_topics}
            if assigned is None or not tps:
                return
            thread = self._thread
            committed = await thread.call_thread(thread.committed, tps)
            await thread.call_thread(thread.rest)
            self._opening_since = self._opening_since or time.monotonic()
            await self._stop_reading()
            await self.owner.release()
            try:
                starts = await asyncio.get_running_loop().run_in_executor(
                    None, self.owner.open, tps, committed
                )
            except Exception:
                if self._assigned is not assigned:  # the process ends: nobody waits for them
                    return
                raise
            if self._assigned is not assigned or not await self._claim():
                await self.owner.release()  # another worker may have them
                return
            self.owner.begin()
            self.heard = time.monotonic()
            self.reading = Reading(self.bootstrap, starts, self.owner.full)
            self._opening_since = None

    async def _claim(self) -> bool:
        """Commit where the terms of partitions begin, before any output of theirs; give whether they are still ours."""
        assigned, claims = self._assigned, self.owner.claims()
        self._committed_offset.update({tp: claim.offset for tp, claim in claims.items()})
        if claims and not await self._thread.commit(claims):
            return False
        return self._assigned is assigned

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets in the terms of those partitions that are open still, and have no more committed."""
        terms = {tp: self.owner.term(tp) for tp in offsets if self._should_commit(tp, offsets[tp])}
        stamped = {
            tp: Committed(offsets[tp], term) for tp, term in terms.items() if term is not None
        }
        committed: bool = await self._thread.commit(stamped)
        return committed

    async def _commit_last(self) -> None:
        """
        Commit how far partitions have come that are drained.

        One of which nothing was published is given back in the term before: the state that was ahead is of use still.
        """
        # Stock Faust takes a commit that is under way for this one.
        await self.maybe_wait_for_commit_to_finish()
        await self.commit()
        if silent := self.owner.silent():
            await self._thread.commit(silent)

    async def _stop_reading(self) -> None:
        reading, self.reading = self.reading, None
        if reading is not None:
            await reading.stop()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Note that what is opened from here on is ours."""
        self._assigned = object()
        self._opening_since = time.monotonic() if assigned else None
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish, commit and close before another worker starts."""
        self._assigned = self._opening_since = None
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self._stop_reading()
        await self.owner.drain()
        await self._commit_last()
        await self.owner.release()
        await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        """Finish, commit and close on SIGTERM."""
        self._assigned = None
        self.owner.end()
        await self._stop_reading()
        await self.owner.drain()
        await self._commit_last()
        await super().on_stop()
        await self.owner.release()


class _Recovery(Recovery):  # type: ignore[misc]
    """Brings an assignment to work: it has the lanes opened and lets the batches flow."""

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        """Wait without a time-out: stock Faust takes its end for that of the process, and starts no assignment any more."""
        del timeout
        await super()._wait(coro)


class _Tables(TableManager):  # type: ignore[misc]
    """There are no tables; stock Faust sleeps a second for them at start."""

    _recovery: _Recovery | None = None

    @property
    def recovery(self) -> _Recovery:
        """Give what brings assignments to work."""
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def install(app: Any, owner: Owner, lane_topics: set[str], bootstrap: str) -> None:
    """Make an app read lanes for an owner."""

    class OwnedConsumer(LaneConsumer):
        pass

    class Transport(driver.Transport):  # type: ignore[misc]
        Consumer = OwnedConsumer

    OwnedConsumer.owner, OwnedConsumer.bootstrap = owner, bootstrap
    app.lane_topics = lane_topics
    app.transport = Transport(app.conf.broker_consumer, app, loop=None)


#: Settings of the Faust app that the transport relies on.
SETTINGS: dict[str, Any] = {
    "Topic": LaneLogs,
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
}

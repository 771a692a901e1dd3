"""A lane that a worker owns, with its batches in flight: outputs delivered, then state and position, in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from prometheus_client import Histogram

from streams.health import STAGES
from streams.lane import Lane
from streams.outputs import Batch
from streams.records import LaneRecord, Output
from streams.settings import REPLAY_OFFSET
from streams.state import State, Writes
from streams.terms import Committed, new_term

log = structlog.get_logger("processor")

#: With so many outputs not delivered, or records not on disk, a lane reads no further.
MAX_OUTPUTS = 10_000
MAX_RECORDS = 20_000
#: With so many records received and not worked on, no more of the lane are fetched.
MAX_INBOX = 2_000


@dataclass
class OwnedLane:
    """
    A lane with its state, in a `term` of its own. Below the offset `committed` its outputs were delivered before (by another worker, or before a loss).

    `next` is the next offset to process, ahead of the position on disk by what is in flight.
    """

    lane: Lane
    state: State
    committed: Committed
    next: int
    term: str = field(default_factory=new_term)
    #: The term is committed: from here on outputs may be sent, and positions committed.
    has_begun: bool = False
    stopped: str | None = None
    batches: deque[Batch] = field(default_factory=deque)
    outputs: int = 0
    records: int = 0
    #: Batches that have landed since the lane was opened.
    landed: int = 0
    #: Batches received and not begun, and what works on them where it could not be done at once.
    inbox: deque[Batch] = field(default_factory=deque)
    inbox_records: int = 0
    task: asyncio.Task[None] | None = None

    #: Append time of the last record, and how old it was when it was read, in microseconds.
    age: int = 0
    checkpointed: int | None = None
    #: Batches that are written and not in their place yet; they are the oldest of `batches`.
    _written: list[Batch] = field(default_factory=list)
    #: When their write to disk began.
    _written_at: float = 0.0
    _clocks: dict[str, Histogram] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Tell whether the next batch has to wait."""
        return (
            self.outputs >= MAX_OUTPUTS
            or self.records >= MAX_RECORDS
            or (self.state.set_down and bool(self.batches))
        )

    @property
    def inbox_full(self) -> bool:
        """Tell whether no more should be fetched."""
        return self.inbox_records >= MAX_INBOX

    @property
    def claim(self) -> Committed:
        """Give what to commit before the term begins: all below it is delivered."""
        return Committed(max(self.committed.offset, self.state.position or 0), self.term)

    def begin(self) -> None:
        """Begin the term, which is committed."""
        self.state.begin(self.term)
        self.has_begun = True

    @property
    def silent(self) -> bool:
        """Tell whether nothing was sent in this term: all that it has worked on was delivered before."""
        return self.has_begun and self.next < self.committed.offset

    @property
    def under_way(self) -> bool:
        """Tell whether something is worked on or in flight."""
        return self.task is not None or bool(self.batches)

    def make(self, batch: Batch, *, replayed: bool = False) -> Iterator[Output | None]:
        """
        Give what a batch's records make for other topics, and note what it asks of the lane's own; None is a place to pause.

        `replayed`: the records have the offsets they had when they were recorded, and nothing is asked.
        """
        topic, mute_below = f"cdc.{self.lane.source}", self.committed.offset
        for message in batch.taken:
            offset: int = message.offset()
            if offset < self.next:
                continue
            muted = offset < mute_below
            record = lane_record(topic, message)
            for output in self.lane.process(_at_first(record) if replayed else record):
                if output is None or muted:
                    yield None
                elif output.topic != topic:
                    yield output
                elif not replayed:
                    batch.asked.append(output)
            batch.records += 1
            self.next = offset + 1

    def receive(self, records: list[Any]) -> None:
        """Take records; they are worked on in their turn."""
        self.inbox.append(Batch(taken=records))
        self.inbox_records += len(records)

    def next_batch(self) -> Batch | None:
        """Begin with the next batch."""
        if self.stopped or not self.inbox:
            return None
        batch = self.inbox.popleft()
        self.inbox_records -= len(batch.taken)
        batch.began = time.monotonic()
        return batch

    def forget(self) -> None:
        """Forget what is not on disk; the lane is of no use afterwards."""
        self.inbox.clear()
        self.batches.clear()
        self._written.clear()
        self.outputs = self.records = self.inbox_records = 0
        self.state.discard()

    def stop(self, why: str) -> None:
        """Read no further: going on could produce wrong results. The other lanes go on."""
        self.stopped = why
        log.error("lane stopped", source=self.lane.source, why=why)

    def depart(self, batch: Batch) -> None:
        """Take a batch whose outputs are all sent."""
        self.lane.end_batch()
        batch.writes = self.state.seal(self.next)
        now = time.monotonic()
        batch.ended, batch.next_at = now, now + (now - batch.began)
        batch.taken = []
        self.batches.append(batch)
        self.outputs += batch.waiting
        self.records += batch.records

    def asked(self) -> Iterator[tuple[Batch, Output]]:
        """
        Give what batches may append to the lane's own log now: the next chunk of a republish.

        Its turn comes when the last is delivered, and after a pause as long as the work was: half of the
        time stays for live traffic.
        """
        now = time.monotonic()
        for batch in self.batches:
            while (output := batch.due(now)) is not None:
                yield batch, output

    def land(self) -> str | None:
        """Put delivered batches on disk at once, in their order; give why one was not taken by the broker."""
        failed = self._write_delivered() if not self._written else None
        # A large one is put in its place in several calls.
        if self._written and not self.state.settle():
            now = time.monotonic()
            for batch in self._written:
                self._retire(batch, now)
            self._written.clear()
        self.outputs = sum(batch.waiting for batch in self.batches)
        return failed

    def _write_delivered(self) -> str | None:
        """Write what is delivered; give why the one behind it was not taken."""
        failed = None
        writes: list[Writes] = []
        for batch in self.batches:
            failed = batch.failed
            if failed is not None or batch.writes is None or not batch.delivered:
                break
            self._written.append(batch)
            writes.append(batch.writes)
        if writes:
            self._written_at = time.monotonic()
            self.state.write(*writes)
        return failed

    def _retire(self, batch: Batch, now: float) -> None:
        """Let go of the oldest batch, which is on disk."""
        assert batch.writes is not None
        self.batches.popleft()
        self.state.retire(batch.writes)
        self.landed += 1
        self.records -= batch.records
        self.took("processed", batch.ended - batch.began)
        self.took("delivered", self._written_at - batch.ended)
        self.took("written", now - self._written_at)

    def took(self, stage: str, seconds: float) -> None:
        """Count what a batch took in a stage."""
        clock = self._clocks.get(stage)
        if clock is None:  # looking a metric up by its labels costs more than counting
            clock = self._clocks[stage] = STAGES.labels(self.lane.source, stage)
        clock.observe(seconds)

    def close(self) -> None:
        """Forget what is not on disk, and release the folder."""
        self.forget()
        self.state.close()


def lane_record(topic: str, message: Any) -> LaneRecord:
    """Give a message of confluent_kafka as a record of the lane log `topic`, whatever the topic's name is there."""
    return LaneRecord(
        topic,
        message.offset(),
        message.timestamp()[1] * 1000,
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


def _at_first(record: LaneRecord) -> LaneRecord:
    """Give a record of a replay with the offset that it had when it was recorded."""
    offset = int(dict(record.headers)[REPLAY_OFFSET])
    return msgspec.structs.replace(record, offset=offset)

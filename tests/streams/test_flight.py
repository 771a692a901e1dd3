"""Batches in flight: outputs, then state and position, in order, whatever order the broker answers in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from lanes import Log, Reader, head, line

from schemas import control
from streams.flight import MAX_INBOX, MAX_RECORDS, OwnedLane
from streams.outputs import SENT_TOGETHER, SENT_TOGETHER_BYTES, Batch
from streams.records import Output
from streams.terms import Committed


class Flying:
    """A lane whose outputs are under way until the test says that the broker has them."""

    def __init__(self, folder: Path) -> None:
        self.reader = Reader(folder)
        self.log = Log().start()
        self.reader.run(self.log)
        start = self.reader.state.position or 0
        self.owned = OwnedLane(self.reader.lane, self.reader.state, Committed(), next=start)

    def send(self) -> Batch:
        """Process what the log has; give the batch with its outputs waiting."""
        batch = Batch()
        for record in self.log.records[self.owned.next :]:
            for output in self.owned.lane.process(record):
                if output is None:
                    continue
                if output.topic == "cdc.erp":
                    batch.asked.append(output)
                else:
                    batch.waiting += 1
            batch.records += 1
            self.owned.next += 1
        self.owned.depart(batch)
        return batch

    def order(self, number: int) -> Batch:
        self.log.transaction(("c", "head", head(number)), ("c", "line", line(number, number)))
        return self.send()

    def acknowledge(self, batch: Batch, count: int | None = None) -> None:
        for _ in range(batch.waiting if count is None else count):
            batch.on_delivery(None, None)
        assert self.owned.land() is None

    @property
    def position(self) -> int | None:
        return self.owned.state.position


@pytest.fixture
def flying(tmp_path: Path) -> Flying:
    return Flying(tmp_path)


def test_the_position_moves_when_the_last_output_of_its_batch_is_delivered(flying: Flying) -> None:
    before = flying.position
    batch = flying.order(1)

    flying.acknowledge(batch, batch.waiting - 1)
    assert flying.position == before
    flying.acknowledge(batch)
    assert flying.position == flying.owned.next
    assert (flying.owned.outputs, flying.owned.records) == (0, 0)


def test_a_later_batch_that_is_delivered_first_waits_for_the_earlier_one(flying: Flying) -> None:
    before = flying.position
    first, second = flying.order(1), flying.order(2)

    flying.acknowledge(second)
    assert flying.position == before
    flying.acknowledge(first)
    assert flying.position == flying.owned.next


def test_batches_that_are_delivered_together_are_written_at_once_up_to_the_first_that_is_not(
    flying: Flying,
) -> None:
    first, second, third, last = (flying.order(number) for number in range(1, 5))
    for batch in (first, second, last):
        for _ in range(batch.waiting):
            batch.on_delivery(None, None)
    behind_second = second.writes.position if second.writes else None

    assert flying.owned.land() is None
    assert flying.position == behind_second
    assert flying.owned.landed == 2
    assert flying.owned.records == third.records + last.records


def test_what_is_delivered_is_kept_where_the_output_behind_it_was_not_taken(flying: Flying) -> None:
    first, second = flying.order(1), flying.order(2)
    for _ in range(first.waiting):
        first.on_delivery(None, None)
    second.on_delivery("timed out", SimpleNamespace(topic=lambda: "canonical.order.v1"))
    behind_first = first.writes.position if first.writes else None

    assert flying.owned.land() == "canonical.order.v1: timed out"
    assert flying.position == behind_first


def test_a_batch_builds_on_what_the_ones_in_flight_have_changed(flying: Flying) -> None:
    flying.order(1)
    flying.log.transaction(("u", "head", head(1, note="changed")))
    batch = flying.send()

    assert batch.waiting == 2, "an update of the order that is not on disk yet: message and record"
    assert flying.owned.lane.counters.dead_letters == 0


def test_what_was_in_flight_at_a_crash_is_done_again(flying: Flying) -> None:
    flying.acknowledge(flying.order(1))
    kept = flying.position
    flying.order(2)

    flying.owned.close()
    again = Reader(flying.reader.folder)

    assert again.state.position == kept
    records = again.records(again.run(flying.log))
    assert [record["id"] for record in records] == ["erp:SO2"]


def test_an_output_that_the_broker_does_not_take_keeps_its_batch_off_the_disk(
    flying: Flying,
) -> None:
    before = flying.position
    batch = flying.order(1)
    for _ in range(batch.waiting):
        batch.on_delivery("timed out", SimpleNamespace(topic=lambda: "canonical.order.v1"))

    assert flying.owned.land() == "canonical.order.v1: timed out"
    assert flying.position == before


def test_a_lane_with_too_much_in_flight_is_full_until_it_lands(flying: Flying) -> None:
    batch = flying.order(1)
    flying.owned.records = MAX_RECORDS
    assert flying.owned.full
    flying.owned.records = batch.records
    flying.acknowledge(batch)
    assert not flying.owned.full


def test_the_next_chunk_is_asked_for_when_the_last_is_delivered_and_belongs_to_its_batch(
    flying: Flying,
) -> None:
    for number in range(1, 4):
        flying.acknowledge(flying.order(number))
    before = flying.position
    flying.log.control(control.Republish(source="erp", entity="order", fill="f", limit=2))
    batch = flying.send()
    batch.next_at = 0.0

    assert list(flying.owned.asked()) == []
    flying.acknowledge(batch)
    assert flying.position == before, "a crash must not lose the request for the next chunk"
    ((of, output),) = flying.owned.asked()
    assert (of, output.topic) == (batch, "cdc.erp")
    assert flying.owned.land() is None
    assert flying.position == flying.owned.next


def test_outputs_are_sent_together_and_before_they_fill_memory() -> None:
    small, large = Output("t", b"k", b"v"), Output("t", b"k", bytes(SENT_TOGETHER_BYTES))
    batch = Batch()
    told = [batch.gather(small) for _ in range(SENT_TOGETHER)]
    assert told == [False] * (SENT_TOGETHER - 1) + [True]
    assert Batch().gather(large)


def test_an_inbox_is_full_by_the_records_that_wait_in_it(flying: Flying) -> None:
    owned = flying.owned
    owned.receive([None] * MAX_INBOX)
    assert owned.inbox_full
    owned.next_batch()
    assert not owned.inbox_full
    owned.receive([None] * MAX_INBOX)
    owned.forget()
    assert not owned.inbox_full

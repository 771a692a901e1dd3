"""Parts become whole messages, repeats are dropped, and of many versions one counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.errors import TongbuError
from sink_writers.messages import Assembler, Raw, net_effect

from .conftest import CLOCK


@pytest.fixture
def raw(world):
    """Make a Kafka record of the transactions topic."""

    def make(offset: int, lane_offset: int, part: int = 1, parts: int = 1, records=()) -> Raw:
        return world.raw(offset, lane_offset, part=part, parts=parts, records=records)

    return make


def test_parts_make_one_message_and_reading_would_begin_at_the_first(world, raw):
    assembler = Assembler(world.decoder, 0, 0)
    first, second = world.customer("c1", 7), world.customer("c2", 7)

    assert assembler.add(raw(3, 7, 1, 2, [first])) is None
    assert (assembler.next_offset, assembler.lane_offset) == (3, 0)
    message = assembler.add(raw(4, 7, 2, 2, [second]))
    assert message.is_giant
    assert tuple(message.records) == (first, second)
    assert [len(each.records) for each in message.slices()] == [1, 1]
    assert message.clock == CLOCK
    assert (assembler.next_offset, assembler.lane_offset) == (5, 7)


def test_what_was_read_or_applied_before_is_dropped(world, raw):
    assembler = Assembler(world.decoder, 10, 7)

    assert assembler.add(raw(10, 7)) is None
    assert assembler.add(raw(11, 8)) is not None
    assert assembler.add(raw(12, 8)) is None
    assert assembler.add(raw(13, 6)) is None
    assert assembler.next_offset == 14


def test_a_message_whose_making_was_interrupted_is_completed_by_its_repeat(world, raw):
    assembler = Assembler(world.decoder, 0, 0)
    record = world.customer("c1", 7)

    assert assembler.add(raw(0, 7, 1, 3)) is None
    assert assembler.add(raw(1, 7, 2, 3)) is None
    assert assembler.add(raw(2, 7, 1, 3)) is None
    assert assembler.add(raw(3, 7, 2, 3)) is None
    assert tuple(assembler.add(raw(4, 7, 3, 3, [record])).records) == (record,)


def test_a_repeat_does_not_complete_what_is_buffered(world, raw):
    assembler = Assembler(world.decoder, 0, 5)

    assert assembler.add(raw(0, 7, 1, 2)) is None
    assert assembler.add(raw(1, 5, 1, 1)) is None
    assert assembler.next_offset == 0


def test_a_missing_part_stops_the_binding(world, raw):
    assembler = Assembler(world.decoder, 0, 0)
    assembler.add(raw(0, 7, 1, 2))

    with pytest.raises(TongbuError, match="offset 1: lane offset 7 of erp lacks a part"):
        assembler.add(raw(1, 8, 1, 1))


@pytest.mark.parametrize("value", [b"", b"{}", b"\0\0\0\0\x63\xff\xff"])
def test_a_record_that_is_no_message_stops_the_binding_by_name(world, raw, value):
    damaged = replace(raw(4, 7), value=value)

    with pytest.raises(TongbuError, match="partition 0, offset 4: no transaction message"):
        Assembler(world.decoder, 0, 0).add(damaged)


def test_the_highest_version_counts_and_of_equal_ones_the_later(world):
    first, last = world.customer("c1", 9, name="first"), world.customer("c1", 9, name="last")
    net = net_effect(
        [
            world.message(world.customer("c1", 10)),
            world.message(first, last, world.customer("c2", 9)),
        ]
    )

    assert [record.version for record in net["canonical.customer.v1"].values()] == [10, 9]
    assert net_effect([world.message(first, last)])["canonical.customer.v1"]["c1"] is last

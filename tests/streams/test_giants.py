"""Giant transactions: other lanes of the worker go on beside them, and memory stays bounded."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path

import pytest
from lanes import CAPTURED, declarations, head
from offline import OTHER, PLACE, World

from streams import flight, processor
from streams.contention import Contenders, Contention
from streams.in_force import compile_in_force
from streams.records import LaneRecord, RowChange
from streams.seal import Seal
from streams.stages.aggregate import TouchedSet
from streams.stages.encode import Moment
from streams.stages.image import row_key
from streams.state import State


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A processor that turns to other lanes as often as it can."""
    monkeypatch.setattr(processor, "_FIRST_SLICE_SECONDS", 0.0)
    monkeypatch.setattr(processor, "_SLICE_SECONDS", 0.0)
    return World(tmp_path)


def test_another_lane_goes_on_while_a_giant_is_worked_on(world: World) -> None:
    async def scene() -> None:
        owner, sent = world.processor, world.sent
        owner.open({PLACE, OTHER}, {})
        owner.begin()
        await world.finish(PLACE)
        world.logs[PLACE].transaction(*(("c", "head", head(number)) for number in range(1_000)))
        await world.read(PLACE)
        assert not sent.outputs, "the giant is under way"

        world.logs[OTHER].transaction(("c", "head", head(1)))
        await world.read(OTHER)
        while len(sent.outputs) < 2:
            await asyncio.sleep(0)
        assert [each.topic for each in sent.outputs] == [
            "canonical.transactions.v1",
            "canonical.order.v1",
        ], "those of the other lane: the giant has none yet"

        while owner.lanes[PLACE].task is not None:
            await asyncio.sleep(0)
        assert len(sent.outputs) == 2 + 1 + 1_000
        sent.answer(None)
        await owner.drain()
        assert owner.position(PLACE) == len(world.logs[PLACE].records)
        await owner.release()

    asyncio.run(scene())


def test_batches_behind_a_giant_wait_in_their_order_and_no_more_than_some_are_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "MAX_INBOX", 4)

    async def scene() -> None:
        owner, sent, log = world.processor, world.sent, world.logs[PLACE]
        owner.open({PLACE}, {})
        log.transaction(*(("c", "head", head(number)) for number in range(500)))
        await world.read()
        for number in (1000, 1001):
            assert owner.full() == set() or number == 1001
            log.transaction(("c", "head", head(number)))
            start = len(log.records) - 3
            await owner.process(PLACE, world.records(PLACE, start))
        assert owner.full() == {PLACE}
        while owner.lanes[PLACE].task is not None:
            await asyncio.sleep(0)
        assert owner.full() == set()
        keys = [each.key for each in sent.outputs if each.topic == "canonical.order.v1"]
        assert keys[-2:] == [b"erp:SO1000", b"erp:SO1001"]
        sent.answer(None)
        await owner.release()

    asyncio.run(scene())


def test_the_key_of_a_touched_row_takes_its_own_length_of_memory(tmp_path: Path) -> None:
    """Orjson gives bytes in a block of 4 KB: a giant of 100,000 rows took 490 MB."""
    in_force = compile_in_force(declarations(), CAPTURED)
    state = State(tmp_path)
    moment = Moment("erp", 1, LaneRecord("cdc.erp", 1, 0, None, None))
    contention = Contention(moment, Contenders(state), Seal(None), state.spool())
    touched = TouchedSet(in_force, state, contention)
    tracemalloc.start()
    for number in range(1_000):
        row = head(number)
        touched.add(RowChange("public.head", row_key(row, ("id",)), None, row))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 1_000 < 600

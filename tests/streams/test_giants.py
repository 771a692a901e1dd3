"""Giant transactions: other lanes of the worker go on beside them, and memory stays bounded."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from lanes import CAPTURED, MAPPING, Log, Reader, declarations, head, line
from offline import OTHER, PLACE, World

from streams import flight, processor
from streams.contention import Contenders, Contention
from streams.in_force import compile_in_force
from streams.records import LaneRecord, RowChange
from streams.seal import Seal
from streams.stages import aggregate
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


class Counting:
    """Stands for the state: it counts how many keys of rows were written in lists."""

    def __init__(self) -> None:
        self.values: dict[bytes, Any] = {}
        self.keys = 0

    def get(self, key: bytes) -> Any:
        return self.values.get(key)

    def put(self, key: bytes, value: Any) -> None:
        lists = value.values() if isinstance(value, dict) else [value]
        self.keys += sum(len(each) for each in lists if isinstance(each, list))
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value


def test_what_notes_the_lines_of_an_order_is_not_written_anew_with_each_of_very_many(
    tmp_path: Path,
) -> None:
    in_force, store, state = compile_in_force(declarations(), CAPTURED), Counting(), State(tmp_path)
    moment = Moment("erp", 1, LaneRecord("cdc.erp", 1, 0, None, None))
    contention = Contention(moment, Contenders(state), Seal(None), state.spool())
    touched = TouchedSet(in_force, store, contention)  # type: ignore[arg-type]
    rows = [line(number) for number in range(10 * aggregate.LISTED)]
    for row in rows:
        touched.add(RowChange("public.line", row_key(row, ("id",)), None, row))
    for row in rows:
        touched.add(RowChange("public.line", row_key(row, ("id",)), row, None))
    assert store.keys < 2 * len(rows) * aggregate.LISTED
    assert store.values == {}


#: Lines in the order in which they came; the small world's mapping sorts them.
UNSORTED = MAPPING | {"parts": {"lines": {"from": "public.line", "join": {"head_id": "id"}}}}


def lines_that_come_and_go(log: Log, seed: int) -> None:
    """Write transactions that add, move and delete lines of two orders."""
    chance, there = random.Random(seed), dict[int, int]()
    for number in range(60):
        if there and chance.random() < 0.4:
            id_ = chance.choice([*there])
            if chance.random() < 0.5:
                del there[id_]
                log.transaction(("d", "line", None, {"id": id_}))
            else:
                there[id_] = chance.choice((1, 2))
                log.transaction(("u", "line", line(id_, there[id_], id_)))
        else:
            there[number] = chance.choice((1, 1, 2))
            log.transaction(("c", "line", line(number, there[number], number)))


@pytest.mark.parametrize("seed", range(4))
def test_an_order_of_many_lines_has_them_in_the_order_in_which_they_came_also_from_an_earlier_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    log = Log().start(UNSORTED)
    log.transaction(("c", "head", head(1)), ("c", "head", head(2)))
    lines_that_come_and_go(log, seed)
    half, whole = log.records[: len(log.records) // 2], log.records
    for name in ("one", "several", "earlier"):
        (tmp_path / name).mkdir()
    readers = {name: Reader(tmp_path / name) for name in ("one", "several", "earlier")}
    made: dict[str, list[Any]] = {}
    for name, sizes in {"one": (500, 500), "several": (3, 3), "earlier": (500, 3)}.items():
        made[name] = []
        for log.records, listed in zip((half, whole), sizes, strict=True):
            monkeypatch.setattr(aggregate, "LISTED", listed)
            made[name] += readers[name].run(log)

    assert made["several"] == made["earlier"] == made["one"]
    assert any(b"\0list\0" in key for key, _ in readers["several"].state.scan(b"kid\0"))


def test_nothing_is_noted_of_an_order_whose_many_lines_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "LISTED", 3)
    log, reader = Log().start(), Reader(tmp_path)
    log.transaction(("c", "head", head()), *(("c", "line", line(id_)) for id_ in range(10)))
    log.transaction(*(("d", "line", None, {"id": id_}) for id_ in range(10)))
    reader.run(log)
    assert reader.state.scan(b"kid\0") == []

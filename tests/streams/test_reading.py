"""How an event loop takes batches from a lane log; with a client that answers as told, and what a broker does in test_processor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from faust.types import TP

from streams import reading
from streams.reading import BATCH_RECORDS, Fetched, Reading

ERP, OA = TP("cdc.erp", 0), TP("cdc.oa", 0)
END = b'{"status":"END","id":"7:9"}'


class Message:
    def __init__(self, offset: int, value: bytes | None = b"{}", tp: TP = ERP) -> None:
        self.place, self._value, self.failure = (tp, offset), value, None

    def topic(self) -> str:
        return self.place[0].topic

    def partition(self) -> int:
        return self.place[0].partition

    def offset(self) -> int:
        return self.place[1]

    def value(self) -> bytes | None:
        return self._value

    def error(self) -> Any:
        return self.failure


class Client:
    """Gives messages as librdkafka does: `consume` takes what is there, and the next piece comes when all is taken."""

    #: Pieces in which the messages come; None: nothing comes for a while.
    pieces: list[Any] = []

    def __init__(self, settings: dict[str, Any]) -> None:
        self.assigned: list[Any] = []
        self.closed = False
        self.paused: set[TP] = set()
        #: Says that there are messages where none were.
        self.tell: Callable[[], None]
        self._there: list[Message] = []
        self._coming = False

    def assign(self, places: list[Any]) -> None:
        self.assigned = [(each.topic, each.partition, each.offset) for each in places]

    def consume(self, count: int, seconds: float) -> list[Message]:
        assert seconds == 0, "the event loop has other work"
        taken, self._there = self._there[:count], self._there[count:]
        if not self._there and self.pieces and not self._coming:
            self._coming = True
            asyncio.get_running_loop().call_soon(self._come)
        return taken

    def _come(self) -> None:
        self._coming, self._there = False, self.pieces.pop(0) or []
        if self._there:
            self.tell()

    def get_watermark_offsets(self, place: Any, *, cached: bool) -> tuple[int, int]:
        if self.closed:
            raise RuntimeError("Consumer closed")
        return (0, 77) if place.topic == ERP.topic else (-1001, -1001)

    def pause(self, places: list[Any]) -> None:
        self.paused |= {TP(each.topic, each.partition) for each in places}

    def resume(self, places: list[Any]) -> None:
        self.paused -= {TP(each.topic, each.partition) for each in places}

    def close(self) -> None:
        self.closed = True


class Waiting:
    """Is readable once the client has told; see test_records_waiting for the real one."""

    def __init__(self, client: Client) -> None:
        self._readable, self._written = os.pipe()
        client.tell = self._tell

    def _tell(self) -> None:
        os.write(self._written, b"1")

    def fileno(self) -> int:
        return self._readable

    def clear(self) -> None:
        os.read(self._readable, 1)

    def close(self) -> None:
        os.close(self._readable)
        os.close(self._written)


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "Consumer", Client)
    monkeypatch.setattr(reading, "RecordsWaiting", Waiting)


def reads(*pieces: list[Message] | None, batches: int) -> list[Fetched]:
    """Give the first batches of a reading that gets its messages in these pieces."""

    async def take() -> list[Fetched]:
        found, taken = Reading("", {ERP: 5}), []
        try:
            while len(taken) < batches:
                fetched = await found.take()
                assert fetched is not None
                taken.append(fetched)
                found.begin(fetched)
        finally:
            await found.stop()
        client: Any = found._consumer
        assert client.assigned == [(*ERP, 5)]
        assert client.closed
        return taken

    Client.pieces = list(pieces)
    return run(take())


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def offsets(fetched: Fetched) -> list[int]:
    return [message.offset() for message in fetched.messages]


def test_a_transaction_that_comes_in_pieces_makes_one_batch() -> None:
    (batch,) = reads([Message(5)], [Message(6), Message(7)], [Message(8, END)], batches=1)
    assert offsets(batch) == [5, 6, 7, 8]


def test_after_the_end_of_a_transaction_nothing_is_waited_for() -> None:
    first, second = reads([Message(5), Message(6, END)], [Message(7, END)], batches=2)
    assert (offsets(first), offsets(second)) == ([5, 6], [7])


def test_what_is_without_an_end_is_handed_over_all_the_same() -> None:
    (batch,) = reads([Message(5), Message(6, None)], None, batches=1)
    assert offsets(batch) == [5, 6]


def test_a_backlog_is_cut_into_batches_that_hold_every_record_once_and_in_order() -> None:
    backlog = [Message(number) for number in range(2 * BATCH_RECORDS + 1)]
    batches = reads(backlog, batches=3)
    assert [len(each.messages) for each in batches] == [BATCH_RECORDS, BATCH_RECORDS, 1]
    assert [each for batch in batches for each in offsets(batch)] == list(
        range(2 * BATCH_RECORDS + 1)
    )


def test_each_partition_has_batches_of_its_own() -> None:
    mixed = [Message(5), Message(3, b"{}", OA), Message(6, END), Message(4, END, OA)]
    first, second = reads(mixed, batches=2)
    assert (first.tp, offsets(first)) == (ERP, [5, 6])
    assert (second.tp, offsets(second)) == (OA, [3, 4])


def test_a_batch_that_was_lost_on_its_way_is_noticed_before_the_next_is_processed() -> None:
    async def lose() -> None:
        found = Reading("", {ERP: 5})
        try:
            lost, came = await found.take(), await found.take()
            assert lost is not None
            assert came is not None
            with pytest.raises(RuntimeError, match="batch 2 came instead of batch 1"):
                found.begin(came)
        finally:
            await found.stop()

    Client.pieces = [[Message(5, END)], [Message(6, END)]]
    run(lose())


def test_a_batch_of_a_reading_that_is_over_is_not_processed() -> None:
    """The lanes may be open anew by then, behind it: its records would pass for the next."""

    async def late() -> None:
        found = Reading("", {ERP: 5})
        came = await found.take()
        await found.stop()
        assert came is not None
        with pytest.raises(RuntimeError, match="batch 1 came when its reading was over"):
            found.begin(came)

    Client.pieces = [[Message(5, END)]]
    run(late())


def test_nothing_is_taken_from_librdkafka_before_it_is_asked_for() -> None:
    async def look() -> int:
        found = Reading("", {ERP: 5})
        try:
            await found.take()
            await asyncio.sleep(0.05)
            return len(Client.pieces)
        finally:
            await found.stop()

    Client.pieces = [[Message(number, END)] for number in range(9)]
    assert run(look()) == 7, "one is taken, and one has come to the client"


def test_others_have_a_turn_between_the_batches_of_a_backlog() -> None:
    async def look() -> int:
        found, turns = Reading("", {ERP: 5}), 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        await found.take()
        task = asyncio.create_task(other())
        for _ in range(5):
            await found.take()
        task.cancel()
        await found.stop()
        return turns

    Client.pieces = [[Message(number) for number in range(9 * BATCH_RECORDS)]]
    assert run(look()) >= 5


def test_a_log_that_cannot_be_read_on_is_an_error_and_no_silence() -> None:
    async def fail() -> None:
        found = Reading("", {ERP: 5})
        try:
            with pytest.raises(KafkaException):
                await found.take()
        finally:
            await found.stop()

    gone = Message(5)
    gone.failure = KafkaError(KafkaError._AUTO_OFFSET_RESET)
    Client.pieces = [[gone]]
    run(fail())


def test_whatever_ends_the_reading_is_an_error_and_no_silence() -> None:
    def broken() -> set[TP]:
        raise RuntimeError("deque mutated during iteration")

    async def fail() -> None:
        found = Reading("", {ERP: 5}, broken)
        try:
            with pytest.raises(RuntimeError, match="deque"):
                await found.take()
        finally:
            await found.stop()

    Client.pieces = [[Message(5, END)]]
    run(fail())


def test_the_end_of_a_log_is_known_once_the_broker_told_it() -> None:
    async def look() -> tuple[int | None, int | None]:
        found = Reading("", {ERP: 5, OA: 0})
        known = found.end(ERP), found.end(OA)
        await found.stop()
        assert found.end(ERP) is None, "another thread may ask meanwhile"
        return known

    assert run(look()) == (77, None)


def test_who_waits_for_a_batch_when_the_reading_stops_gets_none_at_once() -> None:
    async def stop() -> Any:
        found = Reading("", {ERP: 5})
        waiting = asyncio.create_task(found.take())
        await asyncio.sleep(0)
        await found.stop()
        return await waiting

    Client.pieces = []
    assert run(stop()) is None


def test_a_partition_that_is_full_is_paused_until_it_takes_more() -> None:
    async def scene() -> None:
        full = {ERP}
        found = Reading("", {ERP: 5, OA: 0}, lambda: full)
        client: Any = found._consumer
        taking = asyncio.create_task(found.take())
        await until(lambda: client.paused == {ERP})
        full = {OA}
        await until(lambda: client.paused == {OA})
        await found.stop()
        assert await taking is None

    async def until(true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.001)

    Client.pieces = []
    asyncio.run(scene())

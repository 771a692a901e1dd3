"""A processor in the test's own process, without Kafka."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lanes import Log, Reader

from streams.flight import OwnedLane
from streams.processor import Processor
from streams.records import LaneRecord
from streams.settings import Settings
from streams.terms import Committed

PLACE, OTHER = ("cdc.erp", 0), ("cdc.oa", 0)


class Sent:
    """Stands for the producer: it takes outputs, and the test says what becomes of them."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []
        self.batches: list[Any] = []
        self.forgotten = 0

    def produce(self, output: Any, batch: Any) -> bool:
        batch.waiting += 1
        self.outputs.append(output)
        self.batches.append(batch)
        return True

    def poll(self) -> None:
        pass

    def answer(self, error: str | None) -> None:
        for batch in self.batches:
            batch.on_delivery(error, SimpleNamespace(topic=lambda: "canonical.order.v1"))
        self.batches = []

    def forget(self) -> None:
        self.forgotten += 1
        self.batches = []

    def flush(self) -> None:
        self.answer(None)


class World:
    """A processor without Kafka; its lanes read what the test has written to `logs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = {PLACE: Log().start(), OTHER: Log().start()}
        self.settings = Settings(kafka_bootstrap="127.0.0.1:1", tongbu_data=folder)
        self.processor = Processor(self.settings, {})
        self.sent = self.processor._outputs = Sent()  # type: ignore[assignment]
        self.asked = asyncio.Event()
        self.processor.rejoin = self._rejoin
        self.processor._opener = SimpleNamespace(open=self._open)  # type: ignore[assignment]

    def _open(self, place: Any, committed: Committed) -> OwnedLane:
        folder = self.folder / place[0]
        folder.mkdir(exist_ok=True)
        reader = Reader(folder)
        return OwnedLane(reader.lane, reader.state, committed, reader.state.position or 0)

    async def _rejoin(self) -> None:
        self.asked.set()

    async def read(self, place: Any = PLACE) -> None:
        """Hand over what a lane has not processed."""
        await self.processor.process(place, self.records(place, self.processor.lanes[place].next))

    async def finish(self, place: Any = PLACE) -> None:
        """Hand over what a lane has not processed, and wait until it is: on a busy machine it takes several slices."""
        await self.read(place)
        while self.processor.lanes[place].task is not None:
            await asyncio.sleep(0)

    def records(self, place: Any, start: int) -> list[Any]:
        """Give the records of a lane log from an offset on."""
        return messages(self.logs[place].records[start:])


def messages(records: list[LaneRecord]) -> list[Any]:
    """Give records of a lane log as confluent_kafka gives them."""
    return [
        SimpleNamespace(
            offset=partial(_same, each.offset),
            timestamp=partial(_same, (1, each.timestamp // 1000)),
            key=partial(_same, each.key),
            value=partial(_same, each.value),
            headers=partial(_same, list(each.headers)),
        )
        for each in records
    ]


def _same(value: Any) -> Any:
    return value

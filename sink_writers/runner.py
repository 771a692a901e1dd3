"""
Runs the sink writer of one binding: read, assemble, apply, again.

Latency first when there is little to do (one message is applied as soon as it is read), throughput when
there is much (everything that is there goes into one target transaction, up to where a mirrored table's primary key changes), without
a setting.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from threading import Thread
from typing import Protocol, TypeVar

import structlog

from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import Binding
from schemas.errors import ServiceUnavailable, TongbuError
from schemas.registry import Registry
from sink_writers import bindings, pulse, targets
from sink_writers.log import TransactionLog
from sink_writers.messages import Assembler, EntityReader, Message, Raw
from sink_writers.mirrors import Descriptions
from sink_writers.pulse import Pulse
from sink_writers.sink import Place, Position, Sink
from sink_writers.sinks import make_sink
from sink_writers.stage_log import StageLog

T = TypeVar("T")

#: How long a read waits, and so how late a SIGTERM may be noticed.
_READ_S = 0.5
#: The position passes messages that are nothing to the binding at least this often.
_ADVANCE_S = 5.0
#: What was set aside is tried again so often.
_TEND_S = 2.0
#: The registry itself is asked again for so long; then the runner waits, and stays in its group.
_REGISTRY_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

log = structlog.get_logger("sink")


class Log(Protocol):
    """What the runner needs of a log; see TransactionLog."""

    given: set[int]

    def start(self, offsets: dict[int, int]) -> None: ...  # noqa: D102
    def read(self, seconds: float) -> list[Raw]: ...  # noqa: D102
    def idle(self, seconds: float, still: Callable[[], bool]) -> None: ...  # noqa: D102
    def owns(self, partition: int) -> bool: ...  # noqa: D102
    def applied(self, partition: int, next_offset: int) -> None: ...  # noqa: D102


class Interrupted(Exception):
    """Waiting has become pointless: the process is to end, or the partition is another's now."""


@dataclass(slots=True)
class Held:
    """A partition that this process owns: how far it is applied and how far it is read."""

    place: Place
    position: Position
    assembler: Assembler | EntityReader
    moved: float

    @property
    def read(self) -> Position:
        """The position after everything that was read and is whole."""
        return replace(
            self.position,
            next_offset=self.assembler.next_offset,
            lane_offset=self.assembler.lane_offset,
        )


class Runner:
    """The loop of one binding; `stop` ends it after the apply at hand."""

    def __init__(
        self,
        binding: Binding,
        reader: Log,
        sink: Sink,
        decoder: Decoder,
        place: Callable[[int], Place],
        stages: StageLog,
        pulse: Pulse,
        assemble: Callable[[Decoder, int, int], Assembler | EntityReader] = Assembler,
    ) -> None:
        self._assemble = assemble
        self._binding = binding
        self._topics = {
            f"canonical.{name}.v{entity.major}" for name, entity in binding.entities.items()
        }
        self._descriptions = Descriptions(decoder)
        self._log = reader
        self._sink = sink
        self._decoder = decoder
        self._place = place
        self._stages = stages
        self._pulse = pulse
        self._held: dict[int, Held] = {}
        self._waiting_for = ""
        self._stopping = False
        self._tended = time.monotonic()

    def stop(self) -> None:
        """End after the apply at hand; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until stopped; raise TongbuError where a person must act."""
        while not self._stopping:
            self._pulse.beat()
            try:
                self._claim()
                raws = self._log.read(_READ_S)
                consumed = _now()
                for partition, some in groupby(raws, attrgetter("partition")):
                    self._take(partition, list(some), consumed)
                self._advance()
                self._tend()
            except Interrupted:
                continue

    def persist(self, work: Callable[[], T], *, needs: int | None = None) -> T:
        """Try until the service is there; raise Interrupted when stopped, or when partition `needs` is lost."""
        for seconds in _pauses():
            try:
                done = work()
            except ServiceUnavailable as error:
                self._say(error)
                self._log.idle(getattr(error, "seconds", None) or seconds, self._goes_on)
            else:
                self._go_on()
                return done
            if self._stopping or (needs is not None and not self._log.owns(needs)):
                break
        self._go_on()
        raise Interrupted

    def check(self, catalog: Catalog) -> None:
        """Compare the live target with the binding; raise TongbuError for what does not fit, wait for what is missing."""
        self.persist(partial(targets.check, self._binding, catalog))

    def _goes_on(self) -> bool:
        self._pulse.beat()
        return not self._stopping

    def _say(self, error: ServiceUnavailable) -> None:
        if error.message != self._waiting_for:
            self._waiting_for = error.message
            log.warning("waiting", reason=error.message, remedy=error.remedy)
            self._pulse.waits(error.message, error.remedy)

    def _go_on(self) -> None:
        if self._waiting_for:
            self._waiting_for = ""
            self._pulse.goes_on()

    def _claim(self) -> None:
        if not self._log.given:
            return
        given = sorted(self._log.given)
        held = {partition: self.persist(partial(self._hold, partition)) for partition in given}
        offsets = {partition: each.position.next_offset for partition, each in held.items()}
        self.persist(partial(self._start, offsets))
        self._held = held
        log.info("reading", binding=self._binding.binding, offsets=offsets)

    def _start(self, offsets: dict[int, int]) -> None:
        if set(offsets) != self._log.given:
            raise Interrupted
        self._log.start(offsets)

    def _hold(self, partition: int) -> Held:
        """Become the owner of a partition, but not of one that was taken away while the target was waited for."""
        if partition not in self._log.given:
            raise Interrupted
        place = self._place(partition)
        position = self._sink.claim(place)
        assembler = self._assemble(self._decoder, position.next_offset, position.lane_offset)
        return Held(place, position, assembler, time.monotonic())

    def _take(self, partition: int, raws: list[Raw], consumed: int) -> None:
        held = self._held.get(partition)
        if held is None or not self._log.owns(partition):
            return
        read = [
            (held.read, self.persist(partial(held.assembler.add, raw), needs=partition))
            for raw in raws
        ]
        batches = self.persist(partial(self._batches, read), needs=partition)
        ends = [*(begin for begin, _ in batches[1:]), held.read]
        for (_, messages), to in zip(batches, ends, strict=False):
            self._apply(held, messages, to, consumed)

    def _batches(
        self, read: list[tuple[Position, Message | None]]
    ) -> list[tuple[Position, list[Message]]]:
        """
        Give the messages that are something to this binding, each batch with the position before it.

        Where a mirrored table has another primary key than before, a batch begins: by that key what came before would miss
        the rows that it changes.
        """
        batches: list[tuple[Position, list[Message]]] = []
        keys: dict[str, tuple[str, ...]] = {}
        for before, message in read:
            if message is None or not self._is_for_us(message):
                continue
            told = self._descriptions.keys(message, self._binding.binding)
            if not told and not self._has_entities(message):
                continue
            if not batches or any(keys.get(table, key) != key for table, key in told.items()):
                batches.append((before, []))
                keys = {}
            batches[-1][1].append(message)
            keys |= told
        return batches

    def _is_for_us(self, message: Message) -> bool:
        """Tell whether a message is of a source of ours, and not for other bindings only."""
        only = message.only_bindings
        return message.source in self._binding.sources and (
            not only or self._binding.binding in only
        )

    def _has_entities(self, message: Message) -> bool:
        """Tell whether a message has records, or a chunk of a fill, of our entities."""
        return any(record.topic in self._topics for record in message.records) or (
            message.fill is not None and message.fill.entity in self._binding.entities
        )

    def _apply(self, held: Held, messages: list[Message], to: Position, consumed: int) -> None:
        work = partial(self._sink.apply, held.place, held.position, messages, to)
        transaction = self.persist(work, needs=held.place.partition)
        self._stages.write(messages, consumed, _now(), transaction)
        held.position, held.moved = to, time.monotonic()
        self._log.applied(held.place.partition, to.next_offset)

    def _advance(self) -> None:
        """Move the position past messages that are nothing to this binding, before retention overtakes it."""
        for partition, held in self._held.items():
            behind = held.read != held.position and self._log.owns(partition)
            if behind and time.monotonic() - held.moved > _ADVANCE_S:
                self._apply(held, [], held.read, _now())

    def _tend(self) -> None:
        if not self._sink.due and time.monotonic() - self._tended < _TEND_S:
            return
        self._tended = time.monotonic()
        for partition, held in self._held.items():
            if self._log.owns(partition):
                work = partial(self._sink.tend, held.place, held.position)
                self.persist(work, needs=partition)


def run(name: str, folder: Path = bindings.FOLDER) -> None:
    """Run the sink writer of a binding until SIGTERM or SIGINT; raise TongbuError where a person must act."""
    binding = bindings.load(name, folder)
    pulse.clear(Path(bindings.resolve("${TONGBU_DATA}")), name)
    readings = [_Reading(binding, topic, group) for topic, group in bindings.reads(binding).items()]

    def stop(*_: object) -> None:
        for each in readings:
            each.runner.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    threads = [Thread(target=each.run, args=(stop,)) for each in readings[1:]]
    for thread in threads:
        thread.start()
    readings[0].run(stop)
    for thread in threads:
        thread.join()
    for each in readings:
        if each.error is not None:
            raise each.error


class _Reading:
    """One topic that a binding reads, with a connection to the target of its own."""

    def __init__(self, binding: Binding, topic: str, group: str) -> None:
        namespace = os.environ.get("TONGBU_NAMESPACE", "")
        self._name, self._topic = binding.binding, namespace + topic
        self._catalog = Catalog.load()
        decoder = Decoder(Registry(bindings.resolve("${REGISTRY_URL}"), _REGISTRY_S).schema)
        self._sink = make_sink(binding, self._catalog, decoder)
        self._reader = TransactionLog(
            bindings.resolve("${KAFKA_BOOTSTRAP}"), self._topic, namespace + group
        )
        data = Path(bindings.resolve("${TONGBU_DATA}"))
        self._stages, self._pulse = StageLog(data, self._name), Pulse(data, self._name, topic)
        self._topic_id = ""
        assemble = Assembler if topic == bindings.TRANSACTIONS else partial(EntityReader, topic)
        self.runner = Runner(
            binding,
            self._reader,
            self._sink,
            decoder,
            self._place,
            self._stages,
            self._pulse,
            assemble,
        )
        self.error: BaseException | None = None

    def run(self, stop: Callable[[], None]) -> None:
        """Work until stopped; what ends it otherwise stands in `error` and stops the others."""
        try:
            self.runner.check(self._catalog)
            self._topic_id = self.runner.persist(self._reader.topic_id)
            self._reader.subscribe()
            self.runner.run()
        except Interrupted:
            pass
        except TongbuError as error:
            log.error("stopped", binding=self._name, reason=error.message, remedy=error.remedy)
            self.error = error
        except BaseException as error:
            self.error = error
        finally:
            self._reader.close()
            self._sink.close()
            self._stages.close()
            self._pulse.close()
            stop()

    def _place(self, partition: int) -> Place:
        return Place(self._name, self._topic, self._topic_id, partition)


def _pauses() -> Iterator[float]:
    seconds = _FIRST_PAUSE_S
    while True:
        yield seconds
        seconds = min(seconds * 2, _LONGEST_PAUSE_S)


def _now() -> int:
    return time.time_ns() // 1000

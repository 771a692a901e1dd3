"""The messages of canonical.transactions.v1 as sinks see them, and how their parts become whole again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

from schemas.codec import Decoder
from schemas.errors import TongbuError
from sink_writers.parts import Parts

#: Part number above every real one: with it, a lane offset counts as read completely.
_ALL_PARTS = 1 << 31


@dataclass(frozen=True, slots=True)
class Record:
    """One version of one entity; `value` is decoded only if it turns out to be the one that counts."""

    topic: str
    key: str
    operation: str
    version: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a chunk of a republish is the whole truth of: the ids in (after, to] of an entity of its source."""

    id: str
    entity: str
    after: str
    to: str
    last: bool


@dataclass(frozen=True, slots=True)
class Message:
    """
    Everything that one lane offset of a source makes: for `kind` transaction, a whole source transaction.

    What came in several parts has its records on disk (`Parts`).
    """

    source: str
    lane_offset: int
    kind: str
    transaction: str | None
    committed_at: datetime | None
    records: Collection[Record]
    only_bindings: tuple[str, ...] = ()
    fill: Chunk | None = None
    withheld: tuple[tuple[str, str], ...] = ()
    clock: dict[str, int] = field(default_factory=dict)

    @property
    def is_giant(self) -> bool:
        """Tell whether it is to be taken part by part."""
        return isinstance(self.records, Parts)

    def slices(self) -> Iterator[Message]:
        """Give its parts, each as a message; for one that is a giant."""
        assert isinstance(self.records, Parts)
        for records in self.records.each():
            yield replace(self, records=records)


@dataclass(frozen=True, slots=True)
class Raw:
    """A Kafka record as the log gives it."""

    partition: int
    offset: int
    value: bytes
    headers: dict[str, bytes]


class Assembler:
    """
    Turns the records of one partition into whole messages.

    Along a partition (lane_offset, part) grows; what is not above the last one read is a repeat, made by
    a processor after a crash or by one that lost its lane, and is dropped.
    """

    def __init__(self, decoder: Decoder, next_offset: int, lane_offset: int) -> None:
        self._decoder = decoder
        self._read = (lane_offset, _ALL_PARTS)
        self._first: dict[str, Any] | None = None
        self._parts = Parts(self._records)
        self._last_part = 0
        self._parts_begin = next_offset
        self.next_offset = next_offset
        self.lane_offset = lane_offset

    def add(self, raw: Raw) -> Message | None:
        """
        Give the message that this record completes, if it does.

        `next_offset` then is where reading must begin again to miss nothing; `lane_offset` the last whole one.
        Nothing has changed where decoding raises.
        """
        part = self._part(raw)
        message = self._add(part, raw) if self._is_new(part) else None
        self.next_offset = self._parts_begin if self._first else raw.offset + 1
        return message

    def _part(self, raw: Raw) -> dict[str, Any]:
        try:
            return self._decoder.decode(raw.value)
        except TongbuError:
            raise
        except Exception as error:
            raise TongbuError(
                f"partition {raw.partition}, offset {raw.offset}: no transaction message: {type(error).__name__}",
                "Only the processor may write to this topic. Take away the other writer, make the topic anew "
                "(`tongbu apply`) and fill the target again (`tongbu resync`).",
            ) from error

    def _is_new(self, part: dict[str, Any]) -> bool:
        at = (part["lane_offset"], part["part"])
        new = at > self._read
        self._read = max(at, self._read)
        return new

    def _add(self, part: dict[str, Any], raw: Raw) -> Message | None:
        if self._first is None:
            self._first, self._last_part, self._parts_begin = part, 0, raw.offset
            if part["parts"] > 1:  # each has a file of its own
                self._parts = Parts(self._records)
        self._check(self._first, part, raw)
        self._last_part = part["part"]
        if part["parts"] > 1:
            self._parts.add(raw.value, len(part["records"]))
        if part["part"] < part["parts"]:
            return None
        self._first = None
        self.lane_offset = part["lane_offset"]
        records = self._parts if part["parts"] > 1 else _records(part)
        return _whole(part, records, raw)

    def _records(self, value: bytes) -> tuple[Record, ...]:
        return _records(self._decoder.decode(value))

    def _check(self, first: dict[str, Any], part: dict[str, Any], raw: Raw) -> None:
        if part["lane_offset"] != first["lane_offset"] or part["part"] != self._last_part + 1:
            raise TongbuError(
                f"partition {raw.partition}, offset {raw.offset}: lane offset {first['lane_offset']} "
                f"of {first['source']} lacks a part",
                "The topic was damaged; replay the lane log, or republish the entities to this binding.",
            )


class EntityReader:
    """Reads the records of an entity's own topic: each is a message by itself, and versions tell what is newer."""

    def __init__(self, topic: str, decoder: Decoder, next_offset: int, lane_offset: int) -> None:
        self._topic, self._decoder = topic, decoder
        self.next_offset = next_offset
        self.lane_offset = lane_offset

    def add(self, raw: Raw) -> Message | None:
        """Give a record as a message; nothing for a tombstone, which follows a delete."""
        self.next_offset = raw.offset + 1
        if not raw.value:
            return None
        try:
            value = self._decoder.decode(raw.value)
            meta = value["meta"]
        except TongbuError:
            raise
        except Exception as error:
            raise TongbuError(
                f"{self._topic}[{raw.partition}] offset {raw.offset}: no record of the entity: {type(error).__name__}",
                "Only the processor may write to this topic.",
            ) from error
        record = Record(self._topic, value["id"], meta["operation"], meta["version"], raw.value)
        return Message(
            source=meta["source"],
            lane_offset=meta["version"],
            kind="transaction",
            transaction=meta["transaction"],
            committed_at=meta["occurred_at"],
            records=(record,),
            clock=orjson.loads(raw.headers.get("stage-clock", b"{}")),
        )


def _records(part: dict[str, Any]) -> tuple[Record, ...]:
    return tuple(Record(**record) for record in part["records"])


def _whole(last: dict[str, Any], records: Collection[Record], raw: Raw) -> Message:
    return Message(
        source=last["source"],
        lane_offset=last["lane_offset"],
        kind=last["kind"],
        transaction=last["transaction"],
        committed_at=last["committed_at"],
        records=records,
        only_bindings=tuple(last["only_bindings"]),
        fill=Chunk(**last["fill"]) if last["fill"] else None,
        withheld=tuple((each["entity"], each["id"]) for each in last["withheld"]),
        clock=orjson.loads(raw.headers.get("stage-clock", b"{}")),
    )


def net_effect(messages: Iterable[Message]) -> dict[str, dict[str, Record]]:
    """Give, per topic and key, the record that is left when all are applied: the highest version, the later of equals."""
    net: dict[str, dict[str, Record]] = {}
    for message in messages:
        for record in message.records:
            keys = net.setdefault(record.topic, {})
            known = keys.get(record.key)
            if known is None or record.version >= known.version:
                keys[record.key] = record
    return net

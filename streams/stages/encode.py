"""Encode: drafts become Kafka records: entity records, the transaction message in parts, dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Any

from schemas.catalog import MIRROR_ROW, MIRROR_TABLE
from streams.errors import RecordError
from streams.in_force import InForce
from streams.records import LaneRecord, Letter, Output
from streams.spool import Spool
from streams.stages.publish import Draft
from streams.stages.size import fits, fitting

#: Rows of mirrored tables have no topic of their own.
_MIRROR = {MIRROR_TABLE, MIRROR_ROW}
#: A part of a transaction message holds at most this many bytes of records and names of withheld ids, or one record.
PART_BYTES = 4 * 1024 * 1024
_READ_AT_ONCE = 1_000


class Moment:
    """What one lane offset is: where, when, and whose transaction."""

    def __init__(
        self,
        source: str,
        lane_offset: int,
        record: LaneRecord,
        kind: str = "transaction",
        transaction: str | None = None,
        committed_at: int | None = None,
    ) -> None:
        self.source = source
        self.lane_offset = lane_offset
        self.record = record
        self.kind = kind
        self.transaction = transaction
        self.committed_at = committed_at


class Message:
    """
    The content of canonical.transactions.v1 for one lane offset; `sizes`: how many records each part has.

    `gone` are topic and id of what was asked for by id and is not there: a tombstone on the entity's topic says so.
    """

    def __init__(self, records: Spool[dict[str, Any]]) -> None:
        self.records = records
        self.sizes = [0]
        self.withheld: list[dict[str, str]] = []
        self.fill: dict[str, Any] | None = None
        self.only_bindings: list[str] = []
        self.gone: list[tuple[str, str]] = []
        self._part_bytes = 0
        self._named_bytes = 0

    def add(self, record: dict[str, Any]) -> None:
        """Add a record, and cut the parts by content."""
        self.records.append(record)
        weight = len(record["value"]) + len(record["key"])
        if self.sizes[-1] and self._part_bytes + weight > PART_BYTES:
            self.sizes.append(0)
            self._part_bytes = 0
        self.sizes[-1] += 1
        self._part_bytes += weight

    def name(self, entity: str, id_: str, reason: str) -> None:
        """Name a withheld id, as long as the names fit into a part."""
        weight = len(entity) + len(id_.encode()) + len(reason)
        if self._named_bytes + weight <= PART_BYTES:
            self.withheld.append({"entity": entity, "id": id_, "reason": reason})
            self._named_bytes += weight

    def parts(self) -> list[int]:
        """Give how many records each part has. Names stand in the last, which has nothing else where the one before has no room."""
        has_room = self._part_bytes + self._named_bytes <= PART_BYTES
        if has_room or not self.sizes[-1] or not self.withheld:
            return self.sizes
        return [*self.sizes, 0]


def entity_record(draft: Draft, moment: Moment, index: int, count: int) -> dict[str, Any]:
    """Encode a draft; give the record of the transaction message. Raise RecordError where it does not fit Avro or Kafka."""
    plan, version = draft.plan, moment.lane_offset
    writer = plan.writer
    value: dict[str, Any] = {
        "meta": {
            "event_id": f"{moment.source}:{version}:{plan.entity}:{draft.id}",
            "source": moment.source,
            "operation": draft.operation,
            "version": version,
            "transaction": moment.transaction,
            "transaction_index": index,
            "transaction_count": count,
            "occurred_at": moment.committed_at,
            "changed": draft.changed,
            "previous": draft.previous,
            "previous_id": draft.previous_id,
            "correlation_id": None,
            "causation_id": None,
            "mapping": f"{plan.declared.mapping}@{plan.declared.version}",
            "rules": [rule.name for rule in plan.rules],
        },
        "source_refs": _source_refs(draft, moment.source),
        "ext": {},
    }
    try:
        is_stored = draft.operation == "delete"
        value |= _revive(writer.expanded, draft.fields) if is_stored else draft.fields
        encoded = writer.encode(value)
    except Exception as error:
        raise RecordError(
            "encode", "not-avro", f"{type(error).__name__}: a value does not fit the schema"
        ) from error
    return {
        "topic": writer.topic,
        "key": draft.id,
        "operation": draft.operation,
        "version": version,
        "value": fitting(encoded),
    }


def _revive(avro_type: Any, value: Any) -> Any:
    """
    Turn the state's form of a value back into what Avro writes: decimals stand there as text.

    What the schema no longer has is left out.
    """
    if value is None:
        return None
    if isinstance(avro_type, list):
        return _revive(next(each for each in avro_type if each != "null"), value)
    if not isinstance(avro_type, dict):
        return value
    if avro_type.get("logicalType") == "decimal":
        return Decimal(value)
    if avro_type["type"] == "record":
        types = {each["name"]: each["type"] for each in avro_type["fields"]}
        return {name: _revive(types[name], each) for name, each in value.items() if name in types}
    if avro_type["type"] == "array":
        return [_revive(avro_type["items"], each) for each in value]
    return value


def _source_refs(draft: Draft, source: str) -> list[dict[str, str]]:
    _, _, key = draft.id.partition(":")
    return [{"source": source, "table": draft.plan.root, "key": key}]


def entity_outputs(message: Message, moment: Moment) -> Iterator[Output]:
    """Give the records of the entity topics, with CloudEvents headers (binary mode); a delete brings a tombstone."""
    at = moment.committed_at if moment.committed_at is not None else moment.record.timestamp
    second, micros = divmod(at, 1_000_000)
    time = (_second(second) + (f".{micros:06}+00:00" if micros else "+00:00")).encode()
    captured = moment.record.timestamp
    for record in message.records:
        topic: str = record["topic"]
        if topic in _MIRROR:
            continue
        id_: str = record["key"]
        operation: str = record["operation"]
        key = id_.encode()
        identity = _identity(moment, topic, id_)
        headers = (
            *identity,
            ("ce_source", f"/tongbu/{moment.source}".encode()),
            ("ce_type", f"{topic}.{operation}".encode()),
            ("ce_time", time),
            ("content-type", b"application/vnd.confluent.avro"),
        )
        yield Output(topic, key, record["value"], headers, -1, captured)
        if operation == "delete":
            yield Output(topic, key, None, identity)
    for topic, id_ in message.gone:
        yield Output(topic, id_.encode(), None, _identity(moment, topic, id_))


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    """Spell a second since 1970 in UTC; transactions of the same one are many, and spelling is not cheap."""
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()


def _identity(moment: Moment, topic: str, id_: str) -> tuple[tuple[str, bytes], ...]:
    event = f"{moment.source}:{moment.lane_offset}:{topic.split('.')[1]}:{id_}"
    return ("ce_specversion", b"1.0"), ("ce_id", event.encode())


def transaction_outputs(
    message: Message, moment: Moment, in_force: InForce, partition: int
) -> Iterator[Output | None]:
    """Give the parts of the transaction message, cut by content, so that a repeat is cut the same. None is a pause."""
    writer = in_force.transactions
    remaining, parts = iter(message.records), message.parts()
    for number, size in enumerate(parts, start=1):
        records: list[dict[str, Any]] = []
        while len(records) < size:
            if records:
                yield None
            records += islice(remaining, min(_READ_AT_ONCE, size - len(records)))
        value = {
            "source": moment.source,
            "lane_offset": moment.lane_offset,
            "part": number,
            "parts": len(parts),
            "kind": moment.kind,
            "transaction": moment.transaction,
            "committed_at": moment.committed_at,
            "only_bindings": message.only_bindings,
            "fill": message.fill,
            "withheld": message.withheld if number == len(parts) else [],
            "records": records,
        }
        encoded = writer.encode(value)
        captured = moment.record.timestamp
        yield Output(writer.topic, moment.source.encode(), encoded, (), partition, captured)


def dead_letter(letter: Letter, moment: Moment, in_force: InForce, partition: int = 0) -> Output:
    """Encode a dead letter; one whose original is too large goes without it."""
    record = moment.record
    sealed = letter.sealed
    value = {
        "id": letter.id,
        "state": letter.state,
        "source": moment.source,
        "topic": record.topic,
        "partition": partition,
        "offset": record.offset,
        "stage": letter.error.stage,
        "code": letter.error.code,
        "message": letter.error.message,
        "entity": letter.entity,
        "entity_id": letter.entity_id,
        "declarations": in_force.hash,
        "at": record.timestamp,
        "sealed": sealed if sealed is not None and fits(sealed) else None,
        "digest": sha256(record.key or b"").hexdigest(),
    }
    writer = in_force.dead_letters
    encoded = writer.encode(value)
    return Output(writer.topic, letter.id.encode(), encoded)

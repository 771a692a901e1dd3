"""
Control records: what Tongbu itself appends to a lane log, next to the rows that Debezium writes.

A lane is a pure function of its log, so whatever else changes its result stands in it too. A control
record takes effect where it is read. Its Kafka key is `tongbu:<kind>`, its value JSON tagged with `kind`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.captured import Table

KEY_PREFIX = b"tongbu:"


class _Control(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True
):
    source: str


class Lane(_Control, frozen=True, kw_only=True, tag="lane"):
    """The first record of a lane log: which epoch it is, and the id of the topic that may hold it."""

    epoch: int
    topic_id: str


class CapturedSchema(_Control, frozen=True, kw_only=True, tag="captured-schema"):
    """Columns and types of the source tables from here on."""

    database: str
    tables: tuple[Table, ...]


class OutputSchema(msgspec.Struct, frozen=True, kw_only=True):
    """A registered schema of an output topic: the id that goes into the wire format, and its Avro JSON."""

    topic: str
    id: int
    schema: dict[str, Any]


class Mirrored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table that is mirrored as it is: binding -> name of its target table, and the columns left out."""

    table: str
    targets: dict[str, str]
    without: tuple[str, ...] = ()


class Declarations(_Control, frozen=True, kw_only=True, tag="declarations"):
    """Everything declared for a source, in force from here on; `hash` is over the canonical JSON of the rest."""

    hash: str
    zone: str
    unavailable_placeholder: str
    mappings: tuple[dict[str, Any], ...]
    rules: tuple[dict[str, Any], ...]
    schemas: tuple[OutputSchema, ...]
    mirrors: tuple[Mirrored, ...] = ()


class Republish(_Control, frozen=True, kw_only=True, tag="republish"):
    """
    Publish the next `limit` ids of an entity (those above `after`, as UTF-8 bytes) in their current state.

    `bindings` names the only bindings it is for (none: everybody, entity topics too); `fill` is the id
    that the chunks of one republish share. With `ids`, exactly these are published, and there is no next chunk.
    """

    entity: str
    fill: str
    after: str = ""
    limit: int = 200
    bindings: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


class Snapshot(_Control, frozen=True, kw_only=True, tag="snapshot"):
    """
    Tables are read again from the source from here on; stands in the log before the first of them is read.

    `snapshot` is the id that capture's notices about it carry; they tell its end.
    """

    snapshot: str
    tables: tuple[str, ...]


class Retry(_Control, frozen=True, kw_only=True, tag="retry"):
    """Map the withheld ids of an entity again."""

    entity: str
    ids: tuple[str, ...]


class Skip(_Control, frozen=True, kw_only=True, tag="skip"):
    """Give up the withheld state of ids: what is published stays, until the next change."""

    entity: str
    ids: tuple[str, ...]


class Resume(_Control, frozen=True, kw_only=True, tag="resume"):
    """Go on with a quarantined table, with what was kept of it first."""

    table: str


class Incarnation(_Control, frozen=True, kw_only=True, tag="incarnation"):
    """A replaced or restored source server is meant; positions may start anew."""

    reason: str


ControlRecord = (
    Lane
    | CapturedSchema
    | Declarations
    | Republish
    | Snapshot
    | Retry
    | Skip
    | Resume
    | Incarnation
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[ControlRecord] = msgspec.json.Decoder(ControlRecord)


def encode(record: ControlRecord) -> tuple[bytes, bytes]:
    """Give the Kafka key and value of a control record."""
    value = _encoder.encode(record)
    kind = record.__struct_config__.tag
    return KEY_PREFIX + str(kind).encode(), value


def is_control(key: bytes | None) -> bool:
    """Tell a control record from a record of Debezium by its key."""
    return key is not None and key.startswith(KEY_PREFIX)


def decode(value: bytes) -> ControlRecord:
    """Read a control record; raise msgspec.ValidationError on an unknown kind or field."""
    return _decoder.decode(value)

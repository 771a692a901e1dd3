"""Control records, as they stand in lane logs."""

from __future__ import annotations

import msgspec
import orjson
import pytest

from schemas.captured import Column, Table
from schemas.control import (
    CapturedSchema,
    ControlRecord,
    Declarations,
    Incarnation,
    Lane,
    OutputSchema,
    Republish,
    Retry,
    Skip,
    decode,
    encode,
    is_control,
)

COLUMN = Column(name="cSOCode", type="character varying(30)", nullable=False)
ORDERS = Table(schema="public", name="SO_SOMain", columns=(COLUMN,), key=("cSOCode",))
SCHEMA = OutputSchema(topic="canonical.customer.v1", id=7, schema={"type": "string"})

RECORDS: list[ControlRecord] = [
    Lane(source="erp", epoch=2, topic_id="qZFgCTyKSIqFup3CPJ64Cg"),
    CapturedSchema(source="erp", database="postgresql", tables=(ORDERS,)),
    Declarations(
        source="erp",
        hash="sha256:00",
        zone="Asia/Shanghai",
        unavailable_placeholder="__x__",
        mappings=({"file": "u8/客户.yaml", "declaration": {"mapping": "u8.customer"}},),
        rules=(),
        schemas=(SCHEMA,),
    ),
    Republish(source="erp", entity="customer", fill="f1", after="erp:C1", bindings=("warehouse",)),
    Retry(source="oa", entity="employee", ids=("oa:1", "oa:2")),
    Skip(source="oa", entity="employee", ids=("oa:1",)),
    Incarnation(source="oa", reason="restored from a backup"),
]

each_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)


@each_record
def test_a_control_record_comes_back_as_it_was_written(record: ControlRecord) -> None:
    assert decode(encode(record)[1]) == record


@each_record
def test_its_key_tells_its_kind(record: ControlRecord) -> None:
    key, value = encode(record)

    assert key == b"tongbu:" + orjson.loads(value)["kind"].encode()
    assert is_control(key)


def test_keys_of_debezium_are_no_control_records() -> None:
    assert not is_control(None)
    assert not is_control(b'{"id":1}')


@each_record
def test_an_unknown_field_is_refused(record: ControlRecord) -> None:
    value = orjson.loads(encode(record)[1])

    with pytest.raises(msgspec.ValidationError, match="unknown field `sudden`"):
        decode(orjson.dumps({**value, "sudden": 1}))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="'pause'"):
        decode(b'{"kind":"pause","source":"erp"}')


def test_a_missing_field_and_a_wrong_type_are_refused_with_their_place() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `topic_id`"):
        decode(b'{"kind":"lane","source":"erp","epoch":1}')
    with pytest.raises(msgspec.ValidationError, match=r"\$\.epoch"):
        decode(b'{"kind":"lane","source":"erp","epoch":"1","topic_id":"x"}')


def test_a_republish_without_options_is_for_everybody_and_from_the_first_id() -> None:
    record = decode(b'{"kind":"republish","source":"erp","entity":"customer","fill":"f1"}')

    assert record == Republish(
        source="erp", entity="customer", fill="f1", after="", limit=200, bindings=()
    )

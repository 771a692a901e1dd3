"""Avro in Confluent's wire format."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Decoder, encode, schema_id_of

MONEY = {
    "type": "record",
    "name": "Money",
    "fields": [
        {
            "name": "amount",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 10},
        },
        {"name": "currency", "type": "string"},
    ],
}
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "version", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "on", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": ["open", "done"]}},
        {"name": "gross", "type": ["null", MONEY]},
        {"name": "lines", "type": {"type": "array", "items": "Money"}},
        {"name": "ext", "type": {"type": "map", "values": "string"}},
        {"name": "raw", "type": "bytes"},
    ],
}
PARSED = fastavro.parse_schema(SCHEMA)

_AMOUNTS = st.integers(1 - 10**38, 10**38 - 1).map(lambda number: Decimal(f"{number}E-10"))
_MONEY = st.fixed_dictionaries({"amount": _AMOUNTS, "currency": st.text()})
ORDERS = st.fixed_dictionaries(
    {
        "id": st.text(),
        "version": st.integers(-(2**63), 2**63 - 1),
        "at": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
        "on": st.none() | st.dates(date(1, 1, 1), date(9999, 12, 31)),
        "status": st.sampled_from(["open", "done"]),
        "gross": st.none() | _MONEY,
        "lines": st.lists(_MONEY, max_size=3),
        "ext": st.dictionaries(st.text(), st.text(), max_size=3),
        "raw": st.binary(),
    }
)


@given(ORDERS, st.integers(0, 2**32 - 1))
def test_a_record_comes_back_as_it_was_written(order: dict[str, Any], schema_id: int) -> None:
    data = encode(schema_id, PARSED, order)

    assert schema_id_of(data) == schema_id
    assert Decoder(lambda _: SCHEMA).decode(data) == order


def test_a_schema_is_asked_for_once_and_left_as_it_was() -> None:
    asked: list[int] = []
    plain = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}

    def resolve(schema_id: int) -> dict[str, Any]:
        asked.append(schema_id)
        return plain

    decoder = Decoder(resolve)
    data = encode(5, fastavro.parse_schema(plain), {"n": 1})

    assert [decoder.decode(data), decoder.decode(data)] == [{"n": 1}, {"n": 1}]
    assert asked == [5]
    assert plain == {"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"\x01\0\0\0\x05\x02", b'{"a": 1}'])
def test_what_is_not_in_the_wire_format_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"too few|magic byte"):
        schema_id_of(data)


def test_a_value_that_does_not_fit_is_refused() -> None:
    schema = fastavro.parse_schema(
        {"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}
    )

    with pytest.raises((ValueError, TypeError)):
        encode(1, schema, {"n": "1"})

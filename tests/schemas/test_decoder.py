"""The compiled decoder reads what fastavro reads, for every schema that is shipped, and refuses what is no value."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.catalog import Catalog
from schemas.codec import Decoder, encode
from schemas.decoder import compile_decoder
from streams.in_force import expand
from tests.schemas.test_encoder import values

CATALOG = Catalog.load()
DECODERS = {schema.topic: compile_decoder(deepcopy(schema.schema)) for schema in CATALOG.all()}


@pytest.mark.parametrize("schema", CATALOG.all(), ids=lambda schema: schema.name)
@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_it_reads_what_fastavro_reads(schema: Any, data: st.DataObject) -> None:
    drawn = data.draw(values(in_range(expand(schema.schema))))
    written = encode(7, schema.parsed, drawn)
    expected = fastavro.schemaless_reader(BytesIO(written[5:]), schema.parsed, None)

    assert DECODERS[schema.topic](written, 5) == expected


def in_range(schema: Any) -> Any:
    """The schema with dates and times as fastavro can give them: years 1 to 9999; ints stand for them when drawn."""
    if isinstance(schema, list):
        return [in_range(each) for each in schema]
    if isinstance(schema, dict):
        if schema.get("logicalType") in ("date", "timestamp-micros"):
            return {"type": "enum", "symbols": [0, 1, -1, 20_000]}
        return {key: in_range(value) for key, value in schema.items()}
    return schema


SCHEMA = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "a", "type": ["string", "null"]},
        {"name": "b", "type": {"type": "array", "items": "double"}},
        {"name": "c", "type": {"type": "map", "values": {"type": "int", "logicalType": "date"}}},
    ],
}
VALUE = {"a": "长", "b": [0.5, -1.0], "c": {"k": 3}}


def written(value: Any) -> bytes:
    return encode(1, fastavro.parse_schema(deepcopy(SCHEMA)), value)


def test_null_may_be_the_second_branch_and_blocks_may_tell_their_size():
    decode = compile_decoder(deepcopy(SCHEMA))
    assert decode(written(VALUE | {"a": None}), 5)["a"] is None
    # One block of -1 items (so one item, its size follows) instead of 1, as other writers do.
    sized = b"\x02" + b"\x01\x10" + b"\0" * 8 + b"\0" + b"\0"
    assert decode(sized, 0) == {"a": None, "b": [0.0], "c": {}}


@pytest.mark.parametrize("cut", range(1, len(written(VALUE)) - 5))
def test_bytes_that_end_too_early_are_refused(cut):
    with pytest.raises(ValueError, match="fewer bytes than the schema asks for"):
        compile_decoder(deepcopy(SCHEMA))(written(VALUE)[:-cut], 5)


@pytest.mark.parametrize("scale", [0, 1, 10, 30, 31])
def test_a_decimal_keeps_its_scale_whatever_its_length(scale):
    type_ = {"type": "bytes", "logicalType": "decimal", "precision": 76, "scale": scale}
    decode = compile_decoder(
        {"type": "record", "name": "R", "fields": [{"name": "d", "type": type_}]}
    )
    bounds = [
        sign * 2**bits + off for bits in (7, 62, 63, 64) for sign in (1, -1) for off in (0, -1)
    ]
    for number in (0, 1, -1, 9, 10, -100, *bounds):
        size = number.bit_length() // 8 + 1
        expected = Decimal((number < 0, tuple(map(int, str(abs(number)))), -scale))

        found = decode(bytes([2 * size]) + number.to_bytes(size, "big", signed=True), 0)["d"]

        assert found.as_tuple() == expected.as_tuple()


@pytest.mark.parametrize(
    "data",
    [b"\x01", b"\xff" * 11 + b"\0", b"\x02\x40x"],
    ids=["size below 0", "no end", "too long"],
)
def test_sizes_that_no_value_has_are_refused(data):
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "bytes"}]}
    with pytest.raises(ValueError, match=r".+"):
        compile_decoder(schema)(data, 0)


def test_bytes_that_are_left_over_are_refused():
    with pytest.raises(ValueError, match="more bytes"):
        compile_decoder(deepcopy(SCHEMA))(written(VALUE) + b"x", 5)


def test_a_schema_that_it_does_not_know_is_read_by_fastavro():
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["int", "string"]}]}
    decoder = Decoder(lambda _: schema)

    assert decoder.decode(encode(1, fastavro.parse_schema(deepcopy(schema)), {"a": "x"})) == {
        "a": "x"
    }

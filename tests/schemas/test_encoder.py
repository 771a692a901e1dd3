"""The compiled encoder writes what fastavro writes, for every schema that is shipped."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.catalog import Catalog
from schemas.codec import Decoder, encode
from schemas.encoder import compile_encoder
from streams.in_force import expand

CATALOG = Catalog.load()
ENCODERS = {schema.topic: compile_encoder(7, schema.schema) for schema in CATALOG.all()}


def fastavro_adds_a_byte(value: Decimal) -> bool:
    """It writes -128, -32768 … in one byte more than they need."""
    number = int(value.scaleb(10))
    return number < 0 and number.bit_length() // 8 != (~number).bit_length() // 8


DECIMALS = st.one_of(
    st.decimals(min_value=-(10**27), max_value=10**27, places=10),
    st.decimals(min_value=-(10**9), max_value=10**9, places=4),
).filter(lambda value: not fastavro_adds_a_byte(value)) | st.sampled_from(
    [Decimal("1E+3"), Decimal("-0")]
)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "bytes": st.binary(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "null": st.none(),
}


def values(schema: Any) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        return st.one_of([values(each) for each in schema])
    if isinstance(schema, str):
        return PLAIN[schema]
    if schema.get("logicalType") == "decimal":
        return DECIMALS
    if schema["type"] == "record":
        return st.fixed_dictionaries(
            {field["name"]: values(field["type"]) for field in schema["fields"]}
        )
    if schema["type"] == "array":
        return st.lists(values(schema["items"]), max_size=3)
    if schema["type"] == "map":
        return st.dictionaries(st.text(), values(schema["values"]), max_size=3)
    if schema["type"] == "enum":
        return st.sampled_from(schema["symbols"])
    return values(schema["type"])


@pytest.mark.parametrize("schema", CATALOG.all(), ids=lambda schema: schema.name)
@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_the_bytes_are_those_of_fastavro(schema: Any, data: st.DataObject) -> None:
    value = data.draw(values(expand(schema.schema)))

    assert ENCODERS[schema.topic](value) == encode(7, schema.parsed, value)


RECORD = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "n", "type": "int"},
        {
            "name": "d",
            "type": [
                "null",
                {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2},
            ],
            "default": None,
        },
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["a"]}},
    ],
}


@pytest.mark.parametrize(
    "value",
    [
        {"n": 2**31, "e": "a"},
        {"n": "1", "e": "a"},
        {"n": True, "e": "a"},
        {"n": 1, "e": "b"},
        {"e": "a"},
        {"n": 1, "e": "a", "d": Decimal("0.001")},
        {"n": 1, "e": "a", "d": "1"},
        {"n": 1, "e": "a", "d": Decimal("NaN")},
    ],
    ids=[
        "too large",
        "text",
        "boolean",
        "no symbol",
        "missing",
        "more decimals than the scale",
        "no decimal",
        "no number",
    ],
)
def test_a_value_that_does_not_fit_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, ArithmeticError)):
        compile_encoder(1, RECORD)(value)


@pytest.mark.parametrize("number", [127, 128, -128, -129, 32767, -32768, -32769])
def test_a_decimal_takes_the_fewest_bytes_and_is_read_by_fastavro(number: int) -> None:
    value = {"n": 1, "e": "a", "d": Decimal(number).scaleb(-2)}

    encoded = compile_encoder(1, RECORD)(value)

    fewest = next(
        size for size in (1, 2, 3) if -(2 ** (8 * size - 1)) <= number < 2 ** (8 * size - 1)
    )
    assert encoded[7] == 2 * fewest
    assert Decoder(lambda _: RECORD).decode(encoded) == value


@pytest.mark.parametrize("digits", range(1, 30))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_decimal_of_any_length_is_written_exactly(digits: int, sign: int) -> None:
    for number in (10 ** (digits - 1), 10**digits - 1):
        value = {"n": 1, "e": "a", "d": Decimal(sign * number).scaleb(-2)}

        assert Decoder(lambda _: RECORD).decode(compile_encoder(1, RECORD)(value)) == value


def test_a_value_of_many_megabytes_is_written_whole() -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "b", "type": {"type": "array", "items": "bytes"}}],
    }
    value = {"b": [bytes(10_000_000), b"x", "\N{SNOWMAN}".encode() * 1_000_000]}

    assert Decoder(lambda _: schema).decode(compile_encoder(1, schema)(value)) == value


def test_a_missing_optional_field_gets_its_default() -> None:
    assert compile_encoder(1, RECORD)({"n": 1, "e": "a"})[5:] == b"\x02\x00\x00"


def test_a_schema_that_it_was_not_made_for_is_refused_at_once() -> None:
    with pytest.raises(NotImplementedError):
        compile_encoder(
            1, {"type": "record", "name": "R", "fields": [{"name": "x", "type": ["string", "int"]}]}
        )

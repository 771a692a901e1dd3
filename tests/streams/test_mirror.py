"""Mirrored rows: every value's text is what its own type reads back."""

from __future__ import annotations

from base64 import b64encode

import pytest

from schemas.captured import Column, Table
from streams.stages.mirror import can_be_mirrored, text_of


def base64(data: bytes) -> str:
    return b64encode(data).decode()


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("boolean", True, "1"),
        ("integer", -5, "-5"),
        ("numeric(38,10)", "1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789"),
        ("numeric", "NAN", "NaN"),
        ("double precision", 5e-324, "5e-324"),
        ("double precision", "-Infinity", "-inf"),
        ("date", -719162, "0001-01-01"),
        ("timestamp without time zone", 1709210096123456, "2024-02-29 12:34:56.123456"),
        ("timestamp with time zone", "2024-02-29T04:34:56.123456Z", "2024-02-29 04:34:56.123456"),
        ("time without time zone", 86400000000, "24:00:00.000000"),
        ("time(6)", -1, "-00:00:00.000001"),
        ("time", 3020399000000, "838:59:59.000000"),
        ("bytea", base64(b"\x00\xff"), "\\x00ff"),
        ("bit(10)", base64(bytes([0b00000001, 0b11])), "1100000001"),
        ("hstore", '{"a":"1","c d":null,"q":"\\""}', '"a"=>"1","c d"=>NULL,"q"=>"\\""'),
        ("text[]", ["a", None, 'x"y\\z', ""], '{"a",NULL,"x\\"y\\\\z",""}'),
        ("bytea[]", [base64(b"\x00\xff")], '{"\\\\x00ff"}'),
        ("geometry", {"srid": 4326, "wkb": base64(b"\x01\x02")}, "4326;0102"),
    ],
)  # fmt: skip
def test_a_value_becomes_the_text_that_its_type_reads_back(kind, value, text):
    spell = text_of(kind)
    assert spell is not None
    assert spell(value) == text


def test_types_that_lose_something_have_no_text():
    assert text_of("circle") is None
    assert text_of("float") is None


def table(key, *types, keyless=False):
    columns = tuple(Column(name=f"c{number}", type=each) for number, each in enumerate(types))
    return Table(schema="s", name="t", columns=columns, key=key, keyless=keyless)


def test_only_a_table_with_a_readable_key_can_be_mirrored():
    assert can_be_mirrored(table(("c0",), "integer", "circle"))
    assert not can_be_mirrored(table(("c0",), "circle"))
    assert not can_be_mirrored(table((), "integer"))
    assert not can_be_mirrored(table(("c0",), "integer", keyless=True))

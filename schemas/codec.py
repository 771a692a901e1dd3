"""
Avro in Confluent's wire format: magic byte 0, schema id (4 bytes, big endian), Avro binary.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from copy import deepcopy
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from io import BytesIO
from typing import Any

import fastavro

_HEADER = struct.Struct(">bI")
_EXACT = Context(prec=60, traps=[Inexact])


def _write_decimal(value: object, schema: dict[str, Any]) -> object:
    """
    Give a decimal as Avro's bytes; raise Inexact where the scale does not hold it.

    Registered with fastavro below: an order re-encodes the decimals of all its lines on each change, and most are
    the same as before. 1.8 -> 0.9 us per decimal, a third of what an order costs to encode.
    """
    return _unscaled(value, schema["scale"]) if type(value) is Decimal else value


@lru_cache(maxsize=65_536)
def _unscaled(value: Decimal, scale: int) -> bytes:
    number = int(_EXACT.to_integral_exact(value.scaleb(scale, _EXACT)))
    bits = (number if number >= 0 else ~number).bit_length()
    return number.to_bytes(bits // 8 + 1, "big", signed=True)


fastavro.write.LOGICAL_WRITERS["bytes-decimal"] = _write_decimal


def encode(schema_id: int, parsed: Any, value: dict[str, Any]) -> bytes:
    """Write a value with a parsed schema; raise ValueError/TypeError where the value does not fit it."""
    buffer = BytesIO()
    buffer.write(_HEADER.pack(0, schema_id))
    fastavro.schemaless_writer(buffer, parsed, value)
    return buffer.getvalue()


def schema_id_of(data: bytes) -> int:
    """Give the schema id of a record; raise ValueError where it is not in the wire format."""
    if len(data) < _HEADER.size:
        raise ValueError(f"{len(data)} bytes are too few for a schema id")
    magic, schema_id = _HEADER.unpack_from(data)
    if magic != 0:
        raise ValueError(f"magic byte {magic}, expected 0")
    return int(schema_id)


class Decoder:
    """Reads records with the schema they were written with; `resolve` gives a schema by id, asked once per id."""

    def __init__(self, resolve: Callable[[int], dict[str, Any]]) -> None:
        self._resolve = resolve
        self._parsed: dict[int, Any] = {}

    def decode(self, data: bytes) -> dict[str, Any]:
        """Read one record; raise ValueError on other formats, and whatever `resolve` raises."""
        schema_id = schema_id_of(data)
        parsed = self._parsed.get(schema_id)
        if parsed is None:
            parsed = fastavro.parse_schema(deepcopy(self._resolve(schema_id)))
            self._parsed[schema_id] = parsed
        buffer = BytesIO(data)
        buffer.seek(_HEADER.size)
        value: dict[str, Any] = fastavro.schemaless_reader(buffer, parsed, None)
        return value

"""
Avro in Confluent's wire format: magic byte 0, schema id (4 bytes, big endian), Avro binary.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from copy import deepcopy
from io import BytesIO
from typing import Any

import fastavro

from schemas.decoder import compile_decoder

#: Magic byte and schema id.
HEADER = struct.Struct(">bI")


def encode(schema_id: int, parsed: Any, value: dict[str, Any]) -> bytes:
    """Write a value with a parsed schema; raise ValueError/TypeError where the value does not fit it."""
    buffer = BytesIO()
    buffer.write(HEADER.pack(0, schema_id))
    fastavro.schemaless_writer(buffer, parsed, value)
    return buffer.getvalue()


def schema_id_of(data: bytes) -> int:
    """Give the schema id of a record; raise ValueError where it is not in the wire format."""
    if len(data) < HEADER.size:
        raise ValueError(f"{len(data)} bytes are too few for a schema id")
    magic, schema_id = HEADER.unpack_from(data)
    if magic != 0:
        raise ValueError(f"magic byte {magic}, expected 0")
    return int(schema_id)


class Decoder:
    """Reads records with the schema they were written with; `resolve` gives a schema by id, asked once per id."""

    def __init__(self, resolve: Callable[[int], dict[str, Any]]) -> None:
        self._resolve = resolve
        self._readers: dict[int, Callable[[bytes, int], dict[str, Any]]] = {}

    def decode(self, data: bytes) -> dict[str, Any]:
        """Read one record; raise ValueError on other formats, and whatever `resolve` raises."""
        schema_id = schema_id_of(data)
        read = self._readers.get(schema_id)
        if read is None:
            read = self._readers[schema_id] = _reader(deepcopy(self._resolve(schema_id)))
        return read(data, HEADER.size)


def _reader(schema: dict[str, Any]) -> Callable[[bytes, int], dict[str, Any]]:
    try:
        return compile_decoder(schema)
    except NotImplementedError:
        parsed = fastavro.parse_schema(schema)

    def read(data: bytes, begin: int) -> dict[str, Any]:
        buffer = BytesIO(data)
        buffer.seek(begin)
        value: dict[str, Any] = fastavro.schemaless_reader(buffer, parsed, None)
        return value

    return read

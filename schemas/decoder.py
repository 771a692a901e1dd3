"""
A compiled Avro decoder, the counterpart of encoder.py: a schema becomes one straight function.

Gives what fastavro gives (tests/schemas/test_decoder.py compares them) in less time: our records have many fields and
few bytes, most of them "null or T" (docs/performance.md has the figures).

Avro 1.12 specification, binary encoding: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from struct import Struct
from typing import Any

import fastavro

from schemas.source_code import SourceCode

_EXACT = Context(prec=60)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ONE = date(1970, 1, 1).toordinal()
_DOUBLE = Struct("<d").unpack_from


def compile_decoder(schema: dict[str, Any]) -> Callable[[bytes, int], dict[str, Any]]:
    """
    Give a function from bytes, and the place where the value begins, to the value.

    The function raises ValueError, IndexError, OverflowError or struct.error on bytes that are not a value of the schema.
    Raise NotImplementedError here for a schema that uses what we never do (other unions, fixed, recursion).
    """
    code = SourceCode("decode", "data", "p")
    value = _read(code, fastavro.schema.expand_schema(schema))
    with code.block("if p != len(data):"):
        code.line("raise ValueError('more or fewer bytes than the schema asks for')")
    code.line(f"return {value}")
    return code.function()


def _read(code: SourceCode, schema: Any) -> str:
    """Add the lines that read a value; give the expression for it."""
    if isinstance(schema, list):
        return _union(code, schema)
    if not isinstance(schema, dict):
        schema = {"type": schema}
    kind = schema.get("logicalType") or schema["type"]
    if isinstance(kind, dict | list):
        return _read(code, kind)
    if kind not in _KINDS:
        raise NotImplementedError(f"no compiled decoder for {kind}")
    return _KINDS[kind](code, schema)


def _varint(code: SourceCode) -> str:
    """Add the lines that read a number as it stands there, zigzag and all; nearly always it is one byte."""
    number = code.variable()
    code.line(f"{number} = data[p]; p += 1")
    with code.block(f"if {number} > 127:"):
        code.line(f"{number}, p = {code.name(_longer)}(data, {number}, p)")
    return number


def _longer(data: bytes, number: int, p: int) -> tuple[int, int]:
    number &= 0x7F
    shift = 7
    while True:
        byte = data[p]
        p += 1
        number |= (byte & 0x7F) << shift
        if byte < 128:
            return number, p
        shift += 7


def _long(code: SourceCode, _: Any = None) -> str:
    number = _varint(code)
    code.line(f"{number} = ({number} >> 1) ^ -({number} & 1)")
    return number


def _bytes(code: SourceCode, _: Any = None) -> str:
    """Add the lines that read a length and so many bytes; too few are found at the end."""
    number, data = _varint(code), code.variable()
    code.line(f"{number} = p + ({number} >> 1)")
    code.line(f"{data} = data[p:{number}]; p = {number}")
    return data


def _string(code: SourceCode, _: Any = None) -> str:
    data = _bytes(code)
    code.line(f"{data} = {data}.decode()")
    return data


def _boolean(code: SourceCode, _: Any) -> str:
    value = code.variable()
    code.line(f"{value} = data[p] == 1; p += 1")
    return value


def _double(code: SourceCode, _: Any) -> str:
    value = code.variable()
    code.line(f"{value} = {code.name(_DOUBLE)}(data, p)[0]; p += 8")
    return value


def _null(code: SourceCode, _: Any) -> str:  # noqa: ARG001 - the same shape as the others
    return "None"


def _decimal(code: SourceCode, schema: dict[str, Any]) -> str:
    if schema["type"] != "bytes":
        raise NotImplementedError("a decimal that is no bytes")
    data = _bytes(code)
    number = f"{code.name(int.from_bytes)}({data}, 'big', signed=True)"
    scale = -schema.get("scale", 0)
    code.line(f"{data} = {code.name(Decimal)}({number}).scaleb({scale}, {code.name(_EXACT)})")
    return data


def _date(code: SourceCode, _: Any) -> str:
    value = _long(code)
    code.line(f"{value} = {code.name(date.fromordinal)}({value} + {_DAY_ONE})")
    return value


def _timestamp(code: SourceCode, _: Any) -> str:
    value = _long(code)
    code.line(f"{value} = {code.name(_EPOCH)} + {code.name(timedelta)}(0, 0, {value})")
    return value


def _enum(code: SourceCode, schema: dict[str, Any]) -> str:
    value = _varint(code)
    code.line(f"{value} = {code.name(tuple(schema['symbols']))}[{value} >> 1]")
    return value


def _record(code: SourceCode, schema: dict[str, Any]) -> str:
    fields = [(field["name"], _read(code, field["type"])) for field in schema["fields"]]
    value = code.variable()
    code.line(f"{value} = {{{', '.join(f'{name!r}: {read}' for name, read in fields)}}}")
    return value


def _array(code: SourceCode, schema: dict[str, Any]) -> str:
    items = code.variable()
    code.line(f"{items} = []")
    with _blocks(code):
        code.line(f"{items}.append({_read(code, schema['items'])})")
    return items


def _map(code: SourceCode, schema: dict[str, Any]) -> str:
    items = code.variable()
    code.line(f"{items} = {{}}")
    with _blocks(code):
        key = _string(code)
        code.line(f"{items}[{key}] = {_read(code, schema['values'])}")
    return items


@contextmanager
def _blocks(code: SourceCode) -> Iterator[None]:
    """Loop over the blocks of an array or a map, and over the items of each; `with` holds what reads an item."""
    count = _long(code)
    with code.block(f"while {count}:"):
        with code.block(f"if {count} < 0:"):
            code.line(f"{count} = -{count}")
            _varint(code)
        with code.block(f"for _ in range({count}):"):
            yield
        code.line(f"{count} = {_long(code)}")


def _union(code: SourceCode, schema: list[Any]) -> str:
    if len(schema) != 2 or "null" not in schema:
        raise NotImplementedError("a union other than null or one type")
    null = schema.index("null")
    branch, value = code.variable(), code.variable()
    code.line(f"{branch} = data[p]; p += 1")
    with code.block(f"if {branch} == {2 * null}:"):
        code.line(f"{value} = None")
    with code.block(f"elif {branch} == {2 - 2 * null}:"):
        code.line(f"{value} = {_read(code, schema[1 - null])}")
    with code.block("else:"):
        code.line("raise ValueError('no branch of the union')")
    return value


_KINDS: dict[str, Callable[[SourceCode, Any], str]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _long,
    "long": _long,
    "double": _double,
    "bytes": _bytes,
    "string": _string,
    "decimal": _decimal,
    "date": _date,
    "timestamp-micros": _timestamp,
    "enum": _enum,
    "record": _record,
    "array": _array,
    "map": _map,
}

"""
A compiled Avro encoder, in Confluent's wire format, for the processor's hot path.

A schema becomes the source of one straight function, made once: no call per field, no branch that validates each
value against each type of a union, as fastavro does (docs/performance.md has the figures). It checks what it writes, and
its bytes are the same as fastavro's (which spends a byte more on a decimal of
-128, -32768 …): tests/schemas/test_encoder.py compares them. Times are integers here.

Avro 1.12 specification, binary encoding: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, Inexact
from functools import cache
from typing import Any

import fastavro

from schemas.codec import HEADER
from schemas.source_code import SourceCode

_EXACT = Context(prec=60, traps=[Inexact])
#: Lengths below this are looked up with what stands before them; longer ones are rare.
_SHORT = 1024


def compile_encoder(schema_id: int, schema: dict[str, Any]) -> Callable[[dict[str, Any]], bytes]:
    """
    Give a function from a value to its bytes, header included.

    The function raises ValueError, TypeError, KeyError, AttributeError or decimal.Inexact where a value does not fit
    the schema. Raise NotImplementedError here for a schema that uses what we never do (other unions, float, fixed).
    """
    code = SourceCode("encode", "value")
    code.line(f"out = [{code.name(HEADER.pack(0, schema_id))}]")
    code.line("add = out.append")
    _write(code, fastavro.schema.expand_schema(schema), "value", b"")
    code.line("return b''.join(out)")
    return code.function()


def _write(code: SourceCode, schema: Any, value: str, before: bytes) -> None:
    """Add the lines that write `value`, an expression, after the bytes `before`, which are known beforehand."""
    if isinstance(schema, list):
        _union(code, schema, value, before)
    elif isinstance(schema, dict):
        logical = schema.get("logicalType")
        kind = "decimal" if logical == "decimal" else schema["type"]
        if kind in _COMPLEX:
            _COMPLEX[kind](code, schema, value, before)
        else:
            _write(code, kind, value, before)
    elif schema in _PLAIN:
        _PLAIN[schema](code, value, before)
    else:
        raise NotImplementedError(f"no compiled encoder for {schema}")


#: Two groups of seven bits that more follow, and one or two that nothing follows.
_INNER = [bytes((pair & 0x7F | 0x80, pair >> 7 | 0x80)) for pair in range(1 << 14)]
_LAST = [
    bytes((pair,) if pair < 128 else (pair & 0x7F | 0x80, pair >> 7)) for pair in range(1 << 14)
]


def _varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number >> 14:
        out += _INNER[number & 0x3FFF]
        number >>= 14
    return out + _LAST[number]


@cache
def _lengths(before: bytes) -> tuple[bytes, ...]:
    """Give `before` and a length, for each short length."""
    return tuple(before + _varint(number) for number in range(_SHORT))


def _sized(code: SourceCode, data: str, before: bytes) -> None:
    """Write bytes, a name, with their length."""
    _length(code, data, before)
    code.line(f"add({data})")


def _length(code: SourceCode, of: str, before: bytes) -> None:
    short, long = code.name(_lengths(before)), code.name(_varint)
    code.line(f"size = len({of})")
    code.line(f"add({short}[size] if size < {_SHORT} else {before!r} + {long}(size))")


def _string(code: SourceCode, value: str, before: bytes) -> None:
    code.line(f"data = {value}.encode()")
    _sized(code, "data", before)


def _bytes(code: SourceCode, value: str, before: bytes) -> None:
    code.line(f"data = {value}")
    _sized(code, "data", before)


def _integer(bits: int) -> Callable[[SourceCode, str, bytes], None]:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def write(code: SourceCode, value: str, before: bytes) -> None:
        short, long = code.name(_lengths(before)), code.name(_varint)
        code.line(f"number = {value}")
        with code.block(f"if type(number) is not int or not {low} <= number <= {high}:"):
            code.line(f"raise ValueError('no {bits} bit integer')")
        code.line(
            f"add({short}[number] if 0 <= number < {_SHORT} else {before!r} + {long}(number))"
        )

    return write


def _boolean(code: SourceCode, value: str, before: bytes) -> None:
    code.line(f"data = {value}")
    with code.block("if type(data) is not bool:"):
        code.line("raise ValueError('no boolean')")
    code.line(f"add({before + bytes([1])!r} if data else {before + bytes([0])!r})")


def _decimal(code: SourceCode, schema: dict[str, Any], value: str, before: bytes) -> None:
    integral, scaled = code.name(_EXACT.to_integral_exact), code.name(_EXACT.multiply)
    code.line(
        f"number = int({integral}({scaled}({value}, {code.name(Decimal(10) ** schema['scale'])})))"
    )
    code.line("size = (number if number >= 0 else ~number).bit_length() // 8 + 1")
    code.line(f"add({code.name(_lengths(before))}[size])")
    code.line("add(number.to_bytes(size, 'big', signed=True))")


def _enum(code: SourceCode, schema: dict[str, Any], value: str, before: bytes) -> None:
    symbols = schema["symbols"]
    places = {symbol: before + _varint(place) for place, symbol in enumerate(symbols)}
    code.line(f"add({code.name(places)}[{value}])")


def _record(code: SourceCode, schema: dict[str, Any], value: str, before: bytes) -> None:
    record = code.variable()
    code.line(f"{record} = {value}")
    for field in schema["fields"]:
        given = f"{record}[{field['name']!r}]"
        if "default" in field:
            given = f"{record}.get({field['name']!r}, {code.name(field['default'])})"
        _write(code, field["type"], given, before)
        before = b""


def _array(code: SourceCode, schema: dict[str, Any], value: str, before: bytes) -> None:
    items, item = code.variable(), code.variable()
    code.line(f"{items} = {value}")
    with code.block(f"if {items}:"):
        _length(code, items, before)
        with code.block(f"for {item} in {items}:"):
            _write(code, schema["items"], item, b"")
        code.line(f"add({bytes([0])!r})")
    with code.block("else:"):
        code.line(f"add({before + bytes([0])!r})")


def _map(code: SourceCode, schema: dict[str, Any], value: str, before: bytes) -> None:
    entries, key, each = code.variable(), code.variable(), code.variable()
    code.line(f"{entries} = {value}")
    with code.block(f"if {entries}:"):
        _length(code, entries, before)
        with code.block(f"for {key}, {each} in {entries}.items():"):
            _string(code, key, b"")
            _write(code, schema["values"], each, b"")
        code.line(f"add({bytes([0])!r})")
    with code.block("else:"):
        code.line(f"add({before + bytes([0])!r})")


def _union(code: SourceCode, schema: list[Any], value: str, before: bytes) -> None:
    if len(schema) != 2 or schema[0] != "null":
        raise NotImplementedError("a union other than null or one type")
    given = code.variable()
    code.line(f"{given} = {value}")
    with code.block(f"if {given} is None:"):
        code.line(f"add({before + bytes([0])!r})")
    with code.block("else:"):
        _write(code, schema[1], given, before + bytes([2]))


_PLAIN: dict[str, Callable[[SourceCode, str, bytes], None]] = {
    "boolean": _boolean,
    "int": _integer(32),
    "long": _integer(64),
    "bytes": _bytes,
    "string": _string,
}
_COMPLEX: dict[str, Callable[[SourceCode, dict[str, Any], str, bytes], None]] = {
    "decimal": _decimal,
    "enum": _enum,
    "record": _record,
    "array": _array,
    "map": _map,
}

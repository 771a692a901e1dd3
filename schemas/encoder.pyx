# cython: language_level=3
"""
A compiled Avro encoder, in Confluent's wire format, for the processor's hot path.

A schema becomes a tree of writers, one per type, made once; a value is written by walking it, into one buffer, without a
Python object in between. It checks what it writes, and its bytes are the same as fastavro's (which spends a byte more on a
decimal of -128, -32768 …): tests/schemas/test_encoder.py compares them. Times are integers here. It is C, made by Cython,
because as Python it was a sixth of what a lane takes (docs/performance.md).

Avro 1.12 specification, binary encoding: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcpy

from decimal import Context, Decimal, Inexact

import fastavro

from schemas.codec import HEADER

_EXACT = Context(prec=60, traps=[Inexact])
cdef enum:
    SHORT_DIGITS = 18  # so many digits fit into 64 bits


cdef class Buffer:
    """The bytes written so far."""

    cdef char* data
    cdef Py_ssize_t size, room

    def __cinit__(self):
        self.size, self.room = 0, 1024
        self.data = <char*>PyMem_Malloc(self.room)
        if self.data is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef char* grown
        if self.size + more > self.room:
            self.room = 2 * (self.size + more)
            grown = <char*>PyMem_Realloc(self.data, self.room)
            if grown is NULL:
                raise MemoryError
            self.data = grown
        return 0

    cdef int raw(self, const char* data, Py_ssize_t size) except -1:
        self.reserve(size)
        memcpy(self.data + self.size, data, size)
        self.size += size
        return 0

    cdef int byte(self, char value) except -1:
        self.reserve(1)
        self.data[self.size] = value
        self.size += 1
        return 0

    cdef int number(self, long long value) except -1:
        """Write an integer as Avro does: zigzag, then seven bits a byte, the lowest first."""
        cdef unsigned long long rest = (<unsigned long long>value << 1) ^ <unsigned long long>(value >> 63)
        self.reserve(10)
        while rest >= 0x80:
            self.data[self.size] = <char>(rest & 0x7F | 0x80)
            self.size += 1
            rest >>= 7
        self.data[self.size] = <char>rest
        self.size += 1
        return 0

    cdef int sized(self, const char* data, Py_ssize_t size) except -1:
        self.number(size)
        return self.raw(data, size)


cdef class Writer:
    """Writes the values of one type."""

    cdef int write(self, Buffer out, object value) except -1:
        raise NotImplementedError


cdef class StringWriter(Writer):
    cdef int write(self, Buffer out, object value) except -1:
        cdef Py_ssize_t size
        if type(value) is not str:
            raise TypeError("no string")
        cdef const char* data = PyUnicode_AsUTF8AndSize(value, &size)
        return out.sized(data, size)


cdef class BytesWriter(Writer):
    cdef int write(self, Buffer out, object value) except -1:
        if type(value) is not bytes:
            raise TypeError("no bytes")
        return out.sized(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef class BooleanWriter(Writer):
    cdef int write(self, Buffer out, object value) except -1:
        if type(value) is not bool:
            raise ValueError("no boolean")
        return out.byte(1 if value is True else 0)


cdef class IntegerWriter(Writer):
    cdef int bits
    cdef long long low, high

    def __init__(self, int bits):
        self.bits = bits
        self.high = <long long>((<unsigned long long>1 << (bits - 1)) - 1)
        self.low = -self.high - 1

    cdef int write(self, Buffer out, object value) except -1:
        cdef int overflow = 0
        cdef long long number = 0
        if type(value) is int:
            number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if type(value) is not int or overflow or number < self.low or number > self.high:
            raise ValueError(f"no {self.bits} bit integer")
        return out.number(number)


cdef class DecimalWriter(Writer):
    cdef int scale
    cdef object shift

    def __init__(self, int scale):
        self.scale, self.shift = scale, Decimal(10) ** scale

    cdef int write(self, Buffer out, object value) except -1:
        cdef long long number = 0
        if type(value) is Decimal and self.short(str(value), &number):
            return self.small(out, number)
        exact = int(_EXACT.to_integral_exact(_EXACT.multiply(value, self.shift)))
        size = (exact if exact >= 0 else ~exact).bit_length() // 8 + 1
        written = exact.to_bytes(size, "big", signed=True)
        return out.sized(PyBytes_AS_STRING(written), size)

    cdef bint short(self, str text, long long* number) except -1:
        """Read the unscaled number from a decimal's text; False for what is long, or no plain text of a number."""
        cdef Py_ssize_t size, place
        cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
        cdef bint negative = data[0] == c'-'
        cdef int digits = 0, decimals = 0
        cdef bint point = False
        cdef long long found = 0
        for place in range(1 if negative else 0, size):
            if data[place] == c'.' and not point:
                point = True
            elif c'0' <= data[place] <= c'9' and digits < SHORT_DIGITS:
                found = found * 10 + (data[place] - c'0')
                digits += found > 0
                decimals += point
            else:
                return False
        if decimals > self.scale or digits + self.scale - decimals > SHORT_DIGITS:
            return False
        for place in range(self.scale - decimals):
            found *= 10
        number[0] = -found if negative else found
        return True

    cdef int small(self, Buffer out, long long number) except -1:
        """Write the fewest bytes that hold a number and its sign, the highest first."""
        cdef long long rest = number if number >= 0 else ~number
        cdef int size = 1, place
        while rest >= 0x80:
            rest >>= 8
            size += 1
        out.number(size)
        out.reserve(size)
        for place in range(size - 1, -1, -1):
            out.data[out.size] = <char>(number >> (8 * place))
            out.size += 1
        return 0


cdef class EnumWriter(Writer):
    cdef dict places

    def __init__(self, list symbols):
        self.places = {symbol: place for place, symbol in enumerate(symbols)}

    cdef int write(self, Buffer out, object value) except -1:
        return out.number(self.places[value])


cdef class OptionalWriter(Writer):
    cdef Writer present

    def __init__(self, Writer present):
        self.present = present

    cdef int write(self, Buffer out, object value) except -1:
        if value is None:
            return out.byte(0)
        out.byte(2)
        return self.present.write(out, value)


cdef class ArrayWriter(Writer):
    cdef Writer items

    def __init__(self, Writer items):
        self.items = items

    cdef int write(self, Buffer out, object value) except -1:
        if type(value) is not list and type(value) is not tuple:
            raise TypeError("no array")
        if value:
            out.number(len(value))
            for each in value:
                self.items.write(out, each)
        return out.byte(0)


cdef class MapWriter(Writer):
    cdef Writer keys, values

    def __init__(self, Writer values):
        self.keys, self.values = StringWriter(), values

    cdef int write(self, Buffer out, object value) except -1:
        if type(value) is not dict:
            raise TypeError("no map")
        if value:
            out.number(len(value))
            for key, each in (<dict>value).items():
                self.keys.write(out, key)
                self.values.write(out, each)
        return out.byte(0)


cdef class FieldWriter:
    """A field of a record; what the record lacks is `default`, if the schema gives one."""

    cdef object name, default
    cdef bint required
    cdef Writer type

    def __init__(self, dict field):
        self.name, self.required = field["name"], "default" not in field
        self.default, self.type = field.get("default"), _writer(field["type"])


cdef class RecordWriter(Writer):
    cdef tuple fields

    def __init__(self, list fields):
        self.fields = tuple(FieldWriter(field) for field in fields)

    cdef int write(self, Buffer out, object value) except -1:
        cdef PyObject* given
        cdef FieldWriter field
        if type(value) is not dict:
            raise TypeError("no record")
        for each in self.fields:
            field = <FieldWriter>each
            given = PyDict_GetItemWithError(value, field.name)
            if given is not NULL:
                field.type.write(out, <object>given)
            elif field.required:
                raise KeyError(field.name)
            else:
                field.type.write(out, field.default)
        return 0


_PLAIN = {
    "boolean": BooleanWriter(),
    "int": IntegerWriter(32),
    "long": IntegerWriter(64),
    "bytes": BytesWriter(),
    "string": StringWriter(),
}
_COMPLEX = {
    "decimal": lambda schema: DecimalWriter(schema["scale"]),
    "enum": lambda schema: EnumWriter(schema["symbols"]),
    "record": lambda schema: RecordWriter(schema["fields"]),
    "array": lambda schema: ArrayWriter(_writer(schema["items"])),
    "map": lambda schema: MapWriter(_writer(schema["values"])),
}


def _writer(schema):
    if isinstance(schema, list):
        if len(schema) != 2 or schema[0] != "null":
            raise NotImplementedError("a union other than null or one type")
        return OptionalWriter(_writer(schema[1]))
    if isinstance(schema, dict):
        kind = "decimal" if schema.get("logicalType") == "decimal" else schema["type"]
        return _COMPLEX[kind](schema) if kind in _COMPLEX else _writer(kind)
    if schema not in _PLAIN:
        raise NotImplementedError(f"no compiled encoder for {schema}")
    return _PLAIN[schema]


cdef class Encoder:
    """Writes values of one schema behind the header of Confluent's wire format."""

    cdef bytes header
    cdef Writer writer

    def __init__(self, int schema_id, dict schema):
        self.header = HEADER.pack(0, schema_id)
        self.writer = _writer(fastavro.schema.expand_schema(schema))

    def encode(self, dict value not None):
        """Give the bytes of a value, header included."""
        cdef Buffer out = Buffer()
        out.raw(PyBytes_AS_STRING(self.header), PyBytes_GET_SIZE(self.header))
        self.writer.write(out, value)
        return PyBytes_FromStringAndSize(out.data, out.size)


def compile_encoder(schema_id, schema):
    """
    Give a function from a value to its bytes, header included.

    The function raises ValueError, TypeError, KeyError or decimal.Inexact where a value does not fit
    the schema. Raise NotImplementedError here for a schema that uses what we never do (other unions, float, fixed).
    """
    return Encoder(schema_id, schema).encode

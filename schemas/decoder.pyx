# cython: language_level=3
"""
A compiled Avro decoder, the counterpart of encoder.pyx: a schema becomes a tree of readers, one per type.

Gives what fastavro gives (tests/schemas/test_decoder.py compares them) in less time: our records have many fields and
few bytes, most of them "null or T" (docs/performance.md has the figures).

Avro 1.12 specification, binary encoding: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8, PyUnicode_FromStringAndSize
from libc.string cimport memcpy

from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal

import fastavro

cdef enum:
    LONGEST_SCALE = 30  # of a decimal that is spelled in C

_EXACT = Context(prec=60)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ONE = date(1970, 1, 1).toordinal()


cdef class Input:
    """The bytes of a value, and how far they are read."""

    cdef const unsigned char* data
    cdef Py_ssize_t place, end
    cdef bytes owner

    def __cinit__(self, bytes owner, Py_ssize_t begin):
        self.owner, self.place, self.end = owner, begin, PyBytes_GET_SIZE(owner)
        self.data = <const unsigned char*>PyBytes_AS_STRING(owner)

    cdef const unsigned char* take(self, Py_ssize_t size) except NULL:
        """Give the next bytes."""
        cdef const unsigned char* taken = self.data + self.place
        if size < 0 or size > self.end - self.place:
            raise ValueError("fewer bytes than the schema asks for")
        self.place += size
        return taken

    cdef long long number(self) except? -1:
        cdef unsigned long long found = 0
        cdef int shift = 0
        cdef unsigned char byte = 0x80
        while byte & 0x80:
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
            byte = self.take(1)[0]
            found |= <unsigned long long>(byte & 0x7F) << shift
            shift += 7
        return <long long>(found >> 1) ^ -<long long>(found & 1)

    cdef long long blocked(self) except? -1:
        """Give how many items the next block of an array or a map has; 0 behind the last."""
        cdef long long count = self.number()
        if count < 0:
            count = -count
            self.number()  # its size in bytes, for who wants to pass over it
        return count


cdef class Reader:
    """Reads the values of one type."""

    cdef object read(self, Input data):
        raise NotImplementedError


cdef class NullReader(Reader):
    cdef object read(self, Input data):
        return None


cdef class BooleanReader(Reader):
    cdef object read(self, Input data):
        return data.take(1)[0] == 1


cdef class LongReader(Reader):
    cdef object read(self, Input data):
        return data.number()


cdef class DoubleReader(Reader):
    cdef object read(self, Input data):
        cdef double value
        memcpy(&value, data.take(8), 8)  # little-endian, as every machine that we run on
        return value


cdef class BytesReader(Reader):
    cdef object read(self, Input data):
        cdef Py_ssize_t size = data.number()
        return PyBytes_FromStringAndSize(<const char*>data.take(size), size)


cdef class StringReader(Reader):
    cdef object read(self, Input data):
        cdef Py_ssize_t size = data.number()
        return PyUnicode_DecodeUTF8(<const char*>data.take(size), size, NULL)


cdef class DecimalReader(Reader):
    cdef int scale

    def __init__(self, dict schema):
        if schema["type"] != "bytes":
            raise NotImplementedError("a decimal that is no bytes")
        self.scale = schema.get("scale", 0)

    cdef object read(self, Input data):
        cdef Py_ssize_t size = data.number(), place
        cdef const unsigned char* digits = data.take(size)
        cdef long long number
        if size > 8 or self.scale > LONGEST_SCALE:
            exact = int.from_bytes(digits[:size], "big", signed=True)
            return Decimal(exact).scaleb(-self.scale, _EXACT)
        number = -1 if size and digits[0] & 0x80 else 0
        for place in range(size):
            number = <long long>(<unsigned long long>number << 8 | digits[place])
        return Decimal(self.spelled(number))

    cdef str spelled(self, long long number):
        """Give the text of a decimal: making one from it takes half of the time that shifting another takes."""
        cdef char text[LONGEST_SCALE + 32]
        cdef int place = LONGEST_SCALE + 32, written = 0
        cdef unsigned long long rest = number if number >= 0 else -<unsigned long long>number
        while rest or written <= self.scale:
            place -= 1
            text[place] = <char>(c'0' + rest % 10)
            rest //= 10
            written += 1
            if written == self.scale:
                place -= 1
                text[place] = c'.'
        if number < 0:
            place -= 1
            text[place] = c'-'
        return PyUnicode_FromStringAndSize(text + place, LONGEST_SCALE + 32 - place)


cdef class DateReader(Reader):
    cdef object read(self, Input data):
        return date.fromordinal(data.number() + _DAY_ONE)


cdef class TimestampReader(Reader):
    cdef object read(self, Input data):
        return _EPOCH + timedelta(0, 0, data.number())


cdef class EnumReader(Reader):
    cdef tuple symbols

    def __init__(self, dict schema):
        self.symbols = tuple(schema["symbols"])

    cdef object read(self, Input data):
        cdef long long place = data.number()
        if place < 0 or place >= len(self.symbols):
            raise ValueError("no symbol of the enum")
        return self.symbols[place]


cdef class OptionalReader(Reader):
    cdef Reader present
    cdef long long null

    def __init__(self, Reader present, long long null):
        self.present, self.null = present, null

    cdef object read(self, Input data):
        cdef long long branch = data.number()
        if branch == self.null:
            return None
        if branch == 1 - self.null:
            return self.present.read(data)
        raise ValueError("no branch of the union")


cdef class RecordReader(Reader):
    cdef tuple names
    cdef list readers

    def __init__(self, dict schema):
        self.names = tuple(field["name"] for field in schema["fields"])
        self.readers = [_reader(field["type"]) for field in schema["fields"]]

    cdef object read(self, Input data):
        cdef dict value = {}
        cdef Py_ssize_t place
        for place in range(len(self.readers)):
            value[self.names[place]] = (<Reader>self.readers[place]).read(data)
        return value


cdef class ArrayReader(Reader):
    cdef Reader items

    def __init__(self, dict schema):
        self.items = _reader(schema["items"])

    cdef object read(self, Input data):
        cdef list value = []
        cdef long long count = data.blocked()
        while count:
            while count:
                value.append(self.items.read(data))
                count -= 1
            count = data.blocked()
        return value


cdef class MapReader(Reader):
    cdef Reader keys, values

    def __init__(self, dict schema):
        self.keys, self.values = StringReader(), _reader(schema["values"])

    cdef object read(self, Input data):
        cdef dict value = {}
        cdef long long count = data.blocked()
        while count:
            while count:
                key = self.keys.read(data)
                value[key] = self.values.read(data)
                count -= 1
            count = data.blocked()
        return value


_KINDS = {
    "null": lambda _: NullReader(),
    "boolean": lambda _: BooleanReader(),
    "int": lambda _: LongReader(),
    "long": lambda _: LongReader(),
    "double": lambda _: DoubleReader(),
    "bytes": lambda _: BytesReader(),
    "string": lambda _: StringReader(),
    "decimal": DecimalReader,
    "date": lambda _: DateReader(),
    "timestamp-micros": lambda _: TimestampReader(),
    "enum": EnumReader,
    "record": RecordReader,
    "array": ArrayReader,
    "map": MapReader,
}


def _reader(schema):
    if isinstance(schema, list):
        if len(schema) != 2 or "null" not in schema:
            raise NotImplementedError("a union other than null or one type")
        null = schema.index("null")
        return OptionalReader(_reader(schema[1 - null]), null)
    if not isinstance(schema, dict):
        schema = {"type": schema}
    kind = schema.get("logicalType") or schema["type"]
    if isinstance(kind, (dict, list)):
        return _reader(kind)
    if kind not in _KINDS:
        raise NotImplementedError(f"no compiled decoder for {kind}")
    return _KINDS[kind](schema)


cdef class Decoder:
    """Reads values of one schema."""

    cdef Reader reader

    def __init__(self, dict schema):
        self.reader = _reader(fastavro.schema.expand_schema(schema))

    def decode(self, bytes data not None, Py_ssize_t begin):
        """Give the value that begins at a place and goes to the end."""
        cdef Input source = Input(data, begin)
        value = self.reader.read(source)
        if source.place != source.end:
            raise ValueError("more bytes than the schema asks for")
        return value


def compile_decoder(schema):
    """
    Give a function from bytes, and the place where the value begins, to the value.

    The function raises ValueError or OverflowError on bytes that are not a value of the schema.
    Raise NotImplementedError here for a schema that uses what we never do (other unions, fixed, recursion).
    """
    return Decoder(schema).decode

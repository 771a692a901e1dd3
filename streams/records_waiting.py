"""
Waiting for librdkafka's records in an event loop, without a thread: a file descriptor that is readable once there are some.

librdkafka writes a byte when a queue that was empty has something (rd_kafka_queue_io_event_enable, rdkafka.h), but
confluent-kafka 2.16.0 has no name for it yet (its pull request #1448 adds one). So the library that it has loaded is
asked by ctypes, for the client that stands first in its Consumer; tests/streams/test_records_waiting.py holds the pinned
version to that.
"""

from __future__ import annotations

import ctypes
import os

from confluent_kafka import Consumer, cimpl

# A name that the module lacks is looked for in the libraries it is linked with.
_lib = ctypes.CDLL(cimpl.__file__)
_queue_of = _lib.rd_kafka_queue_get_consumer
_queue_of.argtypes, _queue_of.restype = [ctypes.c_void_p], ctypes.c_void_p
_tell = _lib.rd_kafka_queue_io_event_enable
_tell.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
_tell.restype = None
_release = _lib.rd_kafka_queue_destroy
_release.argtypes, _release.restype = [ctypes.c_void_p], None

_BYTE = b"\x01"


class RecordsWaiting:
    """Is readable when a consumer that had no records has some; `close` it before the consumer."""

    def __init__(self, consumer: Consumer) -> None:
        self._queue = _queue_of(client(consumer))
        self._readable, self._written = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(self._written, False)
        _tell(self._queue, self._written, _BYTE, len(_BYTE))

    def fileno(self) -> int:
        """Give the file descriptor to wait for."""
        return self._readable

    def clear(self) -> None:
        """Be readable no more, until records come that find none before them: those that are there have to be consumed first."""
        os.read(self._readable, 4096)

    def close(self) -> None:
        """Give everything back."""
        _tell(self._queue, -1, None, 0)
        _release(self._queue)
        os.close(self._readable)
        os.close(self._written)


def client(consumer: Consumer) -> int:
    """Give the address of librdkafka's client: the first field of a Consumer, behind what all objects begin with."""
    address = ctypes.c_void_p.from_address(id(consumer) + object.__basicsize__).value
    assert address is not None
    return address

"""
Recordings of lane logs: a file of JSON lines (zstd) that a pipeline can be run on anywhere, any time.

A line is a Kafka record: topic, partition, offset, timestamp (ms), key, value, headers. Bytes that are UTF-8
stand there as text, others as {"base64": …}.
"""

from __future__ import annotations

import io
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import zstandard

from schemas.errors import TongbuError
from tongbu import topics


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a lane log; topic names are without namespace, `timestamp` is in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def to_line(record: Recorded) -> bytes:
    """Write a record as a line of JSON, without the newline."""
    return orjson.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": _text(record.key),
            "value": _text(record.value),
            "headers": [[name, _text(value)] for name, value in record.headers],
        }
    )


def from_line(line: bytes) -> Recorded:
    """Read a line back; raise ValueError or KeyError where it is none of ours."""
    found = orjson.loads(line)
    return Recorded(
        topic=found["topic"],
        partition=found["partition"],
        offset=found["offset"],
        timestamp=found["timestamp"],
        key=_bytes(found["key"]),
        value=_bytes(found["value"]),
        headers=tuple((name, _bytes(value)) for name, value in found["headers"]),
    )


def _text(data: bytes | None) -> str | dict[str, str] | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def _bytes(text: str | dict[str, str] | None) -> bytes | None:
    if text is None:
        return None
    return b64decode(text["base64"]) if isinstance(text, dict) else text.encode()


def write(file: Path, records: Iterable[Recorded]) -> int:
    """
    Write a recording, under a temporary name until it is complete; give the number of records.

    Raise TongbuError where the file can't be written, or is none (a device would be replaced).
    """
    if file.exists() and not file.is_file():
        raise TongbuError(f"{file}: not a file", "Give the path of a file to write.")
    count = 0
    packer = zstandard.ZstdCompressor(write_checksum=True)
    try:
        with _atomically(file) as raw, packer.stream_writer(raw, closefd=False) as out:
            for record in records:
                out.write(to_line(record) + b"\n")
                count += 1
    except OSError as error:
        raise TongbuError(
            f"{file}: {error.strerror}", "Give a path that can be written, where there is room."
        ) from error
    return count


@contextmanager
def _atomically(file: Path) -> Iterator[io.BufferedWriter]:
    fresh = file.with_name(file.name + ".part")
    try:
        with fresh.open("wb") as raw:
            yield raw
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def read(file: Path) -> Iterator[Recorded]:
    """Read a recording; raise TongbuError where the file is none, or is cut short."""
    try:
        raw = file.open("rb")
    except OSError as error:
        raise TongbuError(f"{file}: {error.strerror}", "Give the path of a recording.") from error
    read_lines = 0
    with raw:
        try:
            for line in _lines(raw):
                yield from_line(line)
                read_lines += 1
        except (zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
            raise TongbuError(
                f"{file}: not a recording from line {read_lines + 1} on: {error}",
                "`tongbu record FILE` makes one; was this one copied completely?",
            ) from error


def _lines(raw: io.BufferedReader) -> Iterator[bytes]:
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    rest = b""
    while not unpacker.eof:
        chunk = raw.read(1 << 16)
        if not chunk:
            raise ValueError("its end is missing")
        *lines, rest = (rest + unpacker.decompress(chunk)).split(b"\n")
        yield from lines
    if unpacker.unused_data or raw.read(1):
        raise ValueError("it goes on after its end, as where two are put together")


def from_topic(
    bootstrap: str, topic: str, namespace: str = "", on_record: Callable[[int], Any] | None = None
) -> Iterator[Recorded]:
    """Read a lane log from its beginning to its present end; `on_record` is told the offset of each record."""
    live = namespace + topic
    start, end = topics.starts(bootstrap, [live])[live, 0], topics.ends(bootstrap, [live])[live, 0]
    for message in topics.read(bootstrap, live, 0, start, end):
        if on_record is not None:
            on_record(message.offset())
        yield Recorded(
            topic=topic,
            partition=0,
            offset=message.offset(),
            timestamp=message.timestamp()[1],
            key=message.key(),
            value=message.value(),
            headers=tuple(message.headers() or ()),
        )

"""Size: what is too large for Kafka withholds its id. To send it would end the process, and again after each restart."""

from __future__ import annotations

from streams.errors import RecordError

#: A record, or what is sealed into a letter, has so many bytes at most. The broker takes 16 MiB (connectors-config/topics.yaml,
#: streams/outputs.py): the rest is for what stands around it in a transaction message.
RECORD_BYTES = 15 * 1024 * 1024


def fits(data: bytes) -> bool:
    """Tell whether a record of these bytes can be sent."""
    return len(data) <= RECORD_BYTES


def fitting(encoded: bytes) -> bytes:
    """Give an encoded record back; raise RecordError where it can't be sent."""
    if not fits(encoded):
        message = f"the record has {len(encoded):,} bytes, {RECORD_BYTES:,} are possible"
        raise RecordError("encode", "too-large", message)
    return encoded

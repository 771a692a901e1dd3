"""Decode: a record of Debezium's JSON becomes an event."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.errors import RecordError
from streams.records import Begin, Change, Ddl, End, Event, LaneRecord, Position, SnapshotNotice
from streams.stages.ddl import table_changes
from streams.stages.envelope import Envelope, FromSource, Notice, ReadFrom, Source

#: The reader of rows that nobody has begun to read: somebody has sent the connector a signal by hand.
INCREMENTAL = "incremental"
_OLD_KEY, _NEW_KEY = "__debezium.oldkey", "__debezium.newkey"


_decode = msgspec.json.Decoder(Envelope).decode
_decode_read_from = msgspec.json.Decoder(FromSource).decode
_decode_key = msgspec.json.Decoder(dict[str, Any]).decode


def decode(record: LaneRecord) -> Event | None:
    """
    Tell what a record is; None for what carries no change (tombstones, heartbeats, logical messages).

    Raise RecordError where it is not the JSON that Debezium writes.
    """
    if record.value is None:
        return None
    try:
        return _event(record, record.value)
    except RecordError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError("decode", "not-debezium", f"is not Debezium's JSON: {error}") from error
    except Exception as error:  # whatever it is like, it is this record alone
        message = f"is not Debezium's: {type(error).__name__}"
        raise RecordError("decode", "not-debezium", message) from error


def _event(record: LaneRecord, value: bytes) -> Event | None:
    envelope = _decode(value)
    if envelope.op is not None:
        if envelope.op == "m":
            return None
        change = _change(envelope, record)
        if envelope.op == "r":
            change.reader = _reader(value)
        elif envelope.op == "t" and change.transaction is None:
            change.transaction = _read_from(value).identity  # MySQL's stands in no bracket
        return change
    if envelope.status is not None and envelope.id is not None:
        return _bracket(envelope.status, envelope.id)
    if envelope.ddl is not None:
        read = _read_from(value)
        if read.snapshot not in (None, "false"):
            return None  # it tells of every table as if it were made now, in the middle of any transaction
        tables = table_changes(value)
        names = " ".join([f"{each.type} {each.name}" for each in tables])
        return Ddl(tables, None if read.identity is None else f"{read.identity} {names}")
    if envelope.aggregate_type is not None:
        return _notice(envelope)
    return None


def _change(envelope: Envelope, record: LaneRecord) -> Change:
    source = envelope.source
    if source is None or envelope.op is None:
        raise RecordError("decode", "no-source", "a change without its source block")
    bracket = envelope.transaction
    change = Change(
        table=f"{source.schema or source.db}.{source.table}",
        operation=envelope.op,
        before=envelope.before,
        after=envelope.after,
        transaction=transaction_id(bracket.id) if bracket else None,
        position=_position(source),
        committed_at=source.ts_us,
    )
    if record.headers:
        for name, value in record.headers:
            if name == _OLD_KEY:
                change.moved_from = _decode_key(value)
            elif name == _NEW_KEY:
                change.moved_to = _decode_key(value)
    return change


def _read_from(value: bytes) -> ReadFrom:
    """Give which connector made a record, whether in a snapshot, and where it stands: a second look that rows of the stream don't need."""
    return _decode_read_from(value).source or ReadFrom()


def _reader(value: bytes) -> str | None:
    source = _read_from(value)
    return INCREMENTAL if source.snapshot == "incremental" else source.name


def _notice(envelope: Envelope) -> SnapshotNotice | None:
    if envelope.aggregate_type != "Initial Snapshot" or envelope.type is None:
        return None
    data = envelope.additional_data or Notice()
    return SnapshotNotice(envelope.type, data.connector_name, data.scanned_collection, data.status)


def _position(source: Source) -> Position:
    if source.lsn is not None:
        return Position((source.lsn, 0), 0)
    if source.change_lsn is not None:
        return _sql_server(source.change_lsn, source.event_serial_no or 0)
    if source.scn is not None:
        return Position((int(source.scn), 0), 0)  # many rows may share one: they are numbered
    number = source.file.rpartition(".")[2] if source.file else ""
    return Position((int(number) if number.isdigit() else 0, source.pos), source.row)


def _sql_server(lsn: str, serial: int) -> Position:
    """Read SQL Server's log place: log file, block in it, slot in the block; a changed key is two events at one of them."""
    file, block, slot = [int(part, 16) for part in lsn.split(":")]
    return Position((file, block), (slot << 8) + serial)


def _bracket(status: str, full_id: str) -> Begin | End:
    if status == "BEGIN":
        return Begin(transaction_id(full_id))
    xid, _, lsn = full_id.partition(":")
    is_place = xid.isdigit() and lsn.isdigit()  # the number of MySQL's `uuid:number` is none
    return End(transaction_id(full_id), full_id, int(lsn) if is_place else 0)


def transaction_id(full_id: str) -> str:
    """Give the part that is the same on BEGIN, rows and END: of PostgreSQL's `xid:lsn` only the xid."""
    head, colon, tail = full_id.partition(":")
    return head if colon and head.isdigit() and tail.isdigit() else full_id

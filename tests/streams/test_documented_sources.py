"""
SQL Server and Oracle: events made after Debezium's documentation decode and assemble. No such server was run.

The forms follow the chapters "Data change events" and "Transaction metadata" of both connectors.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streams.records import Begin, Change, End, Event, LaneRecord
from streams.stages.decode import decode
from streams.transactions import Assembler, Closed
from tongbu.deploy.deployment import CONNECTORS

TRANSACTION = {"sqlserver": "00000025:00000d08:0025", "oracle": "5.6.641"}


def source(kind: str, number: int, serial: int = 1) -> dict[str, Any]:
    common = {
        "version": "3.5.0.Final",
        "connector": kind,
        "name": "x",
        "ts_us": 7,
        "snapshot": "false",
    }
    if kind == "sqlserver":
        place = {
            "change_lsn": f"00000027:00000758:{number:04x}",
            "commit_lsn": "00000027:00000758:0005",
            "event_serial_no": serial,
        }
        return common | {"db": "testDB", "schema": "dbo", "table": "customers"} | place
    place = {"txId": "5.6.641", "scn": "2122185", "commit_scn": "2122186", "lcr_position": None, "rs_id": "001234.00012345.0124", "ssn": number}  # fmt: skip
    return common | {"db": "ORCLPDB1", "schema": "INVENTORY", "table": "CUSTOMERS"} | place


def event(value: dict[str, Any], **headers: dict[str, Any]) -> Event:
    named = tuple((f"__debezium.{name}", orjson.dumps(key)) for name, key in headers.items())
    found = decode(LaneRecord("cdc.x", 0, 0, b"{}", orjson.dumps(value), named))
    assert found is not None
    return found


def bracket(kind: str, status: str) -> Event:
    return event({"status": status, "id": TRANSACTION[kind], "ts_ms": 1, "event_count": None})


def row(kind: str, number: int, operation: str = "c", serial: int = 1, **headers: Any) -> Event:
    id_ = {"id": number, "email": "a@b"}
    value = {
        "op": operation,
        "before": id_ if operation == "d" else None,
        "after": None if operation == "d" else id_,
        "source": source(kind, number, serial),
        "transaction": {"id": TRANSACTION[kind], "total_order": 1, "data_collection_order": 1},
        "ts_ms": 1,
    }
    return event(value, **headers)


def feed(events: list[Event]) -> list[Closed]:
    assembler = Assembler()
    made = [assembler.feed(each) for each in events if isinstance(each, Begin | End | Change)]
    return [each for each in made if each is not None]


@pytest.mark.parametrize(
    ("kind", "table"), [("sqlserver", "dbo.customers"), ("oracle", "INVENTORY.CUSTOMERS")]
)
def test_a_documented_change_decodes(kind: str, table: str) -> None:
    change = row(kind, 1)

    assert isinstance(change, Change)
    assert (change.table, change.operation, change.transaction) == (table, "c", TRANSACTION[kind])
    assert (change.after, change.committed_at) == ({"id": 1, "email": "a@b"}, 7)


@pytest.mark.parametrize("kind", TRANSACTION)
def test_a_transaction_that_is_cut_and_repeated_comes_once_and_whole(kind: str) -> None:
    rows = [row(kind, number) for number in range(1, 6)]
    begin, end = bracket(kind, "BEGIN"), bracket(kind, "END")

    first, again = feed([begin, *rows[:3], begin, *rows, end, begin, *rows, end])

    assert first.transaction is not None
    assert [(each.after or {})["id"] for each in first.transaction.changes] == [1, 2, 3, 4, 5]
    assert (again.transaction, again.repeat) == (None, True)


def test_sql_servers_changed_key_is_two_events_at_one_place_told_apart_by_their_serial() -> None:
    moved = [
        row("sqlserver", 9, "d", 1, newkey={"id": 10}),
        row("sqlserver", 9, "c", 2, oldkey={"id": 9}),
    ]
    begin = bracket("sqlserver", "BEGIN")

    (closed,) = feed([begin, moved[0], begin, *moved, bracket("sqlserver", "END")])

    assert closed.transaction is not None
    assert [each.operation for each in closed.transaction.changes] == ["d", "c"]


@pytest.mark.parametrize("kind", TRANSACTION)
def test_the_shipped_example_holds_no_password_and_reads_only(kind: str) -> None:
    settings = orjson.loads((CONNECTORS / f"sources/{kind}-example.json").read_bytes())

    assert settings["database.password"].startswith("${env:")
    assert {"sqlserver": "database.applicationIntent", "oracle": "internal.log.mining.read.only"}[kind] in settings  # fmt: skip

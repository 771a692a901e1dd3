"""What the command line reads from a lane log about snapshots is what the lane makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from bench.lane_log import CAPTURED, Log, declarations
from schemas import control
from schemas.captured import Column, Table
from streams.records import LaneRecord
from tongbu.deploy.known import Known

READER = "erp-snapshot-1"
NOTE = Table(schema="public", name="note", key=("id",), columns=(Column(name="id", type="int"),))


class Message:
    """A record as Kafka's client gives it."""

    def __init__(self, record: LaneRecord) -> None:
        self._record = record

    def __getattr__(self, name: str) -> Any:
        return lambda: getattr(self._record, name)


@pytest.fixture
def log() -> Log:
    """A log whose lane captures a new table, which nobody has read."""
    log = Log().start()
    log.control(
        control.CapturedSchema(source="erp", database="postgresql", tables=(*CAPTURED.tables, NOTE))
    )
    return log


def known(log: Log) -> Known:
    found = Known()
    for record in log.records:
        found.take(Message(record), "erp")
    return found


def test_a_new_table_is_incomplete_until_a_snapshot_has_read_it(log: Log) -> None:
    assert known(log).incomplete == {"public.note"}
    begun = len(log.records)
    log.control(control.Snapshot(source="erp", snapshot=READER, tables=("public.note",)))
    log.notice("STARTED", READER)
    assert known(log).reading == {"public.note": (READER, begun)}
    log.notice("TABLE_SCAN_COMPLETED", READER, "note")
    log.notice("COMPLETED", READER)

    assert known(log).incomplete == frozenset()
    assert known(log).reading == {}


def test_a_connector_that_only_looks_at_the_schema_again_completes_nothing(log: Log) -> None:
    log.notice("STARTED", "erp")
    log.notice("COMPLETED", "erp")

    assert known(log).incomplete == {"public.note"}


def test_a_scan_that_failed_completes_nothing(log: Log) -> None:
    log.control(control.Snapshot(source="erp", snapshot=READER, tables=("public.note",)))
    log.notice("TABLE_SCAN_COMPLETED", READER, "note", status="UNKNOWN_SCHEMA")
    log.notice("COMPLETED", READER)

    assert known(log).incomplete == {"public.note"}
    assert known(log).reading == {}


def test_the_last_declarations_are_in_force(log: Log) -> None:
    log.control(declarations(name="h2"))

    found = known(log).declarations

    assert found is not None
    assert found.hash == "h2"

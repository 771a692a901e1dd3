"""A table is read, at first or again, under load and `kill -9` of the worker: the lane ends with the source's rows."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from capturing import SCHEMA, Captured
from test_killed_worker import _kill, _wait_until_it_captures

from bench.lane_log import MAPPING, declarations
from schemas import control
from schemas.declarations import Source
from streams.lane import Lane
from streams.records import LaneRecord, SnapshotNotice
from streams.seal import Seal
from streams.stages.decode import decode
from streams.stages.image import image_key
from streams.state import State
from tongbu.deploy import captured as catalog
from tongbu.deploy import connectors, lanes, readers
from tongbu.deploy.deployment import Deployment
from tongbu.instance import Instance

ROWS, HIDDEN = 20_000, 1_000


class Load(threading.Thread):
    """Changes rows, one transaction each, in any order: what is read is always older than something."""

    def __init__(self, captured: Captured, table: str) -> None:
        super().__init__()
        self.captured, self.table, self.stop, self.count = captured, table, False, 0

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop = True
        self.join()

    def run(self) -> None:
        choose = random.Random(1)
        with self.captured.session() as cursor:
            while not self.stop:
                self.count += 1
                self._change(cursor, choose.randrange(ROWS), choose.random())
                time.sleep(1 / 200)

    def _change(self, cursor: Any, id_: int, what: float) -> None:
        if what < 0.6:
            cursor.execute(f"UPDATE {self.table} SET a = {self.count} WHERE id = {id_}")
        elif what < 0.8:
            cursor.execute(f"DELETE FROM {self.table} WHERE id = {id_}")
        else:
            cursor.execute(f"DELETE FROM {self.table} WHERE id = {id_}")
            cursor.execute(f"INSERT INTO {self.table} VALUES ({id_}, {self.count}, 'new', 1)")


def test_a_lane_ends_with_the_rows_of_the_source_whatever_was_missed_before(
    captured: Captured, stack_instance: Instance, tmp_path: Path
) -> None:
    table = f"{SCHEMA}.snapped"
    since = captured.end
    _prepare(captured, table)
    captured.until_now(since)
    missed = _miss_changes(captured, table)
    id_ = f"{captured.name}-snapshot-1"
    connect = _deployment(captured)
    with Load(captured, table):
        _append(captured, control.Snapshot(source=captured.name, snapshot=id_, tables=(table,)))
        settings = readers.settings(captured.settings(), id_, [table])
        captured.connect.put(f"/connectors/{id_}/config", json=settings).raise_for_status()
        begun = captured.end
        list(captured.records(begun, _reads(id_)))
        killed = _kill(stack_instance)
        _wait_until_it_captures(captured, stack_instance, killed)
        list(captured.records(begun, _completes(id_), lambda: readers.check(connect, id_)))
        time.sleep(1)

    lane = _lane(captured, since, missed, tmp_path)
    assert _rows(lane, table) == set(captured.select(f"SELECT id, a, b FROM {table}"))
    assert lane.snapshots.active == {}
    assert lane.counters.swept > 0
    captured.connect.delete(f"/connectors/{id_}").raise_for_status()


def test_an_initial_snapshot_that_is_killed_in_the_middle_starts_again_and_ends_with_the_rows_of_the_source(
    captured: Captured, stack_instance: Instance, tmp_path: Path
) -> None:
    table = f"{SCHEMA}.initial"
    own = replace(captured, name=f"{captured.name}-initial", _marks=1_000_000)
    own.make_topics()
    _prepare(own, table)
    more = {
        "table.include.list": rf"{SCHEMA}\.(initial|mark)",
        "database.server.id": "38471",
    }
    settings = own.settings() | more
    with Load(own, table):
        own.connect.put(f"/connectors/{own.name}/config", json=settings).raise_for_status()
        list(own.records(0, _reads(own.name)))
        killed = _kill(stack_instance)
        _wait_until_it_captures(captured, stack_instance, killed)
        _start_anew_without_a_place(own)
        list(own.records(0, _completes(own.name)))
        time.sleep(1)

    lane = _lane(own, 0, range(0), tmp_path)
    assert _rows(lane, table) == set(own.select(f"SELECT id, a, b FROM {table}"))
    assert lane.snapshots.active == {}
    assert _count(own, "STARTED") == 2  # the first one was cut
    own.remove()


def _deployment(captured: Captured) -> Deployment:
    return Deployment({"CONNECT_URL": str(captured.connect.base_url)})


def _start_anew_without_a_place(captured: Captured) -> None:
    """Do as the watch and `tongbu apply` do where the kill came before the connector had noted a place in the log."""
    deployment = _deployment(captured)
    end = time.monotonic() + 60
    while captured.state() != "RUNNING":
        if connectors.NO_PLACE in (connectors.failure(deployment, captured.name) or ""):
            connectors.reset(deployment, captured.name)
            connectors.resume(deployment, captured.name)
        assert time.monotonic() < end, captured.state()
        time.sleep(0.3)


def _lane(captured: Captured, since: int, missed: range, folder: Path) -> Lane:
    """Give a lane that has read the log, control records too, as if it never had the missed records."""
    lane = Lane(captured.name, 0, State(folder), Seal(None), None)
    for record in captured.records(since, captured.mark()):
        if record.offset not in missed:
            list(lane.process(record))
    assert lane.waiting.why is None
    return lane


def _rows(lane: Lane, table: str) -> set[tuple[Any, ...]]:
    images = [row for _, row in lane.state.iterate(image_key(table, b""))]
    return {(row["id"], row["a"], row["b"]) for row in images}


def _count(captured: Captured, what: str) -> int:
    """Count the notices of a kind that the connector has given."""
    events = [decode(each) for each in captured.until_now(0)]
    return sum(isinstance(each, SnapshotNotice) and each.what == what for each in events)


def _prepare(captured: Captured, table: str) -> None:
    """Make the table, tell the lane of it, and fill it."""
    captured.run(
        f"CREATE TABLE {table} (id bigint PRIMARY KEY, a bigint, b varchar(99), m numeric(9, 2))"
    )
    source = Source(
        system="u8", database=captured.database, partition=0, zone="Asia/Shanghai", connector="x"
    )
    captured_dsn = captured.dsn
    known = catalog.read(captured.name, source, captured_dsn, [table])
    mapping = MAPPING | {
        "from": table,
        "where": {},
        "id": "id",
        "parts": {"lines": {"from": table, "join": {"id": "id"}, "order_by": "a"}},
        "fields": {
            "code": "b",
            "status": {"const": "draft"},
            "line_count": {"count": "lines"},
            "lines": {
                "each": "lines",
                "fields": {"line_no": "a", "gross": {"money": "m", "currency": {"const": "CNY"}}},
            },
        },
    }
    _append(captured, control.Lane(source=captured.name, epoch=1, topic_id="t"))
    _append(captured, known)
    _append(captured, declarations(mapping, captured.name))
    with captured.session() as cursor:
        for start in range(0, ROWS, 1000):
            rows = ", ".join(f"({id_}, 0, 'old', 1)" for id_ in range(start, start + 1000))
            cursor.execute(f"INSERT INTO {table} VALUES {rows}")


def _miss_changes(captured: Captured, table: str) -> range:
    """Change rows; give which records tell it: they are those that a lost slot would take away."""
    first = captured.end
    captured.run(
        f"DELETE FROM {table} WHERE id < {HIDDEN} AND id % 7 = 0",
        f"UPDATE {table} SET b = 'missed' WHERE id < {HIDDEN} AND id % 7 = 1",
    )
    captured.until_now(first)
    missed = range(first, captured.end)
    _until_stored(captured)
    return missed


def _until_stored(captured: Captured) -> None:
    """Wait until Connect has stored how far capture is: a worker that is killed does not repeat what is before that."""
    for _ in range(2):  # the first may have begun before
        stored = _stored(captured)
        end = time.monotonic() + 60
        while _stored(captured) == stored:
            assert time.monotonic() < end
            captured.until_now(captured.end)


def _stored(captured: Captured) -> Any:
    return captured.connect.get(f"/connectors/{captured.name}/offsets").raise_for_status().json()


def _append(captured: Captured, record: control.ControlRecord) -> None:
    place: Any = SimpleNamespace(bootstrap=captured.bootstrap, lane_topic=lambda _: captured.topic)
    lanes.append(place, record)


def _reads(snapshot: str) -> Any:
    name = f'"name":"{snapshot}"'.encode()
    return lambda record: (
        record.value is not None and name in record.value and b'"op":"r"' in record.value
    )


def _completes(snapshot: str) -> Any:
    def is_end(record: LaneRecord) -> bool:
        notice = None if control.is_control(record.key) else decode(record)
        return (
            isinstance(notice, SnapshotNotice)
            and notice.what == "COMPLETED"
            and notice.connector == snapshot
        )

    return is_end

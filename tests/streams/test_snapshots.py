"""Snapshots of single tables beside the stream: what is taken, what is swept, what is published, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lanes import CAPTURED, MAPPING, PLACEHOLDER, Log, Reader, declarations, head, line

from schemas import control
from schemas.captured import Column, Table
from streams.stages.image import image_key

READER = "erp-snapshot-1"
#: A row that says so.
Row = dict[str, Any]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def begin(log: Log, *tables: str, id_: str = READER) -> None:
    names = tuple(f"public.{table}" for table in tables)
    log.control(control.Snapshot(source="erp", snapshot=id_, tables=names))
    log.notice("STARTED", id_)


def finish(log: Log, *tables: str, id_: str = READER) -> None:
    for table in tables:
        log.notice("TABLE_SCAN_COMPLETED", id_, table)
    log.notice("COMPLETED", id_)


def snapshot(log: Log, table: str, *rows: Row) -> None:
    begin(log, table)
    for row in rows:
        log.read(table, row, READER)
    finish(log, table)


def known(reader: Reader, log: Log, *transactions: tuple[Any, ...]) -> None:
    """Bring transactions through the lane that stand for all that it knew before."""
    for rows in transactions:
        log.transaction(*rows)
    reader.run(log)


def images(reader: Reader, table: str) -> list[Row]:
    return [row for _, row in reader.state.scan(image_key(f"public.{table}", b""))]


def published(reader: Reader, outputs: list[Any]) -> list[tuple[str, str]]:
    return [
        (each["operation"], each["key"])
        for message in reader.messages(outputs)
        for each in message["records"]
    ]


def test_a_row_that_the_snapshot_did_not_find_is_deleted_and_the_rest_published_as_snapshot(
    reader: Reader,
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))], [("c", "head", head(2))])
    snapshot(log, "head", head(2, state=1))

    outputs = reader.run(log)

    assert published(reader, outputs) == [("delete", "erp:SO1"), ("snapshot", "erp:SO2")]
    assert {message["kind"] for message in reader.messages(outputs)} == {"republish"}
    assert reader.records(outputs)[1]["status"] == "approved"
    assert reader.lane.counters.swept == 1


def test_a_swept_part_is_told_by_its_root_published_as_snapshot(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head()), ("c", "line", line(1)), ("c", "line", line(2))])
    snapshot(log, "line", line(2))

    outputs = reader.run(log)

    assert published(reader, outputs) == [("snapshot", "erp:SO1")]
    assert reader.records(outputs)[0]["line_count"] == 1


def test_a_row_that_was_read_before_a_change_that_came_first_is_not_taken(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))], [("c", "head", head(2))])
    begin(log, "head")
    log.transaction(("u", "head", head(1, state=1)), ("d", "head", None, {"id": 2}))
    log.read("head", head(1), READER)
    log.read("head", head(2), READER)
    finish(log, "head")

    reader.run(log)

    assert images(reader, "head") == [head(1, state=1)]


def test_a_row_that_came_since_the_snapshot_began_is_not_swept(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))])
    begin(log, "head")
    log.transaction(("c", "head", head(2)), ("u", "head", head(1)))
    finish(log, "head")

    outputs = reader.run(log)

    assert [operation for operation, _ in published(reader, outputs)] == ["create"] + [
        "snapshot"
    ] * 2
    assert len(images(reader, "head")) == 2


def test_a_snapshot_that_starts_anew_sweeps_what_only_its_first_attempt_saw(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))], [("c", "head", head(2))])
    begin(log, "head")
    log.read("head", head(1), READER)
    log.notice("STARTED", READER)
    log.read("head", head(2), READER)
    finish(log, "head")

    reader.run(log)

    assert images(reader, "head") == [head(2)]


def test_a_row_that_is_read_gives_a_changed_row_the_value_that_its_change_did_not_bring(
    reader: Reader,
) -> None:
    log = Log().start()
    begin(log, "head")
    log.transaction(("u", "head", head(state=1, note=PLACEHOLDER)))
    log.read("head", head(note="long"), READER)
    finish(log, "head")

    outputs = reader.run(log)

    assert images(reader, "head") == [head(state=1, note="long")]
    assert [letter["state"] for letter in reader.letters(outputs)] == ["open", "superseded"]
    assert published(reader, outputs) == [("snapshot", "erp:SO1")]


def test_after_a_truncate_only_the_stream_counts(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))])
    begin(log, "head")
    log.transaction(("t", "head", None), ("c", "head", head(3)))
    log.read("head", head(1), READER)
    finish(log, "head")

    reader.run(log)

    assert images(reader, "head") == [head(3)]


@pytest.mark.parametrize("end", ["ABORTED", "COMPLETED"])
def test_a_snapshot_that_did_not_read_its_table_to_the_end_sweeps_nothing(
    reader: Reader, end: str
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))])
    begin(log, "head")
    log.notice("TABLE_SCAN_COMPLETED", READER, "head", status="SQL_EXCEPTION")
    log.notice(end, READER)

    assert reader.run(log) == []
    assert images(reader, "head") == [head(1)]


def test_rows_that_come_after_their_snapshot_has_ended_are_not_taken(reader: Reader) -> None:
    log = Log().start()
    snapshot(log, "head", head(1))
    log.transaction(("u", "head", head(1, state=1)))
    log.read("head", head(1), READER)

    reader.run(log)

    assert images(reader, "head") == [head(1, state=1)]


def test_an_initial_snapshot_that_starts_anew_sweeps_what_only_its_first_attempt_saw(
    reader: Reader,
) -> None:
    log = Log().start()
    for row in (head(1), head(2)):
        log.notice("STARTED", "erp")
        log.read("head", row, "erp")
    finish(log, "head", "line", id_="erp")

    outputs = reader.run(log)

    assert images(reader, "head") == [head(2)]
    assert published(reader, outputs) == [("snapshot", "erp:SO2")]


def test_a_new_table_whose_reading_starts_anew_has_only_what_was_read_last(reader: Reader) -> None:
    log = Log().start()
    begin(log, "head")
    log.read("head", head(1), READER)
    log.notice("STARTED", READER)
    log.transaction(("c", "head", head(3)))
    log.read("head", head(2), READER)
    finish(log, "head")

    reader.run(log)

    assert images(reader, "head") == [head(2), head(3)]


def test_a_second_initial_snapshot_sweeps_what_was_deleted_while_nobody_captured(
    reader: Reader,
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1)), ("c", "line", line(1))], [("c", "head", head(2))])
    log.notice("STARTED", "erp")
    log.read("head", head(2), "erp")
    finish(log, "head", "line", id_="erp")

    outputs = reader.run(log)

    assert images(reader, "head") == [head(2)]
    assert images(reader, "line") == []
    assert published(reader, outputs) == [("delete", "erp:SO1"), ("snapshot", "erp:SO2")]


def test_a_connector_that_only_looks_at_the_schema_again_sweeps_nothing(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))])
    log.notice("STARTED", "erp")
    log.notice("COMPLETED", "erp")

    assert reader.run(log) == []
    assert images(reader, "head") == [head(1)]


def test_a_connector_that_looks_at_the_schema_again_does_not_end_what_a_reader_reads(
    reader: Reader,
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))], [("c", "head", head(2))])
    begin(log, "head")
    log.notice("STARTED", "erp")
    log.read("head", head(2, state=1), READER)
    log.notice("COMPLETED", "erp")
    finish(log, "head")

    outputs = reader.run(log)

    assert published(reader, outputs) == [("delete", "erp:SO1"), ("snapshot", "erp:SO2")]
    assert images(reader, "head") == [head(2, state=1)]


def test_a_connector_that_is_new_takes_over_what_a_reader_reads(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))], [("c", "line", line(1))])
    begin(log, "head")
    log.notice("STARTED", "erp")
    log.read("head", head(2, state=1), "erp")
    log.read("head", head(2), READER)  # older than what the source's connector reads
    finish(log, "head", "line", id_="erp")
    finish(log, "head")

    reader.run(log)

    assert images(reader, "head") == [head(2, state=1)]
    assert images(reader, "line") == []
    assert reader.lane.snapshots.active == {}


def test_a_finished_snapshot_leaves_no_marks(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))])
    snapshot(log, "head", head(1), head(2))

    reader.run(log)

    assert reader.state.scan(b"mrk\0") == []


# -- entities are published when all that they read is complete

NOTE = Table(
    schema="public",
    name="note",
    key=("id",),
    columns=(Column(name="id", type="integer"), Column(name="text", type="text")),
)
WITH_NOTE = MAPPING | {
    "version": 2,
    "lookups": {"memo": {"from": "public.note", "key": {"id": "id"}}},
    "fields": MAPPING["fields"] | {"note": "memo.text"},
}


def captured_with_note() -> control.CapturedSchema:
    return control.CapturedSchema(
        source="erp", database="postgresql", tables=(*CAPTURED.tables, NOTE)
    )


def test_a_mapping_that_newly_reads_a_table_is_in_force_after_its_snapshot_and_published_again(
    reader: Reader,
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))])
    log.control(captured_with_note())
    snapshot(log, "note", {"id": 1, "text": "from the new table"})
    log.transaction(("u", "head", head(1, state=1)))
    log.control(declarations(WITH_NOTE, name="h2"))

    records = reader.records(reader.run(log))

    assert [(each["meta"]["operation"], each["note"]) for each in records] == [
        ("update", "n"),
        ("snapshot", "from the new table"),
    ]


def test_a_table_goes_after_the_mapping_that_read_it_as_apply_writes_both(reader: Reader) -> None:
    log = Log().start()
    log.control(captured_with_note())
    log.control(declarations(WITH_NOTE, name="h2"))
    snapshot(log, "note", {"id": 1, "text": "from the table that goes"})
    known(reader, log, [("c", "head", head(1))])
    log.control(declarations(MAPPING, name="h3"))
    log.control(CAPTURED)
    log.transaction(("u", "head", head(1, state=1)))

    records = reader.records(reader.run(log))

    assert [(each["meta"]["operation"], each["note"]) for each in records] == [
        ("update", "n"),
        ("snapshot", "n"),
    ]


def test_an_entity_waits_for_a_table_that_is_not_read_yet_also_an_empty_one(reader: Reader) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))])
    log.control(captured_with_note())
    log.control(declarations(WITH_NOTE, name="h2"))
    log.transaction(("u", "head", head(1, state=1)))
    log.control(control.Republish(source="erp", entity="order", fill="f", bindings=("b",)))
    assert reader.messages(reader.run(log)) == []
    snapshot(log, "note")

    messages = reader.messages(reader.run(log))

    assert [message["only_bindings"] for message in messages] == [["b"], []]
    assert {each["operation"] for message in messages for each in message["records"]} == {
        "snapshot"
    }


@pytest.mark.parametrize("tried", ["by hand", "with its table"])
def test_what_is_withheld_waits_for_a_table_that_is_not_read_yet_whoever_tries_it_again(
    reader: Reader, tried: str
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1)), ("c", "line", line(1, amount="NaN"))])
    log.control(captured_with_note())
    log.control(declarations(WITH_NOTE, name="h2"))
    log.transaction(("u", "line", line(1)))
    if tried == "by hand":
        log.control(control.Retry(source="erp", entity="order", ids=("erp:SO1",)))
    else:
        log.transaction(("u", "line", {"id": 1, "head_id": 1, "no": 1}))
        log.transaction(("u", "line", line(1, no=2)))
    assert published(reader, reader.run(log)) == []
    snapshot(log, "note", {"id": 1, "text": "read"})

    (record,) = reader.records(reader.run(log))

    assert (record["id"], record["note"]) == ("erp:SO1", "read")
    assert reader.lane.withheld == 0


def test_an_id_that_a_row_had_before_a_change_that_was_missed_is_deleted_when_it_is_read(
    reader: Reader,
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))], [("c", "head", head(2))])
    snapshot(log, "head", head(1, code="SO9"), head(2, returned=True))

    outputs = reader.run(log)

    assert published(reader, outputs) == [
        ("delete", "erp:SO1"),
        ("delete", "erp:SO2"),
        ("snapshot", "erp:SO9"),
    ]


def test_what_is_deleted_while_its_entity_waits_for_a_table_is_told_once_that_is_read(
    reader: Reader,
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))], [("c", "head", head(2))])
    log.control(captured_with_note())
    log.control(declarations(WITH_NOTE, name="h2"))
    log.transaction(("d", "head", None, {"id": 1}))
    assert reader.messages(reader.run(log)) == []
    snapshot(log, "note")

    outputs = reader.run(log)

    assert published(reader, outputs) == [("delete", "erp:SO1"), ("snapshot", "erp:SO2")]


def test_the_letter_of_an_id_that_is_deleted_while_its_entity_waits_is_closed_once_its_table_is_read(
    reader: Reader,
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1)), ("c", "line", line(1, amount="NaN"))])
    log.control(captured_with_note())
    log.control(declarations(WITH_NOTE, name="h2"))
    log.transaction(("d", "head", None, {"id": 1}))
    snapshot(log, "note")

    (letter,) = reader.letters(reader.run(log))

    assert (letter["entity_id"], letter["state"]) == ("erp:SO1", "superseded")
    assert reader.lane.withheld == 0


def test_a_value_that_changes_did_not_bring_comes_with_the_row_that_the_snapshot_reads(
    reader: Reader,
) -> None:
    log = Log().start()
    begin(log, "head")
    log.transaction(("u", "head", head(1, note=PLACEHOLDER)))
    log.transaction(("u", "head", head(1, state=1, note=PLACEHOLDER)))
    log.read("head", head(1, note="whole"), READER)
    finish(log, "head")

    reader.run(log)

    assert images(reader, "head") == [head(1, state=1, note="whole")]


def test_a_fill_that_waited_for_a_table_goes_on_when_the_mapping_reads_it_no_more(
    reader: Reader,
) -> None:
    log = Log().start()
    known(reader, log, [("c", "head", head(1))])
    log.control(captured_with_note())
    log.control(declarations(WITH_NOTE, name="h2"))
    log.control(control.Republish(source="erp", entity="order", fill="f", bindings=("b",)))
    assert reader.messages(reader.run(log)) == []
    log.control(declarations(MAPPING, name="h3"))

    messages = reader.messages(reader.run(log))

    assert ["b"] in [message["only_bindings"] for message in messages]


def test_a_new_mapping_of_a_table_that_is_captured_already_is_indexed_and_published(
    reader: Reader,
) -> None:
    log = Log().start()
    known(
        reader, log, [("c", "head", head(1, returned=True)), ("c", "line", line(1))],
        [("c", "head", head(2))],
    )  # fmt: skip
    log.control(declarations(MAPPING | {"where": {"returned": True}}, name="h2"))

    outputs = reader.run(log)

    assert published(reader, outputs) == [("delete", "erp:SO2"), ("snapshot", "erp:SO1")]
    assert reader.records(outputs)[1]["line_count"] == 1


# -- any interleaving of a snapshot with the stream

KEYS = st.integers(0, 4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("truncate"), st.just(0)),
        st.tuples(st.just("stream"), st.integers(1, 3)),
        st.tuples(st.just("emit"), st.integers(1, 3)),
        st.tuples(st.just("read"), st.just(0)),
    ),
    max_size=30,
)


class World:
    """A source table, what capture has to send of it, and the log that it sends to, in any order."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.rows: dict[int, Row] = {}
        self.stream: list[tuple[Any, ...]] = []
        self.unread: list[Row] = []
        self.count = 0

    def take(self, step: str, argument: int) -> None:
        if step == "put":
            self.count += 1
            row = head(argument, state=self.count % 2, note=f"v{self.count}")
            self.stream.append(("u" if argument in self.rows else "c", "head", row))
            self.rows[argument] = row
        elif step == "delete" and self.rows.pop(argument, None):
            self.stream.append(("d", "head", None, {"id": argument}))
        elif step == "truncate":
            self.rows.clear()
            self.stream.append(("t", "head", None))
        elif step == "read":  # the connector was killed, and reads all of it again
            self.log.notice("STARTED", READER)
            self.unread = list(self.rows.values())
        elif step == "stream":
            self.send(argument)
        elif step == "emit":
            self.emit(argument)

    def send(self, count: int) -> None:
        sent, self.stream = self.stream[:count], self.stream[count:]
        for change in sent:
            self.log.transaction(change)

    def emit(self, count: int) -> None:
        emitted, self.unread = self.unread[:count], self.unread[count:]
        for row in emitted:
            self.log.read("head", row, READER)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=STEPS, hidden=STEPS, during=STEPS, late=st.booleans())
def test_whatever_the_order_the_lane_ends_with_the_rows_of_the_source(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[Any],
    hidden: list[Any],
    during: list[Any],
    late: bool,
) -> None:
    reader = Reader(tmp_path_factory.mktemp("lane"))
    world = World(Log().start())
    for step in before:
        if step[0] != "read":
            world.take(*step)
    world.send(len(world.stream))
    for step in hidden:  # changes that capture never saw: a lost slot
        if step[0] in ("put", "delete", "truncate"):
            world.take(*step)
    world.stream = []
    begin(world.log, "head")
    world.unread = list(world.rows.values())
    for step in during:
        world.take(*step)
    if not late:
        world.send(len(world.stream))
    world.emit(len(world.unread))
    finish(world.log, "head")
    world.send(len(world.stream))

    outputs = reader.run(world.log)

    state = {row["id"]: row for row in images(reader, "head")}
    assert state == world.rows
    last = dict(reversed(each) for each in published(reader, outputs))
    shown = {id_ for id_, operation in last.items() if operation != "delete"}
    assert shown == {f"erp:SO{id_}" for id_ in world.rows}
    reader.state.close()

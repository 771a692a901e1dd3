"""What a lane makes of its log."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from lanes import CAPTURED, MAPPING, PLACEHOLDER, SCHEMAS, Log, Reader, declarations, head, line

from bench.lane_log import DECIMAL, ORDER
from schemas import control, lane_offset
from schemas.captured import Column
from streams import republishing, spool, state, withheld
from streams.errors import LaneStopped
from streams.stages import encode, size


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def order(log: Log) -> None:
    log.transaction(
        ("c", "head", head()), ("c", "line", line(1)), ("c", "line", line(2, no=2, amount="2.5000"))
    )


def test_an_order_with_lines_written_in_one_transaction_is_one_record_of_one_message(
    reader: Reader,
) -> None:
    log = Log().start()
    order(log)

    outputs = reader.run(log)

    (message,) = reader.messages(outputs)
    (record,) = reader.records(outputs)
    assert message["kind"] == "transaction"
    assert message["lane_offset"] == lane_offset.pack(1, len(log.records) - 1)
    assert [each["operation"] for each in message["records"]] == ["create"]
    assert record["id"] == "erp:SO1"
    assert record["line_count"] == 2
    assert record["gross"] == {"amount": Decimal("12.5"), "currency": "CNY"}
    assert record["meta"]["version"] == message["lane_offset"]


def test_a_change_of_a_line_changes_its_order_and_says_what_changed(reader: Reader) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    log.transaction(("u", "line", line(2, no=2, amount="3.0000")))

    (record,) = reader.records(reader.run(log))

    assert record["meta"]["operation"] == "update"
    assert sorted(record["meta"]["changed"]) == ["gross", "lines"]
    assert record["gross"]["amount"] == Decimal(13)


def test_scalar_fields_that_changed_carry_their_previous_value(reader: Reader) -> None:
    log = Log().start()
    order(log)
    log.transaction(("u", "head", head(state=1)))

    record = reader.records(reader.run(log))[-1]

    assert record["meta"]["changed"] == ["status"]
    assert record["meta"]["previous"] == {"status": "draft"}


def test_an_update_that_changes_nothing_makes_no_message_and_is_counted(reader: Reader) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    log.transaction(("u", "head", head()))

    assert reader.run(log) == []
    assert reader.lane.counters.unchanged == 1


def test_an_unchanged_large_value_is_completed_from_the_image(reader: Reader) -> None:
    log = Log().start()
    order(log)
    log.transaction(("u", "head", head(state=1, note=PLACEHOLDER)))

    assert reader.records(reader.run(log))[-1]["note"] == "n"


def test_a_deleted_order_is_a_delete_record_with_its_last_state_and_a_tombstone(
    reader: Reader,
) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    log.transaction(
        ("d", "line", None, line(1)), ("d", "line", None, line(2)), ("d", "head", None, {"id": 1})
    )

    outputs = reader.run(log)

    (message,) = reader.messages(outputs)
    (record,) = reader.records(outputs)
    assert message["records"][0]["operation"] == "delete"
    assert record["gross"]["amount"] == Decimal("12.5")
    assert [output.value is None for output in outputs if output.topic == "canonical.order.v1"] == [
        False,
        True,
    ]


def without(name: str, retyped: str = "") -> dict[str, Any]:
    """Give the schema of orders without a field, and with another one that is a decimal now."""
    fields = [
        each | {"type": DECIMAL} if each["name"] == retyped else each
        for each in ORDER["fields"]
        if each["name"] != name
    ]
    return ORDER | {"fields": fields}


def with_schema(schema: dict[str, Any], fields: dict[str, Any]) -> control.Declarations:
    """Give declarations that write orders by another schema; `fields` are mapped instead, None: no longer."""
    mapped = {name: each for name, each in (MAPPING["fields"] | fields).items() if each is not None}
    bundle = declarations(MAPPING | {"version": 2, "fields": mapped})
    _, *others = bundle.schemas
    orders = control.OutputSchema(topic="canonical.order.v1", id=1, schema=schema)
    return msgspec.structs.replace(bundle, schemas=(orders, *others))


def test_an_order_that_was_published_with_a_field_that_is_no_more_is_deleted_without_it(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    log.control(with_schema(without("note"), {"note": None}))
    log.transaction(("d", "head", None, {"id": 1}))
    outputs = reader.run(log)
    monkeypatch.setitem(SCHEMAS, 1, without("note"))

    (record,) = reader.records(outputs)

    assert (record["meta"]["operation"], record["code"]) == ("delete", "SO1")
    assert "note" not in record


def test_a_delete_whose_last_state_does_not_fit_the_schema_any_more_is_withheld_and_others_go_on(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    schema = without("note", retyped="code")
    log.control(with_schema(schema, {"note": None, "code": "state"}))
    log.transaction(("d", "head", None, {"id": 1}), ("c", "head", head(2)))
    outputs = reader.run(log)
    monkeypatch.setitem(SCHEMAS, 1, schema)

    (letter,) = reader.letters(outputs)

    assert (letter["entity_id"], letter["state"], letter["code"]) == ("erp:SO1", "open", "not-avro")
    assert [record["id"] for record in reader.records(outputs)] == ["erp:SO2"]


def test_a_line_that_moves_to_another_order_changes_both(reader: Reader) -> None:
    log = Log().start()
    order(log)
    log.transaction(("c", "head", head(2)), ("c", "line", line(3, 2)))
    reader.run(log)
    log.transaction(("u", "line", line(2, 2, no=2, amount="2.5000")))

    records = {record["id"]: record["line_count"] for record in reader.records(reader.run(log))}

    assert records == {"erp:SO1": 1, "erp:SO2": 2}


def test_lines_without_an_order_are_not_gathered_and_join_one_when_they_get_it(
    reader: Reader,
) -> None:
    log = Log().start()
    lines = [line(number) | {"head_id": None} for number in (1, 2, 3)]
    log.transaction(("c", "head", head()), *(("c", "line", each) for each in lines))
    reader.run(log)
    assert reader.state.scan(b"kid\0") == []
    log.transaction(("u", "line", line(2)), ("u", "line", line(3)))
    log.transaction(("u", "line", lines[2]))

    records = reader.records(reader.run(log))

    assert [each["line_count"] for each in records] == [2, 1]


def test_a_changed_natural_key_is_a_delete_and_a_record_that_names_the_previous_id(
    reader: Reader,
) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    log.transaction(("u", "head", head(code="SO9")))

    outputs = reader.run(log)

    operations = [
        (each["operation"], each["key"]) for each in reader.messages(outputs)[0]["records"]
    ]
    assert operations == [("delete", "erp:SO1"), ("update", "erp:SO9")]
    assert reader.records(outputs)[1]["meta"]["previous_id"] == "erp:SO1"


def ids_published_again(reader: Reader, log: Log) -> list[str]:
    log.control(control.Republish(source="erp", entity="order", fill="all"))
    return [each["id"] for each in reader.records(reader.run(log))]


def test_a_row_that_takes_over_the_id_of_one_deleted_after_it_keeps_it(reader: Reader) -> None:
    log = Log().start()
    log.transaction(("c", "head", head(1)))
    reader.run(log)
    log.transaction(("c", "head", head(2, code="SO1", state=1)), ("d", "head", None, {"id": 1}))

    (record,) = reader.records(reader.run(log))

    assert (record["id"], record["meta"]["operation"]) == ("erp:SO1", "update")
    assert ids_published_again(reader, log) == ["erp:SO1"]


@pytest.mark.parametrize(
    "changes",
    [
        [("d", "head", None, {"id": 1}), ("c", "head", head(5, code="SO1"))],
        [("c", "head", head(5, code="SO1")), ("d", "head", None, {"id": 1})],
        [("u", "head", head(1, code="SO2")), ("u", "head", head(2, code="SO1"))],
    ],
)
def test_an_id_that_another_row_takes_over_with_the_same_content_is_not_deleted(
    reader: Reader, changes: list[tuple[Any, ...]]
) -> None:
    log = Log().start()
    log.transaction(("c", "head", head(1)), ("c", "head", head(2)))
    reader.run(log)
    log.transaction(*changes)

    assert reader.run(log) == []
    assert ids_published_again(reader, log) == ["erp:SO1", "erp:SO2"]


def test_an_id_that_a_row_which_can_not_be_mapped_takes_over_is_withheld_and_not_deleted(
    reader: Reader,
) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    log.transaction(
        ("d", "head", None, {"id": 1}),
        ("c", "head", head(2, code="SO1")),
        ("c", "line", line(3, 2, amount="NaN")),
    )
    (message,) = reader.messages(reader.run(log))
    assert message["records"] == []
    assert [each["id"] for each in message["withheld"]] == ["erp:SO1"]
    log.transaction(("u", "line", line(3, 2, amount="7.0000")))

    (record,) = reader.records(reader.run(log))

    assert (record["meta"]["operation"], record["gross"]["amount"]) == ("update", 7)


def test_two_rows_that_swap_their_ids_in_one_transaction_both_stay(reader: Reader) -> None:
    log = Log().start()
    log.transaction(("c", "head", head(1)), ("c", "head", head(2, state=1)))
    reader.run(log)
    log.transaction(("u", "head", head(1, code="SO2")), ("u", "head", head(2, code="SO1", state=1)))

    last = {each["id"]: each for each in reader.records(reader.run(log))}

    assert {id_: each["status"] for id_, each in last.items()} == {
        "erp:SO2": "draft",
        "erp:SO1": "approved",
    }
    assert "delete" not in {each["meta"]["operation"] for each in last.values()}
    assert ids_published_again(reader, log) == ["erp:SO1", "erp:SO2"]


@pytest.mark.parametrize("first", [1, 2])
def test_a_record_names_the_id_it_had_only_where_that_is_gone_whichever_row_changed_first(
    reader: Reader, first: int
) -> None:
    """Targets let what refers to a former id follow; what refers to one that lives on is to stay, as at the source."""
    log = Log().start()
    log.transaction(*(("c", "head", head(number)) for number in (1, 2, 3, 4)))
    reader.run(log)
    swapped = [head(1, code="SO2", state=1), head(2, code="SO1", state=1)]
    handed_on = [head(3, code="SO4", state=1), head(4, code="SO9", state=1)]
    for pair in (swapped, handed_on):
        now, then = pair if first == 1 else pair[::-1]
        # The first change only says which row is touched first.
        log.transaction(
            ("u", "head", head(now["id"], code="SO0")), ("u", "head", then), ("u", "head", now)
        )

    records = reader.records(reader.run(log))

    assert {
        each["id"]: each["meta"]["previous_id"]
        for each in records
        if each["meta"]["operation"] != "delete"
    } == {"erp:SO2": None, "erp:SO1": None, "erp:SO4": "erp:SO3", "erp:SO9": None}


def test_a_primary_key_change_moves_the_row_with_its_unsent_values(reader: Reader) -> None:
    log = Log().start()
    log.transaction(("c", "head", head()))
    reader.run(log)
    log.begin(900)
    log.row("d", "head", None, {"id": 1}, 900, (("__debezium.newkey", orjson.dumps({"id": 7})),))
    log.row(
        "c",
        "head",
        head(7, code="SO1", note=PLACEHOLDER),
        None,
        900,
        (("__debezium.oldkey", orjson.dumps({"id": 1})),),
    )
    log.end(900)
    log.transaction(("u", "head", head(7, code="SO1", state=1, note=PLACEHOLDER)))

    records = reader.records(reader.run(log))

    assert [(record["id"], record["note"], record["status"]) for record in records] == [
        ("erp:SO1", "n", "approved")
    ]


def test_rows_outside_the_scope_of_a_mapping_are_no_records_and_leave_when_they_leave_it(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("c", "head", head(returned=True)))
    assert reader.run(log) == []
    log.transaction(("u", "head", head(returned=False)))
    log.transaction(("u", "head", head(returned=True)))

    messages = reader.messages(reader.run(log))

    assert [each["operation"] for message in messages for each in message["records"]] == [
        "create",
        "delete",
    ]


def test_a_repeat_after_a_killed_capture_is_dropped(reader: Reader) -> None:
    log = Log().start()
    order(log)
    repeated = log.records[3:]
    for record in repeated:
        log.add(record.value, record.key)

    outputs = reader.run(log)

    assert len(reader.messages(outputs)) == 1
    assert reader.lane.counters.repeats == 1


def test_a_transaction_cut_off_and_sent_again_is_whole_and_once(reader: Reader) -> None:
    log = Log().start()
    whole = Log()
    order(whole)
    for record in [*whole.records[:3], *whole.records]:
        log.add(record.value, record.key)

    (record,) = reader.records(reader.run(log))

    assert record["line_count"] == 2


def test_the_rows_of_an_open_transaction_wait_in_the_state_and_leave_it_at_the_end(
    reader: Reader,
) -> None:
    log = Log().start()
    log.begin(7)
    for number in range(1, 40):
        log.row("c", "head", head(number), xid=7)
    assert reader.messages(reader.run(log)) == []
    assert len(reader.state.scan(b"row\0")) == 39

    reader = reader.reopen()
    for number in range(40, 80):
        log.row("c", "head", head(number), xid=7)
    log.end(7)
    (message,) = reader.messages(reader.run(log))

    keys = [record["key"] for record in message["records"]]
    assert keys == [f"erp:SO{number}" for number in range(1, 80)]
    assert reader.state.scan(b"row\0") == []


def test_a_transaction_that_never_comes_again_is_a_named_loss(reader: Reader) -> None:
    log = Log().start()
    log.begin(50)
    log.row("c", "head", head(5), xid=50)
    order(log)

    outputs = reader.run(log)

    (letter,) = reader.letters(outputs)
    assert (letter["stage"], letter["code"]) == ("transaction", "lost")
    assert len(reader.records(outputs)) == 1


def test_a_lane_that_meets_another_incarnation_waits_and_goes_on_when_it_is_meant(
    reader: Reader,
) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    log.lsn = 10
    log.transaction(("u", "head", head(state=1)))
    log.control(control.Republish(source="erp", entity="order", fill="f"))
    log.transaction(("u", "head", head(state=0)))
    assert reader.run(log) == []
    reader = reader.reopen()
    assert "`tongbu incarnation erp" in (reader.lane.waiting.why or "")
    log.control(control.Incarnation(source="erp", reason="restored from a backup"))

    outputs = reader.run(log)

    assert [record["status"] for record in reader.records(outputs)] == [
        "approved",
        "approved",
        "draft",
    ]
    offsets = [lane_offset.unpack(each["lane_offset"])[1] for each in reader.messages(outputs)]
    assert offsets == [len(log.records) - each for each in (6, 5, 2)]
    assert reader.lane.waiting.why is None
    assert reader.state.scan(b"wai\0") == []


def test_a_lane_that_goes_on_after_a_long_wait_lets_others_have_turns(reader: Reader) -> None:
    log = Log().start()
    order(log)
    reader.run(log)
    log.lsn = 10
    log.transaction(("u", "head", head(state=1)))
    for _ in range(1200):
        log.add(None)
    reader.run(log)
    log.control(control.Incarnation(source="erp", reason="restored from a backup"))

    assert list(reader.lane.process(log.records[-1])).count(None) >= 1200


def test_a_lane_that_waits_again_keeps_the_rest_again(reader: Reader) -> None:
    log = Log().start()
    order(log)
    for number, lsn in enumerate((500, 10)):
        log.lsn = lsn
        log.transaction(("u", "head", head(note=f"note {number}")))
    log.control(control.Incarnation(source="erp", reason="first"))
    assert [each["note"] for each in reader.records(reader.run(log))] == ["n", "note 0"]
    assert "below the last one" in (reader.lane.waiting.why or "")
    log.control(control.Incarnation(source="erp", reason="second"))

    assert [each["note"] for each in reader.records(reader.run(log))] == ["note 1"]


def test_an_incarnation_that_stands_before_them_lets_log_places_start_anew(reader: Reader) -> None:
    log = Log().start()
    order(log)
    log.control(control.Incarnation(source="erp", reason="restored from a backup"))
    log.lsn = 10
    order(log)

    reader.run(log)

    assert reader.lane.counters.transactions == 2


def test_a_replaced_server_may_use_identities_again_also_after_a_restart_of_the_lane(
    reader: Reader,
) -> None:
    log = Log().start()
    begun = log.xid, log.lsn
    log.transaction(("c", "head", head()))
    log.control(control.Incarnation(source="erp", reason="restored from a backup"))
    reader.run(log)
    reader = reader.reopen()
    for status in (1, 0):  # the second one is a repeat of the new server
        log.xid, log.lsn = begun
        log.transaction(("u", "head", head(state=status)))

    outputs = reader.run(log)

    assert [record["status"] for record in reader.records(outputs)] == ["approved"]
    assert reader.lane.counters.repeats == 1


def test_a_record_that_cannot_be_mapped_is_a_dead_letter_and_its_neighbours_go_on(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("c", "head", head()), ("c", "line", line(1, amount="NaN")))
    log.transaction(("c", "head", head(2)), ("c", "line", line(2, 2)))

    outputs = reader.run(log)

    (letter,) = reader.letters(outputs)
    assert (letter["state"], letter["entity_id"], letter["code"]) == (
        "open",
        "erp:SO1",
        "conversion",
    )
    assert reader.messages(outputs)[0]["withheld"] == [
        {"entity": "order", "id": "erp:SO1", "reason": "conversion"}
    ]
    assert [record["id"] for record in reader.records(outputs)] == ["erp:SO2"]


def test_a_giant_of_which_nothing_can_be_mapped_has_a_letter_per_id_and_a_message_of_bounded_size(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 10)
    monkeypatch.setattr(withheld, "NAMED", 20)
    log = Log().start()
    bad = [("c", "line", line(number, number, amount="NaN")) for number in range(50)]
    log.transaction(*(("c", "head", head(number)) for number in range(50)), *bad)

    outputs = reader.run(log)

    letters = reader.letters(outputs)
    assert {each["entity_id"] for each in letters} == {f"erp:SO{number}" for number in range(50)}
    assert all(each["message"] and each["sealed"] for each in letters)
    (message,) = reader.messages(outputs)
    assert len(message["withheld"]) == 20
    assert reader.lane.withheld == 50


def test_a_later_good_state_of_a_withheld_id_is_published_and_closes_its_letter(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("c", "head", head()), ("c", "line", line(1, amount="NaN")))
    log.transaction(("u", "line", line(1)))

    outputs = reader.run(log)

    assert [letter["state"] for letter in reader.letters(outputs)] == ["open", "superseded"]
    assert len({letter["id"] for letter in reader.letters(outputs)}) == 1
    assert [record["id"] for record in reader.records(outputs)] == ["erp:SO1"]


def test_a_record_that_is_too_large_for_kafka_is_withheld_and_its_letter_is_not(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size, "RECORD_BYTES", 5_000)
    log = Log().start()
    log.transaction(("c", "head", head(1, note="n" * 5_000)), ("c", "head", head(2)))
    log.transaction(
        ("c", "head", head(3, note="n" * 5_000)), ("c", "line", line(3, 3, amount="NaN"))
    )

    outputs = reader.run(log)

    assert [record["id"] for record in reader.records(outputs)] == ["erp:SO2"]
    assert [
        (each["entity_id"], each["code"], each["sealed"]) for each in reader.letters(outputs)
    ] == [("erp:SO1", "too-large", None), ("erp:SO3", "conversion", None)]


def ordered_by(type_: str) -> tuple[dict[str, Any], control.CapturedSchema]:
    """Give a mapping that orders lines by the column `rank`, and the tables with that column."""
    lines = MAPPING["parts"]["lines"] | {"order_by": "rank"}
    heads, lines_table = CAPTURED.tables
    rank = Column(name="rank", type=type_)
    lines_table = msgspec.structs.replace(lines_table, columns=(*lines_table.columns, rank))
    captured = msgspec.structs.replace(CAPTURED, tables=(heads, lines_table))
    return MAPPING | {"parts": {"lines": lines}}, captured


def ranked(number: int, rank: Any) -> tuple[str, str, dict[str, Any]]:
    return "c", "line", line(number, no=number) | {"rank": rank}


def test_lines_stand_in_the_order_of_their_columns_type_those_without_a_value_last(
    reader: Reader,
) -> None:
    mapping, captured = ordered_by("numeric(10,2)")
    log = Log().start()
    log.control(captured)
    log.control(declarations(mapping))
    log.transaction(
        ("c", "head", head()), ranked(1, "10.00"), ranked(2, None), ranked(3, "9.00"),
        ranked(4, 9.5),  # of before the column became numeric
    )  # fmt: skip

    record, *_ = reader.records(reader.run(log))

    assert [each["line_no"] for each in record["lines"]] == [3, 4, 1, 2]


@pytest.mark.parametrize(
    ("bad", "code"), [(line(1), "incomplete"), (line(1) | {"rank": "x"}, "conversion")]
)
def test_an_order_whose_lines_can_not_be_ordered_is_withheld_and_others_go_on(
    reader: Reader, bad: dict[str, Any], code: str
) -> None:
    log = Log().start()
    log.transaction(("c", "head", head()), ("c", "line", bad))
    reader.run(log)
    mapping, captured = ordered_by("integer")
    log.control(captured)
    log.control(declarations(mapping))
    log.transaction(ranked(2, 2), ("c", "head", head(2)))

    outputs = reader.run(log)

    assert {(each["entity_id"], each["code"]) for each in reader.letters(outputs)} == {
        ("erp:SO1", code)
    }
    assert reader.lane.withheld == 1
    assert {record["id"] for record in reader.records(outputs)} == {"erp:SO2"}


def withheld_order(log: Log) -> None:
    log.transaction(("c", "head", head()), ("c", "line", line(1, amount="NaN")))
    log.transaction(("c", "head", head(2)), ("c", "line", line(21, head_id=2, amount="NaN")))


def without_amounts() -> dict[str, Any]:
    fields = {
        name: expression
        for name, expression in MAPPING["fields"].items()
        if name not in ("gross", "lines")
    }
    return MAPPING | {"version": 2, "fields": {**fields, "lines": {"each": "lines", "fields": {
        "line_no": "no", "gross": {"money": "no", "currency": {"const": "CNY"}}}}}}  # fmt: skip


def test_a_retry_after_a_fix_publishes_what_was_withheld_as_a_release_and_closes_its_letter(
    reader: Reader,
) -> None:
    log = Log().start()
    withheld_order(log)
    reader.run(log)
    log.control(declarations(without_amounts()))
    log.control(control.Retry(source="erp", entity="order", ids=("erp:SO1", "erp:never")))

    outputs = reader.run(log)

    (message,) = reader.messages(outputs)
    (record,) = reader.records(outputs)
    assert (message["kind"], record["id"]) == ("release", "erp:SO1")
    assert record["meta"]["operation"] == "create"
    assert record["meta"]["version"] == lane_offset.pack(1, len(log.records) - 1)
    (letter,) = reader.letters(outputs)
    assert (letter["state"], letter["entity_id"]) == ("superseded", "erp:SO1")


def test_a_fill_of_one_target_leaves_a_withheld_id_to_the_others(reader: Reader) -> None:
    log = Log().start()
    withheld_order(log)
    reader.run(log)
    log.control(declarations(without_amounts()))
    log.control(control.Republish(source="erp", entity="order", fill="f", bindings=("b",)))
    outputs = reader.run(log)
    assert (len(reader.records(outputs)), reader.letters(outputs)) == (2, [])
    log.control(control.Retry(source="erp", entity="order", ids=("erp:SO1",)))

    outputs = reader.run(log)

    (record,) = reader.records(outputs)
    assert (record["id"], record["meta"]["operation"]) == ("erp:SO1", "create")
    assert [letter["state"] for letter in reader.letters(outputs)] == ["superseded"]


def test_what_only_one_target_was_filled_with_is_no_previous_state_for_the_others(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("c", "head", head()))
    reader.run(log)
    log.control(declarations(MAPPING | {"fields": {**MAPPING["fields"], "note": {"const": "x"}}}))
    log.control(control.Republish(source="erp", entity="order", fill="f", bindings=("b",)))
    reader.run(log)
    log.transaction(("u", "head", head(state=1)))

    (record,) = reader.records(reader.run(log))

    assert record["meta"]["changed"] == ["note", "status"]
    assert record["meta"]["previous"] == {"note": "n", "status": "draft"}


def test_a_retry_without_a_fix_withholds_again_with_a_letter_that_follows_the_first(
    reader: Reader,
) -> None:
    log = Log().start()
    withheld_order(log)
    (first, _) = reader.letters(reader.run(log))
    log.control(control.Retry(source="erp", entity="order", ids=("erp:SO1",)))

    outputs = reader.run(log)

    assert reader.records(outputs) == []
    closed, opened = reader.letters(outputs)
    assert (closed["id"], closed["state"]) == (first["id"], "superseded")
    assert (opened["entity_id"], opened["state"]) == ("erp:SO1", "open")


def withheld_delete(reader: Reader, log: Log) -> None:
    """Delete an order whose last state the schema can't tell."""
    order(log)
    reader.run(log)
    schema = without("note", retyped="code")
    log.control(with_schema(schema, {"note": None, "code": "state"}))
    log.transaction(("d", "head", None, {"id": 1}))
    reader.run(log)


def test_a_retry_publishes_a_withheld_delete_which_the_schema_can_tell_again(
    reader: Reader,
) -> None:
    log = Log().start()
    withheld_delete(reader, log)
    log.control(declarations())
    log.control(control.Retry(source="erp", entity="order", ids=("erp:SO1",)))

    outputs = reader.run(log)

    (record,) = reader.records(outputs)
    assert (record["id"], record["meta"]["operation"]) == ("erp:SO1", "delete")
    (letter,) = reader.letters(outputs)
    assert (letter["state"], letter["entity_id"]) == ("superseded", "erp:SO1")
    assert reader.lane.withheld == 0


def test_a_retry_of_a_delete_without_a_fix_withholds_it_again(reader: Reader) -> None:
    log = Log().start()
    withheld_delete(reader, log)
    log.control(control.Retry(source="erp", entity="order", ids=("erp:SO1",)))

    outputs = reader.run(log)

    assert reader.records(outputs) == []
    assert [each["state"] for each in reader.letters(outputs)] == ["superseded", "open"]
    assert reader.lane.withheld == 1


def test_a_skipped_id_is_published_by_its_next_good_change_without_another_letter(
    reader: Reader,
) -> None:
    log = Log().start()
    withheld_order(log)
    reader.run(log)
    log.control(control.Skip(source="erp", entity="order", ids=("erp:SO1",)))
    (letter,) = reader.letters(reader.run(log))
    log.transaction(("u", "line", line(1)))

    outputs = reader.run(log)

    assert (letter["state"], letter["entity_id"]) == ("skipped", "erp:SO1")
    assert [record["id"] for record in reader.records(outputs)] == ["erp:SO1"]
    assert reader.letters(outputs) == []


def test_ids_that_are_named_are_published_again_alone(reader: Reader) -> None:
    log = Log().start()
    for number in range(1, 5):
        log.transaction(("c", "head", head(number)))
    reader.run(log)
    ids = ("erp:SO3", "erp:SO1", "erp:unknown")
    log.control(control.Republish(source="erp", entity="order", fill="f", ids=ids))

    outputs = reader.run(log)

    (message,) = reader.messages(outputs)
    assert [record["key"] for record in message["records"]] == ["erp:SO3", "erp:SO1"]
    assert message["fill"] is None


def test_an_id_that_is_asked_for_and_is_gone_gets_a_tombstone_and_no_message(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("c", "head", head(1)))
    log.transaction(("d", "head", None, head(1)))
    reader.run(log)
    log.control(control.Republish(source="erp", entity="order", fill="late", ids=("erp:SO1",)))

    (output,) = reader.run(log)

    assert (output.topic, output.key, output.value) == ("canonical.order.v1", b"erp:SO1", None)


@pytest.mark.parametrize("set_down", [False, True])
def test_what_a_frozen_worker_had_under_way_is_asked_for_again_with_what_it_deleted(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, set_down: bool
) -> None:
    log = Log().start()
    log.transaction(*(("c", "head", head(number)) for number in range(1, 4)))
    reader.run(log)
    if set_down:
        monkeypatch.setattr(state, "SET_DOWN_WRITES", 3)
    log.transaction(
        ("d", "head", None, head(1)), *(("c", "head", head(number)) for number in range(4, 9))
    )
    for record in log.records[reader.state.position or 0 :]:
        list(reader.lane.process(record))
    assert reader.state.set_down is set_down

    asked = [control.decode(output.value or b"") for output in reader.lane.late()]

    ids = {id_ for each in asked if isinstance(each, control.Republish) for id_ in each.ids}
    assert ids == {"erp:SO1", *(f"erp:SO{number}" for number in range(4, 9))}


def test_of_finished_fills_only_the_last_are_kept_in_the_state(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(republishing, "FINISHED_KEPT", 3)
    log = Log().start()
    log.transaction(("c", "head", head()))
    for number in range(8):
        log.control(control.Republish(source="erp", entity="order", fill=f"f{number}", limit=5))
    assert len(reader.messages(reader.run(log))) == 1 + 8

    fills = [key for key, _ in reader.state.iterate(b"fil\0")]
    assert fills == [b"fil\0f5", b"fil\0f6", b"fil\0f7"]
    log.control(control.Republish(source="erp", entity="order", fill="f7", limit=5))
    assert not reader.messages(reader.run(log)), "asked for twice"


def test_a_giant_is_cut_into_parts_that_are_the_same_as_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log().start()
    log.transaction(*(("c", "head", head(number)) for number in range(1, 300)))
    monkeypatch.setattr(encode, "PART_BYTES", 10_000)
    (tmp_path / "a").mkdir()
    in_memory = Reader(tmp_path / "a")
    expected = in_memory.run(log)
    monkeypatch.setattr(spool, "IN_MEMORY", 20)
    monkeypatch.setattr(state, "SET_DOWN_WRITES", 50)
    shutil.copytree(tmp_path / "a", tmp_path / "b", ignore=shutil.ignore_patterns("state"))

    outputs = Reader(tmp_path / "b").run(log)

    assert outputs == expected
    parts = in_memory.messages(outputs)
    assert [part["part"] for part in parts] == list(range(1, parts[0]["parts"] + 1))
    assert len(parts) > 3


def unmappable(count: int) -> list[tuple[Any, ...]]:
    """Give the rows of so many orders that are withheld."""
    heads = [("c", "head", head(number)) for number in range(100, 100 + count)]
    lines = [
        ("c", "line", line(number, number, amount="NaN")) for number in range(100, 100 + count)
    ]
    return [*heads, *lines]


def test_withheld_ids_are_named_in_a_part_of_their_own_where_the_last_one_has_no_room_for_them(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "PART_BYTES", 3_000)
    log = Log().start()
    log.transaction(("c", "head", head(1, note="n" * 2_500)), *unmappable(50))

    parts = reader.messages(reader.run(log))

    assert [(len(each["records"]), len(each["withheld"])) for each in parts] == [(1, 0), (0, 50)]
    assert [(each["part"], each["parts"]) for each in parts] == [(1, 2), (2, 2)]


def test_withheld_ids_are_named_as_far_as_they_fit_into_a_part(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "PART_BYTES", 500)
    log = Log().start()
    log.transaction(*unmappable(50))

    outputs = reader.run(log)

    (message,) = reader.messages(outputs)
    assert 0 < len(message["withheld"]) < 50
    assert len(reader.letters(outputs)) == 50


def test_bytes_that_are_no_json_are_a_dead_letter_with_the_original_sealed(reader: Reader) -> None:
    log = Log().start()
    log.add(b"{broken", b"k")
    order(log)

    outputs = reader.run(log)

    (letter,) = reader.letters(outputs)
    assert b"{broken" not in letter["sealed"]
    assert reader.seal.open("cdc.erp/0/3", letter["sealed"]) == b"k\0{broken"
    assert len(reader.records(outputs)) == 1


def test_rows_of_one_transaction_that_have_no_id_have_a_letter_each_with_the_row_sealed(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("d", "head", None, None), ("u", "line", None, line(7)))

    letters = reader.letters(reader.run(log))

    sealed = [orjson.loads(reader.seal.open(each["id"], each["sealed"])) for each in letters]
    assert sealed == [["public.head", "d", None, None], ["public.line", "u", line(7), None]]
    assert len({each["id"] for each in letters}) == 2


def test_transactions_that_are_lost_together_have_a_letter_each(reader: Reader) -> None:
    log = Log().start()
    for xid in (50, 51):
        log.begin(xid)
        log.row("c", "head", head(xid), xid=xid)
    order(log)

    letters = reader.letters(reader.run(log))

    assert len({each["id"] for each in letters}) == 2
    assert {each["message"].split()[1] for each in letters} == {"50", "51"}


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        ({"source": {"table": "t"}, "ddl": "…", "tableChanges": [{"type": "ALTER"}]}, ()),
        ({"op": "c", "source": {"table": "t"}, "after": {}}, (("__debezium.oldkey", b"1"),)),
        ({"op": "c", "source": {"table": "t", "change_lsn": "0:1"}, "after": {}}, ()),
    ],
)
def test_a_record_of_another_form_than_debeziums_is_a_dead_letter_and_others_go_on(
    reader: Reader, value: dict[str, Any], headers: tuple[tuple[str, bytes], ...]
) -> None:
    log = Log().start()
    log.add(value, b"{}", headers)
    order(log)

    outputs = reader.run(log)

    (letter,) = reader.letters(outputs)
    assert (letter["stage"], letter["code"]) == ("decode", "not-debezium")
    assert len(reader.records(outputs)) == 1


def test_ddl_of_a_whole_database_which_names_no_table_is_no_trouble(reader: Reader) -> None:
    log = Log().start()
    log.add(
        {
            "source": {"db": "", "table": None, "pos": 4, "row": 0},
            "databaseName": "",
            "ddl": "SET x=1",
        }
    )

    assert reader.run(log) == []


def test_a_row_whose_unsent_value_was_never_seen_withholds_its_order_until_it_comes_complete(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("u", "head", head(note=PLACEHOLDER)))
    outputs = reader.run(log)
    assert reader.letters(outputs)[0]["code"] == "no-image"
    log.transaction(("u", "head", head(note="whole")))

    assert [record["note"] for record in reader.records(reader.run(log))] == ["whole"]


def test_a_value_that_was_never_seen_is_not_null_after_a_second_change_without_it(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("u", "head", head(note=PLACEHOLDER)))
    log.transaction(("u", "head", head(state=1, note=PLACEHOLDER)))
    outputs = reader.run(log)
    assert reader.records(outputs) == []
    assert [each["code"] for each in reader.letters(outputs) if each["state"] == "open"] == [
        "no-image",
        "no-image",
    ]
    log.transaction(("u", "head", head(state=1, note="whole")))

    assert [record["note"] for record in reader.records(reader.run(log))] == ["whole"]


def test_the_number_of_a_gtid_is_no_place_in_the_log(reader: Reader) -> None:
    """After a failover MySQL's transactions have another server's uuid, and numbers that begin anew."""
    log = Log().start()
    for number, gtid in enumerate(
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:9000", "a1b2c3d4-71ca-11e1-9e33-c80aa9429562:5")
    ):
        log.add({"status": "BEGIN", "id": gtid})
        log.row("c", "head", head(number))
        row = orjson.loads(log.records[-1].value)
        row["transaction"] = {"id": gtid, "total_order": 1}
        log.records[-1] = msgspec.structs.replace(log.records[-1], value=orjson.dumps(row))
        log.add({"status": "END", "id": gtid, "event_count": 1})

    assert [each["id"] for each in reader.records(reader.run(log))] == ["erp:SO0", "erp:SO1"]
    assert reader.lane.waiting.why is None


def test_declarations_that_nothing_can_compile_stop_their_lane_alone(reader: Reader) -> None:
    log = Log().start()
    reader.run(log)
    fields = MAPPING["fields"]
    wrong = fields | {"lines": fields["lines"] | {"each": "linse"}}
    log.control(declarations(MAPPING | {"fields": wrong}))

    with pytest.raises(LaneStopped, match="can't be used"):
        reader.run(log)


def test_snapshot_rows_fill_images_and_are_published_in_chunks_when_the_snapshot_is_complete(
    reader: Reader,
) -> None:
    log = Log().start()
    for number in range(1, 1203):
        log.row("r", "head", head(number))
        log.row("r", "line", line(number, number))
    assert reader.run(log) == []
    log.snapshot_completed()

    messages = reader.messages(reader.run(log))

    assert [len(message["records"]) for message in messages] == [200] * 6 + [2]
    assert {message["kind"] for message in messages} == {"republish"}
    assert [message["fill"]["last"] for message in messages] == [False] * 6 + [True]
    assert messages[1]["fill"]["after"] == messages[0]["fill"]["to"]
    assert {each["operation"] for each in messages[0]["records"]} == {"snapshot"}


def test_a_lane_knows_when_its_snapshot_is_published(reader: Reader) -> None:
    log = Log().start()
    log.row("r", "head", head(1))
    reader.run(log)
    assert not reader.lane.published
    log.snapshot_completed()

    reader.run(log)

    assert reader.lane.published


def test_a_chunk_that_was_asked_for_twice_is_published_once(reader: Reader) -> None:
    log = Log().start()
    order(log)
    for _ in range(2):
        log.control(control.Republish(source="erp", entity="order", fill="f1"))

    messages = reader.messages(reader.run(log))

    assert [message["kind"] for message in messages] == ["transaction", "republish"]


def test_the_same_log_gives_the_same_bytes_also_when_it_is_read_with_restarts(
    tmp_path: Path,
) -> None:
    log = Log().start()
    log.row("r", "head", head(8))
    order(log)
    log.snapshot_completed()
    log.transaction(("u", "head", head(state=1)), ("u", "line", line(1, amount="NaN")))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = Reader(tmp_path / "a")
    expected = first.run(log)
    second = Reader(tmp_path / "b")
    second.seal = second.lane.seal = first.seal
    outputs = []
    for record in log.records:
        outputs += [each for each in second.lane.process(record) if each is not None]
        second.lane.end_batch()
        second.state.commit(record.offset + 1)
        second = second.reopen()
        second.seal = second.lane.seal = first.seal

    assert outputs == expected


def test_a_lane_log_made_anew_without_a_higher_epoch_stops_the_lane(reader: Reader) -> None:
    log = Log()
    log.control(control.Lane(source="erp", epoch=1, topic_id="another"))

    with pytest.raises(LaneStopped, match="another topic"):
        reader.run(log)


def test_a_log_that_does_not_begin_with_whose_it_is_stops_the_lane(reader: Reader) -> None:
    log = Log()
    log.control(CAPTURED)

    with pytest.raises(LaneStopped, match=r"offset 0: a `capturedschema` record, but no `lane`"):
        reader.run(log)

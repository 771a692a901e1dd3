"""A table that its mappings can't use is quarantined alone, and goes on from where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from lanes import CAPTURED, MAPPING, Log, Reader, declarations, head, line

from schemas import control, lane_offset
from schemas.captured import Column, Table
from streams import quarantine


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def captured(table: str, **types: str | None) -> control.CapturedSchema:
    """Give the captured schema with some columns of a table of another type, new, or (None) gone."""

    def changed(known: Table) -> Table:
        if known.name != table:
            return known
        columns = {each.name: each.type for each in known.columns} | types
        kept = (Column(name=name, type=kind) for name, kind in columns.items() if kind)
        return msgspec.structs.replace(known, columns=tuple(kept))

    return msgspec.structs.replace(CAPTURED, tables=tuple(map(changed, CAPTURED.tables)))


def keyed(table: str, *key: str) -> control.CapturedSchema:
    """Give the captured schema with another key of a table."""
    tables = (
        msgspec.structs.replace(each, key=key) if each.name == table else each
        for each in CAPTURED.tables
    )
    return msgspec.structs.replace(CAPTURED, tables=tuple(tables))


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


#: The mapping without the column `note`.
NO_NOTE = MAPPING | {"version": 2, "fields": without(MAPPING["fields"], "note")}


def two_orders(log: Log) -> None:
    for number in (1, 2):
        log.transaction(("c", "head", head(number)), ("c", "line", line(number, number)))


def test_a_row_without_a_mapped_column_quarantines_its_table_with_one_letter(
    reader: Reader,
) -> None:
    log = Log().start()
    two_orders(log)
    reader.run(log)
    for state in (1, 0):
        log.transaction(("u", "head", without(head(state=state), "note")))

    outputs = reader.run(log)

    (letter,) = reader.letters(outputs)
    assert (letter["stage"], letter["code"]) == ("quarantine", "lost-column")
    assert letter["message"] == "rows of `public.head` come without `note`"
    assert reader.messages(outputs) == []
    assert reader.lane.quarantine.tables["public.head"].kept == 2


def test_what_was_kept_goes_on_when_the_mapping_is_mended(reader: Reader) -> None:
    log = Log().start()
    two_orders(log)
    log.transaction(("u", "head", without(head(state=1), "note")))
    log.transaction(("d", "head", None, {"id": 2}))
    log.transaction(("c", "head", without(head(3), "note")))
    reader.run(log)
    reader = reader.reopen()
    log.control(captured("head", note=None))
    (letter,) = reader.letters(reader.run(log))
    assert (letter["state"], letter["code"]) == ("open", "misfit")
    log.control(declarations(NO_NOTE, name="h2"))

    outputs = reader.run(log)

    (message,) = reader.messages(outputs)
    found = [(each["key"], each["operation"]) for each in message["records"]]
    assert message["kind"] == "release"
    assert found == [("erp:SO1", "update"), ("erp:SO2", "delete"), ("erp:SO3", "create")]
    assert {each["version"] for each in message["records"]} == {
        lane_offset.pack(1, len(log.records) - 1)
    }
    assert [letter["state"] for letter in reader.letters(outputs)] == ["superseded"]
    assert reader.lane.quarantine.tables == {}
    assert reader.state.scan(b"row\0") == []


def test_a_row_that_has_the_column_again_lets_the_table_go_with_what_was_kept_first(
    reader: Reader,
) -> None:
    log = Log().start()
    two_orders(log)
    log.transaction(("d", "head", None, {"id": 2}), ("u", "head", without(head(state=1), "note")))
    log.transaction(("u", "head", without(head(state=1), "note")))
    reader.run(log)
    log.transaction(("u", "line", line(2, 2, amount="3.0000")))
    log.transaction(("c", "head", head(3)))

    outputs = reader.run(log)

    last = reader.messages(outputs)[-1]
    found = [(each["key"], each["operation"]) for each in last["records"]]
    assert (last["kind"], found) == ("transaction", [("erp:SO3", "create")])
    # The delete stood before the rows that lacked it; SO1's own row lacks the column still.
    assert [each["code"] for each in reader.letters(outputs)][-2:] == ["lost-column", "incomplete"]
    assert reader.lane.quarantine.tables == {}


def test_other_tables_never_notice_and_what_reads_the_table_is_withheld_with_one_letter_an_id(
    reader: Reader,
) -> None:
    log = Log().start()
    two_orders(log)
    reader.run(log)
    log.control(captured("line", amount="bytea"))
    reader.run(log)
    log.transaction(("u", "head", head(1, state=1)))
    log.transaction(("u", "head", head(1, state=0)), ("u", "line", line(1, 1, amount="7.0000")))

    outputs = reader.run(log)

    withheld = [{"entity": "order", "id": "erp:SO1", "reason": "quarantined"}]
    assert [message["withheld"] for message in reader.messages(outputs)] == [withheld, withheld]
    assert [letter["entity_id"] for letter in reader.letters(outputs)] == ["erp:SO1"]
    log.transaction(("u", "head", head(2, note="other")))
    log.control(CAPTURED)
    released = reader.run(log)
    records = {record["id"]: record for record in reader.records(released)}
    assert records["erp:SO1"]["gross"]["amount"] == 7
    assert records["erp:SO2"]["note"] == "other"
    assert reader.lane.withheld == 0


def test_an_order_that_is_deleted_while_its_lines_are_quarantined_is_deleted(
    reader: Reader,
) -> None:
    log = Log().start()
    two_orders(log)
    log.control(captured("line", amount=None))
    reader.run(log)
    log.transaction(("d", "head", None, {"id": 1}))

    (message,) = reader.messages(reader.run(log))

    assert [each["operation"] for each in message["records"]] == ["delete"]


def test_columns_that_are_added_or_not_mapped_or_wider_are_no_matter(reader: Reader) -> None:
    log = Log().start()
    two_orders(log)
    log.control(captured("line", amount="numeric(38,10)", remark="text"))
    log.control(captured("head", extra="hstore"))
    log.transaction(("u", "head", head(1, state=1) | {"extra": "x"}))

    outputs = reader.run(log)

    assert reader.letters(outputs) == []
    assert reader.records(outputs)[-1]["status"] == "approved"


def test_a_column_that_is_newer_than_a_row_withholds_it_until_it_comes_anew(
    reader: Reader,
) -> None:
    log = Log().start()
    two_orders(log)
    log.control(captured("head", remark="text"))
    renamed = MAPPING | {"version": 2, "fields": MAPPING["fields"] | {"note": "remark"}}
    log.control(declarations(renamed, name="h2"))
    log.transaction(("u", "line", line(1, 1, amount="9.0000")))
    (letter,) = reader.letters(reader.run(log))
    assert letter["code"] == "incomplete"
    assert "`remark`" in letter["message"]
    log.transaction(("u", "head", head(1) | {"remark": "new"}))

    (record,) = reader.records(reader.run(log))

    assert (record["note"], record["gross"]["amount"]) == ("new", 9)


@pytest.fixture
def three_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "FAILING_IDS", 3)
    monkeypatch.setattr(quarantine, "WITHIN_TRANSACTIONS", 10)


@pytest.mark.usefixtures("three_are_many")
def test_many_failing_ids_quarantine_the_table_at_fault(reader: Reader) -> None:
    log = Log().start()
    for number in range(1, 6):
        bad = line(number, number, amount="NaN")
        log.transaction(("c", "head", head(number)), ("c", "line", bad))

    outputs = reader.run(log)

    codes = [letter["code"] for letter in reader.letters(outputs)]
    assert codes == ["conversion"] * 3 + ["many-failing"] + ["quarantined"] * 2
    assert list(reader.lane.quarantine.tables) == ["public.line"]
    log.transaction(*(("u", "line", line(number, number)) for number in range(1, 6)))
    log.control(control.Resume(source="erp", table="public.line"))
    released = reader.run(log)
    assert len(reader.records(released)) == 5
    assert reader.lane.withheld == 0


@pytest.mark.usefixtures("three_are_many")
def test_failing_ids_that_are_few_or_far_apart_quarantine_nothing(reader: Reader) -> None:
    log = Log().start()
    for number in range(1, 40):
        amount = "NaN" if number % 8 == 0 else "1.0000"
        log.transaction(
            ("c", "head", head(number)), ("c", "line", line(number, number, amount=amount))
        )
    for _ in range(4):
        log.transaction(("u", "line", line(8, 8, no=9, amount="NaN")))
        log.transaction(("u", "line", line(8, 8, no=8, amount="NaN")))

    reader.run(log)

    assert reader.lane.quarantine.tables == {}


def test_a_table_that_no_mapping_fits_is_not_resumed_by_hand(reader: Reader) -> None:
    log = Log().start()
    log.control(captured("line", amount=None))
    log.control(control.Resume(source="erp", table="public.line"))

    reader.run(log)

    assert list(reader.lane.quarantine.tables) == ["public.line"]


def test_the_same_log_gives_the_same_bytes_when_it_is_read_with_restarts(tmp_path: Path) -> None:
    log = Log().start()
    two_orders(log)
    log.transaction(("u", "head", without(head(state=1), "note")))
    log.transaction(("u", "line", line(1, 1, amount="4.0000")))
    log.control(captured("head", note=None))
    log.transaction(("c", "head", without(head(3), "note")))
    log.control(declarations(NO_NOTE, name="h2"))
    log.transaction(("u", "head", without(head(3, state=1), "note")))
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = Reader(tmp_path / "a"), Reader(tmp_path / "b")
    expected = first.run(log)
    outputs = []
    for record in log.records:
        second.seal = second.lane.seal = first.seal
        outputs += [each for each in second.lane.process(record) if each is not None]
        second.lane.end_batch()
        second.state.commit(record.offset + 1)
        second = second.reopen()

    assert outputs == expected
    assert first.lane.quarantine.tables == {}


def test_a_table_with_another_key_keeps_its_rows(reader: Reader) -> None:
    log = Log().start()
    two_orders(log)
    reader.run(log)
    tables = tuple(
        msgspec.structs.replace(each, key=("id", "no")) if each.name == "line" else each
        for each in CAPTURED.tables
    )
    log.control(msgspec.structs.replace(CAPTURED, tables=tables))
    log.transaction(("u", "line", line(1, 1, amount="7.0000")))
    log.transaction(("d", "line", None, {"id": 2, "no": 1}))

    outputs = reader.run(log)

    assert [
        (record["id"], record["line_count"], record["gross"] and record["gross"]["amount"])
        for record in reader.records(outputs)
    ] == [("erp:SO1", 1, 7), ("erp:SO2", 0, None)]


def test_a_table_whose_rows_have_by_its_other_key_the_places_of_one_another_keeps_all_of_them(
    reader: Reader,
) -> None:
    log = Log().start()
    lines = [("c", "line", line(number, no=number + 1)) for number in (1, 2, 3)]
    log.transaction(("c", "head", head(1)), *lines)
    log.control(keyed("line", "no"))
    log.transaction(("u", "head", head(1, state=1)))

    assert [each["line_count"] for each in reader.records(reader.run(log))] == [3, 3]


def test_ids_lead_to_their_rows_after_a_table_has_another_key_of_the_same_values(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(*(("c", "head", head(number, state=number + 1)) for number in (1, 2, 3)))
    log.control(keyed("head", "state"))
    reader.run(log)
    log.control(keyed("head", "id"))
    log.transaction(("d", "head", None, {"id": 2}))
    (deleted,) = reader.records(reader.run(log))
    assert (deleted["id"], deleted["meta"]["operation"]) == ("erp:SO2", "delete")
    log.control(control.Republish(source="erp", entity="order", fill="all"))

    assert [each["id"] for each in reader.records(reader.run(log))] == ["erp:SO1", "erp:SO3"]


def test_a_table_with_another_key_keeps_its_rows_that_were_never_seen_with_all_of_it(
    reader: Reader,
) -> None:
    log = Log().start()
    for number in (1, 2):
        new = line(number, number, amount=f"{number}.0000")
        log.transaction(("c", "head", head(number)), ("c", "line", new))
    reader.run(log)
    serial = Column(name="serial", type="bigint")
    tables = tuple(
        msgspec.structs.replace(each, key=("serial",), columns=(*each.columns, serial))
        if each.name == "line"
        else each
        for each in CAPTURED.tables
    )
    log.control(msgspec.structs.replace(CAPTURED, tables=tables))
    other = line(3, 2, amount="4.0000") | {"serial": 1}
    log.transaction(("u", "head", head(1, state=1)), ("c", "line", other))

    records = reader.records(reader.run(log))

    assert [each["gross"]["amount"] for each in records] == [1, 6]


def test_rows_of_a_table_without_a_key_are_found_again_after_it_has_a_new_column(
    reader: Reader,
) -> None:
    log = Log().start()
    two_orders(log)
    head_table, lines = CAPTURED.tables
    told = msgspec.structs.replace(lines, keyless=True, key=tuple(c.name for c in lines.columns))
    log.control(msgspec.structs.replace(CAPTURED, tables=(head_table, told)))
    colour = Column(name="colour", type="text")
    grown = msgspec.structs.replace(
        told, key=(*told.key, "colour"), columns=(*told.columns, colour)
    )
    log.control(msgspec.structs.replace(CAPTURED, tables=(head_table, grown)))
    reader.run(log)
    log.transaction(("d", "line", None, line(1, 1) | {"colour": None}))

    (record,) = reader.records(reader.run(log))

    assert (record["id"], record["line_count"]) == ("erp:SO1", 0)


@pytest.mark.parametrize("what", ["emptied", "given another key"])
def test_a_table_of_many_rows_that_is_emptied_or_given_another_key_lets_others_have_turns(
    reader: Reader, what: str
) -> None:
    log = Log().start()
    log.transaction(*(("c", "head", head(number)) for number in range(1000)))
    reader.run(log)
    start = len(log.records)
    if what == "emptied":
        log.transaction(("t", "head", None))
    else:
        moved, *others = CAPTURED.tables
        moved = msgspec.structs.replace(moved, key=("id", "state"))
        log.control(msgspec.structs.replace(CAPTURED, tables=(moved, *others)))
    places = {key for key, _ in reader.state.iterate(b"img\0")}

    stretches = []
    for record in log.records[start:]:
        for output in reader.lane.process(record):
            if output is None:
                left = places & {key for key, _ in reader.state.iterate(b"img\0")}
                stretches.append(len(places - left))
                places = left

    assert not places
    assert max(stretches) <= 50


def test_a_table_that_loses_its_key_is_quarantined_until_it_has_one(reader: Reader) -> None:
    log = Log().start()
    two_orders(log)
    reader.run(log)
    for key in ((), ("no", "id")):
        tables = tuple(
            msgspec.structs.replace(each, key=key) if each.name == "line" else each
            for each in CAPTURED.tables
        )
        log.control(msgspec.structs.replace(CAPTURED, tables=tables))
        log.transaction(("u", "line", line(1, 1, amount=f"{len(key)}.0000")))
    outputs = reader.run(log)

    amounts = [record["gross"]["amount"] for record in reader.records(outputs)]
    assert amounts == [0, 2]
    assert reader.lane.quarantine.tables == {}

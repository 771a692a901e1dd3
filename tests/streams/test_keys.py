"""Primary keys that change, also onto one that another row had in the same transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import MAPPING, PLACEHOLDER, Log, Reader, head, line

from schemas import control

#: The mapping whose ids are the primary key itself.
BY_KEY = MAPPING | {"id": "id"}


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def move(log: Log, before: int, after: dict[str, Any]) -> None:
    """Write both halves of a changed primary key into the transaction at hand."""
    old, new = {"id": before}, {"id": after["id"]}
    log.row("d", "head", None, old, log.xid, (("__debezium.newkey", orjson.dumps(new)),))
    log.row("c", "head", after, None, log.xid, (("__debezium.oldkey", orjson.dumps(old)),))


def two_orders(mapping: dict[str, Any]) -> Log:
    log = Log().start(mapping)
    log.transaction(("c", "head", head(1)), ("c", "head", head(2)))
    return log


def told(reader: Reader, log: Log) -> dict[str, tuple[str, str | None]]:
    """Give id -> operation and previous id."""
    return {
        each["id"]: (each["meta"]["operation"], each["meta"]["previous_id"])
        for each in reader.records(reader.run(log))
    }


def images(reader: Reader) -> list[tuple[int, str]]:
    """Give key and code of the rows that are kept."""
    return [(row["id"], row["code"]) for _, row in reader.state.scan(b"img\0public.head\0")]


def moved(log: Log, *keys: tuple[int, int]) -> None:
    """Give rows other keys, all in one transaction."""
    log.xid += 1
    log.begin(log.xid)
    for before, now in keys:
        move(log, before, head(now, code=f"SO{before}", state=1))
    log.end(log.xid)


def take_over(log: Log, after: dict[str, Any], *, new: dict[str, Any] | None = None) -> None:
    """Delete row 2, give its key to row 1, and maybe the key of that one to a new row."""
    log.xid += 1
    log.begin(log.xid)
    log.row("d", "head", None, {"id": 2}, log.xid)
    move(log, 1, after)
    if new is not None:
        log.row("c", "head", new, None, log.xid)
    log.end(log.xid)


def test_a_row_that_takes_over_the_key_of_a_deleted_one_leaves_its_own_id(reader: Reader) -> None:
    log = two_orders(BY_KEY)
    reader.run(log)
    take_over(log, head(2, code="SO1"))

    assert told(reader, log) == {"erp:2": ("update", "erp:1"), "erp:1": ("delete", None)}
    log.control(control.Republish(source="erp", entity="order", fill="all"))
    assert set(told(reader, log)) == {"erp:2"}


def test_an_id_is_not_said_to_be_another_rows_former_one_where_only_the_key_was_taken_over(
    reader: Reader,
) -> None:
    log = two_orders(MAPPING)
    reader.run(log)
    take_over(log, head(2, code="SO1", state=1))

    assert told(reader, log) == {"erp:SO1": ("update", None), "erp:SO2": ("delete", None)}


def test_keys_that_are_handed_on_twice_in_a_transaction_leave_no_id_behind(reader: Reader) -> None:
    log = two_orders(BY_KEY)
    reader.run(log)
    take_over(log, head(2, code="SO1"), new=head(1, code="SO9"))

    records = {each["id"]: each["code"] for each in reader.records(reader.run(log))}

    assert records == {"erp:2": "SO1", "erp:1": "SO9"}


def test_a_row_that_can_not_be_completed_when_its_key_changes_leaves_its_former_key(
    reader: Reader,
) -> None:
    log = Log().start(BY_KEY)
    log.transaction(("c", "head", head(1)))
    # Whatever made it so: the image lacks a large value, which an update leaves as it is.
    log.transaction(("d", "head", None, {"id": 1}), ("u", "head", head(1, note=PLACEHOLDER)))
    reader.run(log)
    log.xid += 1
    log.begin(log.xid)
    move(log, 1, head(2, code="SO1", note=PLACEHOLDER))
    log.end(log.xid)
    assert told(reader, log) == {"erp:1": ("delete", None)}
    assert reader.lane.withheld == 1
    log.transaction(("u", "head", head(2, note="whole")))

    (record,) = reader.records(reader.run(log))

    assert (record["id"], record["note"]) == ("erp:2", "whole")
    assert reader.lane.withheld == 0


@pytest.mark.parametrize("mapping", [MAPPING, BY_KEY])
@pytest.mark.parametrize(
    "keys",
    [
        [(1, 2), (2, 1)],
        [(1, 2), (2, 3), (3, 4)],
        [(3, 4), (2, 3), (1, 2)],
        [(1, 3), (2, 1), (3, 2)],
        [(1, 2), (2, 3), (3, 1)],
    ],
)
def test_rows_that_take_one_anothers_keys_in_one_transaction_all_stay(
    reader: Reader, mapping: dict[str, Any], keys: list[tuple[int, int]]
) -> None:
    log = Log().start(mapping)
    rows = [("c", "head", head(number)) for number in (1, 2, 3)]
    lines = [("c", "line", line(number, number, number)) for number in (1, 2, 3)]
    log.transaction(*rows, *lines)
    reader.run(log)
    moved(log, *keys)
    now = {1: 1, 2: 2, 3: 3} | dict(keys)
    last = {each["id"]: each for each in reader.records(reader.run(log))}

    assert images(reader) == sorted((key, f"SO{row}") for row, key in now.items())
    ids = {f"erp:{key}" if mapping is BY_KEY else f"erp:SO{row}" for row, key in now.items()}
    gone = {f"erp:{key}" for key in (1, 2, 3)} - ids if mapping is BY_KEY else set()
    assert {id_ for id_, each in last.items() if each["meta"]["operation"] == "delete"} == gone
    log.control(control.Republish(source="erp", entity="order", fill="all"))
    assert set(told(reader, log)) == ids


def test_a_row_whose_key_another_one_takes_for_good_is_deleted(reader: Reader) -> None:
    log = two_orders(MAPPING)
    reader.run(log)
    moved(log, (1, 2))  # that row 2 was deleted was missed

    assert told(reader, log) == {"erp:SO1": ("update", None), "erp:SO2": ("delete", None)}
    moved(log, (2, 5))
    reader.run(log)
    assert images(reader) == [(5, "SO2")]


COMPOSED = MAPPING | {"id": ["code", "note"]}


def ids_of(reader: Reader, *keys: tuple[str, str]) -> list[str]:
    """Give the ids of rows whose code and note are their natural key."""
    log = Log().start(COMPOSED)
    rows = [head(number, code=code, note=note) for number, (code, note) in enumerate(keys, 1)]
    log.transaction(*(("c", "head", row) for row in rows))
    return [each["id"] for each in reader.records(reader.run(log))]


@settings(max_examples=100, deadline=None)
@given(spelled=st.lists(st.text("a|\\", min_size=3, max_size=6), min_size=1, max_size=3))
def test_different_keys_of_several_columns_are_different_ids_whatever_their_codes_hold(
    tmp_path_factory: pytest.TempPathFactory, spelled: list[str]
) -> None:
    """Keys that are the same when they are joined: a text is cut at each of its separators."""
    cuts = [(each, place) for each in spelled for place in range(1, len(each))]
    keys = {(each[:place], each[place + 1 :]) for each, place in cuts if each[place] == "|"}

    ids = ids_of(Reader(tmp_path_factory.mktemp("lane")), *sorted(keys))

    assert len(set(ids)) == len(keys)


def test_codes_without_the_separator_stand_in_an_id_as_they_are(reader: Reader) -> None:
    keys = [("a", "b"), ("a\\", "b"), ("a", ""), ("a|b", "c"), ("a", "b|c")]

    assert ids_of(reader, *keys) == [
        "erp:a|b",
        "erp:a\\|b",
        "erp:a|",
        "erp:a\\|b|c",
        "erp:a|b\\|c",
    ]


def test_a_key_of_one_column_stands_in_an_id_as_it_is(reader: Reader) -> None:
    log = Log().start()
    log.transaction(("c", "head", head(1, code="a|b\\")))

    assert [each["id"] for each in reader.records(reader.run(log))] == ["erp:a|b\\"]


def test_a_reference_spells_the_id_as_the_entity_that_it_refers_to_does(reader: Reader) -> None:
    fields = MAPPING["fields"] | {"status": {"const": "draft"}}
    fields["note"] = {"reference": "order", "to": ["code", "note"]}
    log = Log().start(COMPOSED | {"fields": fields})
    keys = [("a|b", "c"), ("a", "b|c"), ("a\\", "c")]
    rows = [head(number, code=code, note=note) for number, (code, note) in enumerate(keys, 1)]
    log.transaction(*(("c", "head", row) for row in rows))

    records = reader.records(reader.run(log))

    assert len(records) == 3
    assert all(each["id"] == each["note"] for each in records)

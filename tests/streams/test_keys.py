"""Primary keys that change, also onto one that another row had in the same transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
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

"""Root rows that have no id: another one has their natural key, or they have none. Each has a letter, and waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lanes import CAPTURED, MAPPING, SCHEMAS, Log, Reader, declarations, head, line

from bench.lane_log import ORDER
from schemas import control
from streams.records import Output


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def told(reader: Reader, outputs: list[Output]) -> list[tuple[str, str, str]]:
    """Give operation, id and status of each record."""
    return [
        (each["meta"]["operation"], each["id"], each["status"]) for each in reader.records(outputs)
    ]


def letters(reader: Reader, outputs: list[Output]) -> list[tuple[str, str | None, str]]:
    return [(each["state"], each["entity_id"], each["code"]) for each in reader.letters(outputs)]


def contended(reader: Reader) -> Log:
    """Two rows with one code: row 1, approved, has the id, row 2 came later."""
    log = Log().start()
    log.transaction(("c", "head", head(1, state=1)))
    reader.run(log)
    log.transaction(("c", "head", head(2, code="SO1")))
    return log


PARTS_FIELDS = {"gross", "line_count", "lines"}
OPEN = ("open", "erp:SO1", "duplicate-id")
CLOSED = ("superseded", "erp:SO1", "duplicate-id")


def test_a_row_that_gets_the_id_of_a_living_one_publishes_nothing_and_has_a_letter(
    reader: Reader,
) -> None:
    outputs = reader.run(contended(reader))

    assert told(reader, outputs) == []
    assert letters(reader, outputs) == [OPEN]
    (letter,) = reader.letters(outputs)
    assert "another row of `public.head` has the same `code`" in letter["message"]
    sealed = reader.seal.open(letter["id"], letter["sealed"])
    assert orjson.loads(sealed) == head(2, code="SO1")


def test_of_two_new_rows_with_one_key_the_first_has_the_id(reader: Reader) -> None:
    log = Log().start()
    log.transaction(("c", "head", head(1, state=1)), ("c", "head", head(2, code="SO1")))

    outputs = reader.run(log)

    assert told(reader, outputs) == [("create", "erp:SO1", "approved")]
    assert letters(reader, outputs) == [OPEN]


def test_the_row_that_has_the_id_goes_on_and_changes_of_the_other_publish_nothing(
    reader: Reader,
) -> None:
    log = contended(reader)
    reader.run(log)
    log.transaction(("u", "head", head(2, code="SO1", note="x")))
    log.transaction(("c", "line", line(1, 2)))
    assert told(reader, reader.run(log)) == []
    log.transaction(("u", "head", head(1, state=0)))

    outputs = reader.run(log)

    assert told(reader, outputs) == [("update", "erp:SO1", "draft")]
    assert letters(reader, outputs) == []


@pytest.mark.parametrize(
    "gone",
    [("d", "head", None, {"id": 1}), ("u", "head", head(1, returned=True))],
)
def test_when_the_row_that_has_the_id_goes_the_other_takes_it_over_as_an_update(
    reader: Reader, gone: tuple[Any, ...]
) -> None:
    log = contended(reader)
    reader.run(log)
    log.transaction(gone)

    outputs = reader.run(log)

    assert told(reader, outputs) == [("update", "erp:SO1", "draft")]
    assert letters(reader, outputs) == [CLOSED]
    log.transaction(("u", "head", head(2, code="SO1", state=1)))
    assert told(reader, reader.run(log)) == [("update", "erp:SO1", "approved")]


def test_when_the_row_that_has_the_id_gets_another_key_both_are_published(reader: Reader) -> None:
    log = contended(reader)
    reader.run(log)
    log.transaction(("u", "head", head(1, code="SO9", state=1)))

    outputs = reader.run(log)

    assert told(reader, outputs) == [
        ("update", "erp:SO1", "draft"),
        ("update", "erp:SO9", "approved"),
    ]
    assert letters(reader, outputs) == [CLOSED]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "own", [("u", "head", head(2, code="SO1", note="x")), ("c", "line", line(1, 2))]
)
def test_a_row_that_takes_over_and_changes_in_one_transaction_is_published_once(
    reader: Reader, first: bool, own: tuple[Any, ...]
) -> None:
    log = contended(reader)
    reader.run(log)
    gone = ("d", "head", None, {"id": 1})
    log.transaction(*((own, gone) if first else (gone, own)))

    outputs = reader.run(log)

    assert told(reader, outputs) == [("update", "erp:SO1", "draft")]
    assert letters(reader, outputs) == [CLOSED]


@pytest.mark.parametrize(
    ("gone", "records"),
    [
        (("d", "head", None, {"id": 2}), []),
        (("u", "head", head(2)), [("create", "erp:SO2", "draft")]),
    ],
)
def test_the_letter_is_closed_when_the_row_that_waits_goes_or_gets_another_key(
    reader: Reader, gone: tuple[Any, ...], records: list[Any]
) -> None:
    log = contended(reader)
    reader.run(log)
    log.transaction(gone)

    outputs = reader.run(log)

    assert told(reader, outputs) == records
    assert letters(reader, outputs) == [CLOSED]
    log.transaction(("d", "head", None, {"id": 1}))
    assert told(reader, reader.run(log)) == [("delete", "erp:SO1", "approved")]


def test_when_both_go_in_one_transaction_the_id_is_deleted_once(reader: Reader) -> None:
    log = contended(reader)
    reader.run(log)
    log.transaction(("d", "head", None, {"id": 1}), ("u", "head", head(2)))

    outputs = reader.run(log)

    assert told(reader, outputs) == [
        ("delete", "erp:SO1", "approved"),
        ("create", "erp:SO2", "draft"),
    ]
    assert reader.records(outputs)[1]["meta"]["previous_id"] is None


def test_the_letter_stays_open_while_the_row_that_has_the_id_is_withheld_and_released(
    reader: Reader,
) -> None:
    log = contended(reader)
    reader.run(log)
    log.transaction(("c", "line", line(1, amount="NaN")))
    log.transaction(("u", "line", line(1)))

    outputs = reader.run(log)

    assert {each[2] for each in letters(reader, outputs)} == {"conversion"}
    log.control(control.Retry(source="erp", entity="order", ids=("erp:SO1",)))
    log.control(control.Skip(source="erp", entity="order", ids=("erp:SO1",)))
    assert letters(reader, reader.run(log)) == []


def test_a_row_that_takes_over_and_can_not_be_mapped_withholds_the_id(reader: Reader) -> None:
    log = contended(reader)
    log.transaction(("c", "line", line(1, 2, amount="NaN")))
    reader.run(log)
    log.transaction(("d", "head", None, {"id": 1}))

    outputs = reader.run(log)

    assert told(reader, outputs) == []
    assert letters(reader, outputs) == [CLOSED, ("open", "erp:SO1", "conversion")]


def test_another_primary_key_of_a_row_that_waits_leaves_it_waiting(reader: Reader) -> None:
    log = contended(reader)
    reader.run(log)
    log.xid += 1
    log.begin(log.xid)
    old, new = {"id": 2}, {"id": 7}
    log.row("d", "head", None, old, log.xid, (("__debezium.newkey", orjson.dumps(new)),))
    log.row(
        "c", "head", head(7, code="SO1"), None, log.xid,
        (("__debezium.oldkey", orjson.dumps(old)),),
    )  # fmt: skip
    log.end(log.xid)

    outputs = reader.run(log)

    assert told(reader, outputs) == []
    assert letters(reader, outputs) == [CLOSED, OPEN]
    log.transaction(("d", "head", None, {"id": 1}))
    assert told(reader, reader.run(log)) == [("update", "erp:SO1", "draft")]


def test_rows_of_a_snapshot_with_one_key_have_a_letter_and_the_id_is_published_once(
    reader: Reader,
) -> None:
    log = Log().start()
    log.notice("STARTED", "erp")
    log.read("head", head(1, state=1), "erp")
    log.read("head", head(2, code="SO1"), "erp")
    log.notice("TABLE_SCAN_COMPLETED", "erp", "head")
    log.notice("TABLE_SCAN_COMPLETED", "erp", "line")
    log.notice("COMPLETED", "erp")

    outputs = reader.run(log)

    assert told(reader, outputs) == [("snapshot", "erp:SO1", "approved")]
    assert letters(reader, outputs) == [OPEN]


def test_a_row_that_a_snapshot_did_not_find_leaves_its_id_to_the_one_that_waits(
    reader: Reader,
) -> None:
    log = contended(reader)
    log.control(control.Snapshot(source="erp", snapshot="r", tables=("public.head",)))
    log.notice("STARTED", "r")
    log.read("head", head(2, code="SO1"), "r")
    log.notice("TABLE_SCAN_COMPLETED", "r", "head")
    log.notice("COMPLETED", "r")

    outputs = reader.run(log)

    assert [each for each in told(reader, outputs) if each[0] != "snapshot"] == [
        ("update", "erp:SO1", "draft")
    ]
    assert told(reader, outputs)[-1] == ("snapshot", "erp:SO1", "draft")
    assert letters(reader, outputs)[-1] == CLOSED


def test_a_mapping_with_another_id_ends_the_contention(reader: Reader) -> None:
    log = contended(reader)
    reader.run(log)
    log.control(declarations(MAPPING | {"id": "id", "version": 2}, name="h2"))

    outputs = reader.run(log)

    assert letters(reader, outputs) == [CLOSED]
    assert {each[:2] for each in told(reader, outputs)} == {
        ("delete", "erp:SO1"),
        ("snapshot", "erp:1"),
        ("snapshot", "erp:2"),
    }


def test_a_row_that_has_the_id_since_the_table_got_another_key_is_published(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which row had it, the former keys told; the first one by the new keys has it now."""
    kept = [each for each in ORDER["fields"] if each["name"] not in PARTS_FIELDS]
    schema = ORDER | {"fields": kept}
    monkeypatch.setitem(SCHEMAS, 1, schema)
    fields = {name: each for name, each in MAPPING["fields"].items() if name not in PARTS_FIELDS}
    bundle = declarations(MAPPING | {"parts": {}, "fields": fields})
    orders = control.OutputSchema(topic="canonical.order.v1", id=1, schema=schema)
    log = Log()
    log.control(control.Lane(source="erp", epoch=1, topic_id="t1"))
    log.control(CAPTURED)
    log.control(msgspec.structs.replace(bundle, schemas=(orders, *bundle.schemas[1:])))
    log.transaction(("c", "head", head(2, code="SO1")), ("c", "head", head(1, state=1)))
    reader.run(log)
    heads, lines = CAPTURED.tables
    rekeyed = msgspec.structs.replace(heads, key=("note", "id"))
    log.control(msgspec.structs.replace(CAPTURED, tables=(rekeyed, lines)))

    outputs = reader.run(log)

    assert told(reader, outputs) == [("update", "erp:SO1", "approved")]
    assert letters(reader, outputs) == [CLOSED, OPEN]


def test_contenders_are_known_after_a_restart(reader: Reader) -> None:
    log = contended(reader)
    reader.run(log)
    reader = reader.reopen()
    log.transaction(("u", "head", head(2, code="SO1", note="x")))
    log.transaction(("d", "head", None, {"id": 1}))

    assert told(reader, reader.run(log)) == [("update", "erp:SO1", "draft")]


# -- rows without a natural key


def nameless(id_: int, code: str | None = None) -> dict[str, Any]:
    return head(id_) | {"code": code}


@pytest.mark.parametrize("code", [None, ""])
def test_a_row_whose_natural_key_is_null_or_empty_publishes_nothing_and_has_a_letter(
    reader: Reader, code: str | None
) -> None:
    log = Log().start()
    log.transaction(("c", "head", nameless(1, code)), ("c", "head", nameless(2, code)))
    log.transaction(("c", "line", line(1)))

    outputs = reader.run(log)

    assert told(reader, outputs) == []
    assert letters(reader, outputs) == [("open", None, "no-id")] * 2
    assert {each["entity"] for each in reader.letters(outputs)} == {"order"}
    assert len({each["id"] for each in reader.letters(outputs)}) == 2


def test_a_row_that_gets_its_natural_key_later_is_a_create_and_closes_its_letter(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(("c", "head", nameless(1)), ("c", "head", nameless(2)))
    reader.run(log)
    log.transaction(("u", "head", head(1)))

    outputs = reader.run(log)

    assert told(reader, outputs) == [("create", "erp:SO1", "draft")]
    assert reader.records(outputs)[0]["meta"]["previous_id"] is None
    assert letters(reader, outputs) == [("superseded", None, "no-id")]


def test_a_row_that_loses_its_natural_key_is_deleted(reader: Reader) -> None:
    log = Log().start()
    log.transaction(("c", "head", head(1)))
    reader.run(log)
    log.transaction(("u", "head", nameless(1)))

    outputs = reader.run(log)

    assert told(reader, outputs) == [("delete", "erp:SO1", "draft")]
    assert letters(reader, outputs) == [("open", None, "no-id")]


def test_of_a_key_of_several_columns_one_without_a_value_is_empty_and_all_of_them_are_no_key(
    reader: Reader,
) -> None:
    log = Log().start(MAPPING | {"id": ["code", "note"]})
    rows = [head(1, note=None), head(2, note="") | {"code": None}, nameless(3)]
    rows[2]["note"] = None
    log.transaction(*(("c", "head", row) for row in (*rows, head(4, note="", code="SO1"))))

    outputs = reader.run(log)

    assert [(each["entity_id"], each["code"]) for each in reader.letters(outputs)] == [
        (None, "no-id"),
        (None, "no-id"),
        ("erp:SO1|", "duplicate-id"),
    ]


# -- any changes of rows with few keys

CHANGE = st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans())


class World:
    """A table's rows (row -> code, one of which is NULL), and what subscribers and letters show of them."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.log = Log().start()
        self.rows: dict[int, str | None] = {}
        self.shown: dict[str, str] = {}
        self.letters: dict[str, str | None] = {}

    def change(self, number: int, changes: list[tuple[int, int, bool]]) -> None:
        written: list[tuple[Any, ...]] = []
        for row, code, deleted in changes:
            if deleted:
                if row in self.rows:
                    del self.rows[row]
                    written.append(("d", "head", None, {"id": row}))
                continue
            operation = "u" if row in self.rows else "c"
            self.rows[row] = f"K{code}" if code else None
            after = head(row, note=f"{row} {number}") | {"code": self.rows[row]}
            written.append((operation, "head", after))
        self.log.transaction(*written)
        self.take(self.reader.run(self.log))

    def take(self, outputs: list[Output]) -> None:
        records = self.reader.records(outputs)
        assert len({each["id"] for each in records}) == len(records)
        for record in records:
            if record["meta"]["operation"] == "delete":
                del self.shown[record["id"]]
            else:
                self.shown[record["id"]] = record["note"]
        for letter in self.reader.letters(outputs):
            if letter["state"] == "open":
                self.letters[letter["id"]] = letter["entity_id"]
            else:
                del self.letters[letter["id"]]

    def check(self) -> None:
        ids = [None if code is None else f"erp:{code}" for code in self.rows.values()]
        assert set(self.shown) == {*ids} - {None}
        for id_, note in self.shown.items():
            assert f"erp:{self.rows[int(note.split()[0])]}" == id_
            ids.remove(id_)
        assert sorted(self.letters.values(), key=str) == sorted(ids, key=str)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(transactions=st.lists(st.lists(CHANGE, max_size=4), max_size=12))
def test_whatever_changes_each_id_shows_a_living_row_and_every_other_row_has_a_letter(
    tmp_path_factory: pytest.TempPathFactory, transactions: list[list[tuple[int, int, bool]]]
) -> None:
    world = World(Reader(tmp_path_factory.mktemp("lane")))
    for number, changes in enumerate(transactions):
        world.change(number, changes)
        world.check()
    world.reader.state.close()

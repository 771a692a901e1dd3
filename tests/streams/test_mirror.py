"""Mirrored rows: every value's text is what its own type reads back."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lanes import CAPTURED, Log, Reader, declarations

from schemas import control
from schemas.captured import Column, Table
from schemas.catalog import MIRROR_ROW, MIRROR_TABLE, Catalog
from schemas.codec import Decoder
from streams.stages import size
from streams.stages.mirror import can_be_mirrored, text_of


def base64(data: bytes) -> str:
    return b64encode(data).decode()


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("boolean", True, "1"),
        ("integer", -5, "-5"),
        ("numeric(38,10)", "1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789"),
        ("numeric", "NAN", "NaN"),
        ("double precision", 5e-324, "5e-324"),
        ("double precision", "-Infinity", "-inf"),
        ("date", -719162, "0001-01-01"),
        ("timestamp without time zone", 1709210096123456, "2024-02-29 12:34:56.123456"),
        ("timestamp with time zone", "2024-02-29T04:34:56.123456Z", "2024-02-29 04:34:56.123456"),
        ("time without time zone", 86400000000, "24:00:00.000000"),
        ("time(6)", -1, "-00:00:00.000001"),
        ("time", 3020399000000, "838:59:59.000000"),
        ("bytea", base64(b"\x00\xff"), "\\x00ff"),
        ("bit(10)", base64(bytes([0b00000001, 0b11])), "1100000001"),
        ("hstore", '{"a":"1","c d":null,"q":"\\""}', '"a"=>"1","c d"=>NULL,"q"=>"\\""'),
        ("text[]", ["a", None, 'x"y\\z', ""], '{"a",NULL,"x\\"y\\\\z",""}'),
        ("bytea[]", [base64(b"\x00\xff")], '{"\\\\x00ff"}'),
        ("geometry", {"srid": 4326, "wkb": base64(b"\x01\x02")}, "4326;0102"),
    ],
)  # fmt: skip
def test_a_value_becomes_the_text_that_its_type_reads_back(kind, value, text):
    spell = text_of(kind)
    assert spell is not None
    assert spell(value) == text


def test_types_that_lose_something_have_no_text():
    assert text_of("circle") is None
    assert text_of("float") is None


def table(key, *types, keyless=False):
    columns = tuple(Column(name=f"c{number}", type=each) for number, each in enumerate(types))
    return Table(schema="s", name="t", columns=columns, key=key, keyless=keyless)


def test_only_a_table_with_a_readable_key_can_be_mirrored():
    assert can_be_mirrored(table(("c0",), "integer", "circle"))
    assert not can_be_mirrored(table(("c0",), "circle"))
    assert not can_be_mirrored(table((), "integer"))
    assert not can_be_mirrored(table(("c0",), "integer", keyless=True))


INFINITY = (
    2147483647  # as Debezium brings the date 'infinity', which has no text that a target reads back
)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def days(*key: str) -> Table:
    columns = (
        Column(name="day", type="date"),
        Column(name="note", type="text"),
        Column(name="no", type="integer"),
    )
    return Table(schema="public", name="days", key=key, columns=columns)


def mirrored(table: Table) -> Log:
    """Begin the log of a source whose only declaration is that a table is mirrored."""
    log = Log()
    log.control(control.Lane(source="erp", epoch=1, topic_id="t1"))
    log.control(msgspec.structs.replace(CAPTURED, tables=(table,)))
    catalog = Catalog.load()
    schemas = [
        control.OutputSchema(topic=topic, id=id_, schema=catalog.record(name).schema)
        for id_, (topic, name) in enumerate(
            [(MIRROR_TABLE, "mirror_table"), (MIRROR_ROW, "mirror_row")], 4
        )
    ]
    bundle = declarations()
    log.control(
        msgspec.structs.replace(
            bundle,
            mappings=(),
            schemas=(*bundle.schemas, *schemas),
            mirrors=(control.Mirrored(table=table.qualified, targets={"copy": "days"}),),
        )
    )
    return log


def day(day: int, **rest: Any) -> dict[str, Any]:
    return {"day": day, "note": "n"} | rest


def told(reader: Reader, log: Log) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Give the rows that are brought, and the letters."""
    outputs = reader.run(log)
    rows = [
        (record["operation"], record["key"])
        for message in reader.messages(outputs)
        for record in message["records"]
        if record["topic"] == MIRROR_ROW
    ]
    letters = [(each["entity_id"], each["state"], each["code"]) for each in reader.letters(outputs)]
    return rows, letters


def test_a_row_whose_key_has_no_text_is_withheld_also_when_it_is_deleted_and_others_go_on(
    reader: Reader,
) -> None:
    log = mirrored(days("day"))
    log.transaction(("c", "days", day(INFINITY)), ("c", "days", day(1)))
    reader.run(log)
    log.transaction(("d", "days", None, day(INFINITY)), ("d", "days", None, day(1)))

    rows, letters = told(reader, log)

    id_ = f"erp:public.days[{INFINITY}]"
    assert rows == [("delete", "erp:public.days[1]")]
    assert letters == [(id_, "superseded", "not-exact"), (id_, "open", "not-exact")]


def test_a_truncate_closes_the_letters_of_the_rows_that_are_gone(reader: Reader) -> None:
    log = mirrored(days("day"))
    log.transaction(("c", "days", day(INFINITY)), ("c", "days", day(1)))
    reader.run(log)
    log.transaction(("t", "days", None))

    rows, letters = told(reader, log)

    assert rows == [("truncate", "erp:public.days")]
    assert letters == [(f"erp:public.days[{INFINITY}]", "superseded", "not-exact")]
    assert reader.lane.withheld == 0


def test_a_retry_of_a_delete_whose_key_has_no_text_yet_withholds_it_anew(reader: Reader) -> None:
    log = mirrored(days("day"))
    log.transaction(("c", "days", day(INFINITY)))
    log.transaction(("d", "days", None, day(INFINITY)))
    reader.run(log)
    id_ = f"erp:public.days[{INFINITY}]"
    log.control(control.Retry(source="erp", entity="public.days", ids=(id_,)))

    rows, letters = told(reader, log)

    assert rows == []
    assert letters == [(id_, "superseded", "not-exact"), (id_, "open", "not-exact")]


def test_what_is_withheld_of_a_mirrored_table_is_tried_again_when_its_columns_have_other_types(
    reader: Reader,
) -> None:
    log = mirrored(days("day"))
    log.transaction(("c", "days", day(INFINITY)), ("c", "days", day(INFINITY + 1)))
    log.transaction(("d", "days", None, day(INFINITY)))
    reader.run(log)
    numbers = tuple(
        msgspec.structs.replace(each, type="bigint") if each.name == "day" else each
        for each in days("day").columns
    )
    table = msgspec.structs.replace(days("day"), columns=numbers)
    log.control(msgspec.structs.replace(CAPTURED, tables=(table,)))

    rows, letters = told(reader, log)

    gone, there = (f"erp:public.days[{each}]" for each in (INFINITY, INFINITY + 1))
    assert {("delete", gone), ("snapshot", there)} == {*rows}
    assert {*letters} == {(gone, "superseded", "not-exact"), (there, "superseded", "not-exact")}
    assert reader.lane.withheld == 0


def test_a_retry_of_a_row_that_is_gone_with_the_key_it_had_closes_its_letter(
    reader: Reader,
) -> None:
    log = mirrored(days("day"))
    log.transaction(("c", "days", day(INFINITY)))
    log.transaction(("d", "days", None, day(INFINITY)))
    reader.run(log)
    log.control(msgspec.structs.replace(CAPTURED, tables=(days("day", "no"),)))
    id_ = f"erp:public.days[{INFINITY}]"
    log.control(control.Retry(source="erp", entity="public.days", ids=(id_,)))

    rows, letters = told(reader, log)

    assert rows == []
    assert letters == [(id_, "superseded", "not-exact")]


def test_a_row_that_was_read_before_its_table_had_a_column_of_its_key_is_withheld(
    reader: Reader,
) -> None:
    log = mirrored(days("day"))
    log.transaction(("c", "days", day(1)))
    reader.run(log)
    log.control(msgspec.structs.replace(CAPTURED, tables=(days("no"),)))
    log.control(control.Republish(source="erp", entity="public.days", fill="f"))
    log.transaction(("c", "days", day(2, no=7)))

    rows, letters = told(reader, log)

    assert rows == [("create", "erp:public.days[7]")]
    assert letters == [("erp:public.days~[1]", "open", "incomplete")]


def test_a_mirrored_row_that_is_too_large_for_kafka_is_withheld_and_others_go_on(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size, "RECORD_BYTES", 1_000)
    log = mirrored(days("day"))
    log.transaction(("c", "days", day(1, note="n" * 1_000)), ("c", "days", day(2)))

    rows, letters = told(reader, log)

    assert rows == [("create", "erp:public.days[2]")]
    assert letters == [("erp:public.days[1]", "open", "too-large")]


def test_a_chunk_of_a_fill_says_of_a_withheld_row_that_it_is_there(reader: Reader) -> None:
    log = mirrored(days("no"))
    log.transaction(("c", "days", day(INFINITY, no=1)), ("c", "days", day(1, no=2)))
    reader.run(log)
    log.control(control.Republish(source="erp", entity="public.days", fill="f", bindings=("copy",)))

    (chunk,) = reader.messages(reader.run(log))

    schema = Catalog.load().record("mirror_row").schema
    rows = []
    for record in chunk["records"]:
        if record["topic"] == MIRROR_ROW:
            value = Decoder(lambda _: schema).decode(record["value"])
            rows.append((record["operation"], value["key"], value["values"]))
    assert rows == [("snapshot", ["1"], []), ("snapshot", ["2"], ["1970-01-02", "n", "2"])]
    assert [each["id"] for each in chunk["withheld"]] == ["erp:public.days[1]"]


def test_a_chunk_of_a_fill_leaves_out_a_row_whose_key_has_no_text(reader: Reader) -> None:
    log = mirrored(days("day"))
    log.transaction(("c", "days", day(INFINITY)), ("c", "days", day(1)))
    reader.run(log)
    log.control(control.Republish(source="erp", entity="public.days", fill="f", bindings=("copy",)))

    rows, _ = told(reader, log)

    assert rows == [("snapshot", "erp:public.days[1]")]


@pytest.mark.parametrize(
    ("before", "now", "is_again"),
    [
        ("numeric(10,2)", "numeric(12,4)", True),
        ("numeric(10,2)", "numeric", True),
        ("numeric(10,2)", "numeric(12,2)", False),
        ("integer", "numeric(12,4)", True),
        ("integer", "bigint", False),
        ("text", "character varying(20)", False),
    ],
)
def test_a_mirrored_table_is_published_again_when_targets_may_have_rounded_to_a_former_type(
    reader: Reader, before: str, now: str, is_again: bool
) -> None:
    amount = Column(name="amount", type=before)
    table = msgspec.structs.replace(days("day"), columns=(*days("day").columns, amount))
    log = mirrored(table)
    value: Any = {"i": 5, "n": "1.2345", "t": "x"}[before[0]]
    log.transaction(("c", "days", day(1, amount=value)))
    reader.run(log)
    wider = msgspec.structs.replace(
        table, columns=(*days("day").columns, Column(name="amount", type=now))
    )
    log.control(msgspec.structs.replace(CAPTURED, tables=(wider,)))

    rows, _ = told(reader, log)

    assert rows == ([("snapshot", "erp:public.days[1]")] if is_again else [])

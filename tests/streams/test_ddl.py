"""DDL that MariaDB and MySQL log takes effect at its place in the lane. Real servers: tests/capture/test_drift.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from lanes import MAPPING, Log, Reader, declarations, head, line

from streams.stages.ddl import table_changes


def column(name: str, type_: str, length: int | None = None, scale: int | None = None) -> Any:
    return {"name": name, "typeName": type_, "length": length, "scale": scale, "optional": True}


def ddl(kind: str, table: str | None, *columns: Any, snapshot: str = "false") -> dict[str, Any]:
    described = {"primaryKeyColumnNames": ["id"], "columns": list(columns)} if columns else None
    return {
        "source": {"db": "public", "table": table, "snapshot": snapshot},
        "ddl": "…",
        "tableChanges": [{"type": kind, "id": f'"public"."{table}"', "table": described}],
    }


LINES = (column("id", "INT"), column("head_id", "INT"), column("no", "INT"), column("amount", "DECIMAL", 20, 4))  # fmt: skip


@pytest.fixture
def log() -> Log:
    made = Log().start()
    made.transaction(("c", "head", head()), ("c", "line", line(1)))
    return made


@pytest.fixture
def reader(tmp_path: Path, log: Log) -> Reader:
    made = Reader(tmp_path)
    made.run(log)
    return made


@pytest.mark.parametrize(
    ("spelled", "catalog"),
    [
        (("INT UNSIGNED", 10, None), "int(10) unsigned"),
        (("BIGINT UNSIGNED ZEROFILL", 20, None), "bigint(20) unsigned zerofill"),
        (("BOOLEAN", None, None), "tinyint(1)"),
        (("NUMERIC", 12, 2), "decimal(12,2)"),
        (("DOUBLE PRECISION", None, None), "double"),
        (("CHARACTER VARYING", 9, None), "varchar(9)"),
        (("ENUM", 1, None), "enum"),
        (("SOMETHING_NEW", None, None), "something_new"),
    ],
)
def test_a_type_is_spelt_as_the_catalog_does(spelled: Any, catalog: str) -> None:
    (change,) = table_changes(orjson.dumps(ddl("CREATE", "t", column("a", *spelled))))

    table = change.captured()
    assert table is not None
    assert table.columns[0].type == catalog


def test_a_snapshot_tells_of_tables_that_are_known(log: Log, reader: Reader) -> None:
    log.add(ddl("DROP", "line", snapshot="true"))
    log.add(ddl("CREATE", "line", column("id", "INT"), snapshot="true"))

    assert reader.run(log) == []
    assert reader.lane.quarantine.tables == {}


def test_a_lost_column_quarantines_from_its_ddl_on_and_its_return_lets_the_table_go(
    log: Log, reader: Reader
) -> None:
    log.add(ddl("ALTER", "line", *LINES[:3]))
    log.transaction(("u", "line", line(1) | {"no": 7}))
    (letter,) = reader.letters(reader.run(log))
    assert (letter["code"], letter["entity_id"]) == ("misfit", None)
    log.add(ddl("ALTER", "line", *LINES))

    (record,) = reader.records(reader.run(log))

    assert [each["line_no"] for each in record["lines"]] == [7]


def test_a_dropped_table_waits_and_begins_empty_when_it_is_made_again(
    log: Log, reader: Reader
) -> None:
    log.add(ddl("DROP", "line"))
    assert [letter["code"] for letter in reader.letters(reader.run(log))] == ["dropped"]
    log.add(ddl("CREATE", "line", *LINES))
    log.transaction(("c", "line", line(5, no=5)))

    records = reader.records(reader.run(log))

    assert [record["line_count"] for record in records] == [0, 1]
    assert reader.lane.quarantine.tables == {}


def test_a_table_that_is_made_again_without_a_mapped_column_keeps_what_comes_before_it_gets_it(
    log: Log, reader: Reader
) -> None:
    log.add(ddl("DROP", "line"))
    log.add(ddl("CREATE", "line", *LINES[:3]))
    assert [letter["code"] for letter in reader.letters(reader.run(log))] == ["dropped", "misfit"]
    log.transaction(("c", "line", line(5, no=5)))
    log.add(ddl("ALTER", "line", *LINES))

    (record,) = reader.records(reader.run(log))

    assert [each["line_no"] for each in record["lines"]] == [5]


def test_a_table_that_is_made_again_otherwise_goes_on_when_the_mapping_is_mended(
    log: Log, reader: Reader
) -> None:
    log.add(ddl("DROP", "line"))
    log.add(ddl("CREATE", "line", *LINES[:2], LINES[3]))
    reader.run(log)
    each = MAPPING["fields"]["lines"]
    lines = each | {"fields": each["fields"] | {"line_no": "id"}}
    parts = {"lines": {"from": "public.line", "join": {"head_id": "id"}}}
    mended = MAPPING | {"parts": parts, "fields": MAPPING["fields"] | {"lines": lines}}
    log.control(declarations(mended, name="h2"))

    reader.run(log)

    assert reader.lane.quarantine.tables == {}


def test_tables_that_one_statement_makes_again_all_go_on(log: Log, reader: Reader) -> None:
    heads = [column(name, "TEXT") for name in ("code", "note")]
    heads += [column("id", "INT"), column("state", "INT"), column("returned", "BOOLEAN")]
    made = ddl("CREATE", "line", *LINES)
    made["tableChanges"] += ddl("CREATE", "head", *heads)["tableChanges"]
    for each in (ddl("DROP", "line"), ddl("DROP", "head"), made):
        log.add(each)

    reader.run(log)

    assert reader.lane.quarantine.tables == {}


@pytest.mark.parametrize("columns", [LINES, LINES[:3]])
def test_a_table_that_is_made_again_after_the_first_one_was_renamed_begins_empty(
    log: Log, reader: Reader, columns: tuple[Any, ...]
) -> None:
    log.add(ddl("ALTER", "line_2026", *LINES))
    log.add(ddl("CREATE", "line", *columns))
    log.transaction(("c", "line", line(5, no=5)))
    log.add(ddl("ALTER", "line", *LINES, column("more", "INT")))

    record = reader.records(reader.run(log))[-1]

    assert [each["line_no"] for each in record["lines"]] == [5]
    assert reader.lane.quarantine.tables == {}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("server", ["mariadb", "mysql", "mysql without GTID"])
@pytest.mark.parametrize("how", ["made again", "emptied"])
def test_a_table_that_a_killed_capture_says_to_be_emptied_a_second_time_keeps_what_came_since(
    log: Log, reader: Reader, how: str, server: str, restarted: bool
) -> None:
    at = len(log.records)
    emptied = {"op": "t", "source": {"db": "public", "table": "line", "ts_us": 1}}
    statements = [ddl("DROP", "line"), ddl("CREATE", "line", *LINES)]
    for number, record in enumerate(statements if how == "made again" else [emptied]):
        gtid = None if server == "mysql without GTID" else f"g:{number}"
        record["source"] |= {"file": "binlog.000002", "pos": 77 + number, "gtid": gtid}
        if server == "mariadb":
            log.add({"status": "BEGIN", "id": gtid})
            if how == "emptied":
                record["transaction"] = {"id": gtid}
        log.add(record)
    log.transaction(("c", "line", line(5, no=5)), ("c", "line", line(6, no=6)))
    if restarted:
        reader.run(log)
        reader = reader.reopen()
    for record in log.records[at:]:
        log.add(record.value, record.key, record.headers)
    log.transaction(("u", "head", head(state=1)))

    record = reader.records(reader.run(log))[-1]

    assert [each["line_no"] for each in record["lines"]] == [5, 6]
    assert reader.lane.quarantine.tables == {}


def test_a_statement_that_drops_several_tables_comes_as_one_record_for_each(
    log: Log, reader: Reader
) -> None:
    for name in ("line", "head"):
        dropped = ddl("DROP", name)
        dropped["source"] |= {"file": "binlog.000002", "pos": 77, "gtid": "g:1"}
        log.add(dropped)

    reader.run(log)

    assert set(reader.lane.quarantine.tables) == {"public.line", "public.head"}


def test_other_tables_are_no_matter(log: Log, reader: Reader) -> None:
    log.add(ddl("DROP", "elsewhere"))
    log.add(ddl("CREATE", "elsewhere", column("id", "INT")))

    assert reader.run(log) == []

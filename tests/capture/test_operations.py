"""What a source does to its rows, on real servers: transactions come whole, and the row images equal SELECT."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from capturing import SCHEMA, Captured
from following import Followed
from types_on_servers import live_table

from schemas.errors import TongbuError
from streams.errors import RecordError
from streams.records import LaneRecord, RowChange, SnapshotNotice, SourceTransaction
from streams.stages import image
from streams.stages.decode import decode
from streams.transactions import Assembler
from tongbu.deploy.connectors import common_settings
from tongbu.instance import Instance
from tongbu.stack.supervision import Supervisor

PLACEHOLDER = common_settings()["unavailable.value.placeholder"]


class Store(dict[bytes, Any]):
    """Row images in memory."""

    def put(self, key: bytes, value: Any) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value

    def iterate(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, Any]]:
        found = sorted(item for item in self.items() if item[0].startswith(prefix))
        return iter([item for item in found if item[0] > after])

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, Any]]:
        return list(self.iterate(prefix, after))[:limit]


def assemble(records: Iterable[LaneRecord]) -> tuple[list[SourceTransaction], int, list[str]]:
    """Assemble what capture sent: transactions that are not empty, the count of repeats, and what is lost."""
    assembler, whole, repeats, lost = Assembler(), [], 0, []
    for record in records:
        event = decode(record)
        if event is None or isinstance(event, SnapshotNotice):
            continue
        closed = assembler.feed(event)
        if closed is None:
            continue
        repeats += closed.repeat
        lost += closed.lost
        found = closed.transaction.changes if closed.transaction is not None else ()
        changes = [each for each in found if not each.table.endswith(".mark")]
        if closed.transaction is not None and changes:
            whole.append(SourceTransaction(closed.transaction.id, changes, None))
    return whole, repeats, lost


class Watched:
    """A table that is made, changed, and held against SELECT."""

    def __init__(self, captured: Captured, name: str, columns: str) -> None:
        self.captured, self.name = captured, f"{SCHEMA}.{name}"
        if columns:
            captured.run(f"CREATE TABLE {self.name} ({columns})")
        self.since = captured.end
        self.store = Store()
        self.table = live_table(captured, name)
        self.placeholders = image.Placeholders(self.table, PLACEHOLDER)
        self.steps: list[RowChange] = []

    def follow(self) -> list[SourceTransaction]:
        """Take what was captured since the last call into the images; give its transactions."""
        records = self.captured.until_now(self.since)
        self.since = self.captured.end
        found, _, _ = assemble(records)
        for transaction in found:
            for change in transaction.changes:
                if change.table == self.name:
                    self.steps += image.resolve(change, self.table, self.placeholders, self.store)
        return found

    def equal_to_select(self) -> bool:
        names = [column.name for column in self.table.columns]
        rows = self.captured.select(f"SELECT {', '.join(names)} FROM {self.name}")
        images = sorted(tuple(row[name] for name in names) for row in self.store.values())
        assert images == sorted(rows)
        return True


COLUMNS = "id int PRIMARY KEY, a int, note varchar(40)"


def test_each_transaction_comes_whole_and_in_commit_order(captured: Captured) -> None:
    watched = Watched(captured, "ordered", COLUMNS)
    for number in range(5):
        rows = ", ".join(f"({number * 10 + each}, {each}, 'n')" for each in range(3))
        captured.transaction(
            f"INSERT INTO {watched.name} VALUES {rows}",
            f"UPDATE {watched.name} SET a = 9 WHERE id = {number * 10}",
        )

    found = watched.follow()

    assert [len(each.changes) for each in found] == [4] * 5
    assert watched.equal_to_select()


def test_what_is_rolled_back_never_comes(captured: Captured) -> None:
    watched = Watched(captured, "rolled", COLUMNS)
    captured.run("BEGIN", f"INSERT INTO {watched.name} VALUES (1, 1, 'x')", "ROLLBACK")
    captured.transaction(
        f"INSERT INTO {watched.name} VALUES (2, 1, 'kept')",
        "SAVEPOINT s",
        f"INSERT INTO {watched.name} VALUES (3, 1, 'gone')",
        f"UPDATE {watched.name} SET a = 7 WHERE id = 2",
        "ROLLBACK TO SAVEPOINT s",
        f"INSERT INTO {watched.name} VALUES (4, 1, 'kept')",
    )

    (only,) = watched.follow()

    assert [(each.after or {})["id"] for each in only.changes] == [2, 4]
    assert watched.equal_to_select()


def test_an_update_that_changes_nothing_is_no_change(captured: Captured) -> None:
    watched = Watched(captured, "idle", COLUMNS)
    captured.run(f"INSERT INTO {watched.name} VALUES (1, 1, 'x')")
    captured.run(f"UPDATE {watched.name} SET a = 1 WHERE id = 1")
    watched.follow()

    assert len(watched.steps) == 1
    assert watched.equal_to_select()


def test_a_changed_key_is_one_move(captured: Captured) -> None:
    watched = Watched(captured, "moved", "z int, 编号 int, a int, PRIMARY KEY (z, 编号)")
    captured.run(f"INSERT INTO {watched.name} VALUES (1, 1, 5), (1, 2, 6)")
    captured.run(f"UPDATE {watched.name} SET 编号 = 20 WHERE 编号 = 2")
    watched.follow()

    move = watched.steps[-1]
    assert (move.before_key, move.key) == (b"[1,2]", b"[1,20]")
    assert len(watched.steps) == 3
    assert watched.equal_to_select()


def test_a_truncate_deletes_every_row_in_key_order_and_closes_its_transaction(
    captured: Captured,
) -> None:
    watched = Watched(captured, "emptied", COLUMNS)
    captured.run(f"INSERT INTO {watched.name} VALUES (3, 1, 'x'), (1, 1, 'x'), (2, 1, 'x')")
    captured.run(f"TRUNCATE TABLE {watched.name}")
    found = watched.follow()

    assert [step.key for step in watched.steps[3:]] == [b"[1]", b"[2]", b"[3]"]
    assert all(step.after is None for step in watched.steps[3:])
    assert found[-1].changes[-1].operation == "t"
    captured.run(f"INSERT INTO {watched.name} VALUES (1, 1, 'new')")
    watched.follow()
    assert watched.equal_to_select()


def test_interleaved_transactions_come_one_after_the_other(captured: Captured) -> None:
    watched = Watched(captured, "woven", COLUMNS)
    with captured.session() as one, captured.session() as other:
        one.execute("BEGIN")
        other.execute("BEGIN")
        for number in range(5):
            one.execute(f"INSERT INTO {watched.name} VALUES ({number}, 1, 'one')")
            other.execute(f"INSERT INTO {watched.name} VALUES ({number + 100}, 1, 'other')")
        other.execute("COMMIT")
        one.execute("COMMIT")

    found = watched.follow()

    notes = [{(each.after or {})["note"] for each in transaction.changes} for transaction in found]
    assert notes == [{"other"}, {"one"}]
    assert watched.equal_to_select()


def test_a_row_of_ten_megabytes_arrives_whole(captured: Captured) -> None:
    kind = "text" if captured.database == "postgresql" else "longtext"
    watched = Watched(captured, "heavy", f"id int PRIMARY KEY, body {kind}")
    captured.run(f"INSERT INTO {watched.name} VALUES (1, repeat('同', 3500000))")
    watched.follow()

    assert watched.equal_to_select()


def test_records_carry_no_headers_but_those_of_a_changed_key(captured: Captured) -> None:
    watched = Watched(captured, "plain", COLUMNS)
    captured.run(f"INSERT INTO {watched.name} VALUES (1, 1, 'x')")
    captured.run(f"UPDATE {watched.name} SET id = 2")

    records = captured.until_now(watched.since)

    names = {name for record in records for name, _ in record.headers}
    assert names == {"__debezium.oldkey", "__debezium.newkey"}


def test_generated_columns_are_as_selected_or_not_captured(captured: Captured) -> None:
    kind = "GENERATED ALWAYS AS (a * 2) STORED"
    virtual = "" if captured.database == "postgresql" else ", thrice int AS (a * 3) VIRTUAL"
    watched = Watched(captured, "made", f"{COLUMNS}, twice int {kind}{virtual}")
    for number in (1, 2):
        captured.run(f"INSERT INTO {watched.name} (id, a, note) VALUES ({number}, {number}, 'x')")
    captured.run(f"UPDATE {watched.name} SET a = 7 WHERE id = 1")
    watched.follow()

    names = [column.name for column in watched.table.columns]
    assert ("twice" in names) is (captured.database != "postgresql")
    assert watched.equal_to_select()


def test_a_large_value_that_did_not_change_is_filled_in_from_the_image(
    postgresql: Captured,
) -> None:
    watched = Watched(postgresql, "toasted", "id int PRIMARY KEY, a int, body text")
    postgresql.run(f"ALTER TABLE {watched.name} ALTER body SET STORAGE EXTERNAL")
    postgresql.run(f"INSERT INTO {watched.name} VALUES (1, 1, repeat('x', 9000))")
    postgresql.run(f"UPDATE {watched.name} SET a = 2")
    postgresql.run(f"UPDATE {watched.name} SET id = 10")
    found = watched.follow()

    assert (found[1].changes[0].after or {})["body"] == PLACEHOLDER
    assert watched.equal_to_select()


def test_rows_that_copy_gives_one_log_place_are_all_kept(postgresql: Captured) -> None:
    watched = Watched(postgresql, "copied", COLUMNS)
    with (
        psycopg.connect(postgresql.dsn) as pg,
        pg.cursor() as cursor,
        cursor.copy(f"COPY {watched.name} FROM STDIN") as copy,
    ):
        for number in range(2000):
            copy.write_row((number, number, "c"))

    (only,) = watched.follow()

    assert len(only.changes) == 2000
    assert watched.equal_to_select()


def test_a_partitioned_table_is_captured_as_one(postgresql: Captured) -> None:
    watched = Watched(
        postgresql, "parted", "id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day"
    )
    for number in range(2):
        postgresql.run(
            f"CREATE TABLE {watched.name}_{number} PARTITION OF {watched.name} "
            f"FOR VALUES FROM ({number * 10}) TO ({number * 10 + 10})"
        )
    postgresql.run(f"INSERT INTO {watched.name} VALUES (1, 1), (2, 11)")
    postgresql.run(
        f"UPDATE {watched.name} SET day = 12 WHERE id = 1"
    )  # moves to the other partition
    watched.follow()

    assert watched.equal_to_select()


def test_logical_messages_and_heartbeats_carry_no_change(postgresql: Captured) -> None:
    watched = Watched(postgresql, "spoken", COLUMNS)
    postgresql.transaction(
        f"INSERT INTO {watched.name} VALUES (1, 1, 'x')",
        "SELECT pg_logical_emit_message(true, 'tongbu', 'inside')",
        "SELECT pg_logical_emit_message(false, 'tongbu', 'outside')",
    )

    (only,) = watched.follow()

    assert len(only.changes) == 1


def test_a_truncate_of_several_tables_empties_each(postgresql: Captured) -> None:
    first = Watched(postgresql, "first", COLUMNS)
    second = Watched(postgresql, "second", f"{COLUMNS}, of int REFERENCES {first.name}")
    postgresql.run(f"INSERT INTO {first.name} VALUES (1, 1, 'x')")
    postgresql.run(f"INSERT INTO {second.name} VALUES (1, 1, 'x', 1)")
    postgresql.run(f"TRUNCATE {first.name}, {second.name}")
    first.follow()
    second.follow()

    assert first.equal_to_select()
    assert second.equal_to_select()
    assert len(first.steps) == len(second.steps) == 2


def test_a_table_without_a_key_is_told_by_its_whole_rows_where_the_log_has_them(
    postgresql: Captured,
) -> None:
    postgresql.run(
        f"CREATE TABLE {SCHEMA}.keyless (a int, note varchar(40))",
        f"ALTER TABLE {SCHEMA}.keyless REPLICA IDENTITY FULL",
    )
    watched = Watched(postgresql, "keyless", "")
    assert watched.table.keyless
    postgresql.run(f"INSERT INTO {watched.name} VALUES (1, 'x'), (2, NULL), (3, 'z')")
    postgresql.run(f"UPDATE {watched.name} SET note = 'y' WHERE a = 2")
    postgresql.run(
        f"UPDATE {watched.name} SET a = 1 WHERE a = 1", f"DELETE FROM {watched.name} WHERE a = 3"
    )
    watched.follow()

    assert watched.equal_to_select()
    assert [step.before_key for step in watched.steps] == [None, None, None, b"[2,null]", None]
    postgresql.run(f"INSERT INTO {watched.name} VALUES (1, 'x')")
    with pytest.raises(RecordError, match="are the same"):
        watched.follow()


def test_a_table_without_a_key_is_refused_where_the_log_has_no_whole_rows(
    captured: Captured,
) -> None:
    captured.run(f"CREATE TABLE {SCHEMA}.unkeyed (a int)")

    with pytest.raises(TongbuError, match="has no primary key"):
        live_table(captured, "unkeyed")


#: Databases make so many rows in one statement, each in its own way; {0} is the table, {1} the number of rows.
MANY_ROWS = {
    "postgresql": "INSERT INTO {0} SELECT n, concat('thing', n), n, 'n', n FROM generate_series(1, {1}) n",
    "mariadb": "INSERT INTO {0} SELECT seq, concat('thing', seq), seq, 'n', seq FROM seq_1_to_{1}",
    "mysql": (
        "INSERT /*+ SET_VAR(cte_max_recursion_depth = 10000000) */ INTO {0} "
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {1}) "
        "SELECT n, concat('thing', n), n, 'n', n FROM numbers"
    ),
}


def test_a_transaction_of_very_many_rows_comes_whole_with_bounded_memory(
    captured: Captured, stack_instance: Instance, tmp_path: Path
) -> None:
    """TONGBU_LARGE=500000 is the long form; -s shows what it took."""
    rows = int(os.environ.get("TONGBU_LARGE", "50000"))
    followed = Followed(captured, "vast", tmp_path)
    reader = psutil.Process()
    worker = psutil.Process(Supervisor(stack_instance).processes()["connect"]["pid"])
    before = {each: each.memory_info().rss for each in (reader, worker)}
    peak = dict(before)
    began = time.monotonic()
    captured.run(MANY_ROWS[captured.database].format(followed.table, rows))
    for number in followed.follow_in_batches(1_000):
        if number % 5_000 == 0:
            peak = {each: max(most, each.memory_info().rss) for each, most in peak.items()}

    grown = {each: peak[each] - before[each] >> 20 for each in peak}
    print(
        f"{captured.database}: {rows:,} rows in one transaction, {time.monotonic() - began:.0f} s; "
        f"the lane's process takes {grown[reader]} MiB more than before, "
        f"the Connect worker {grown[worker]} more ({peak[worker] >> 20} in all)"
    )
    assert followed.count == rows
    assert grown[reader] < 400
    assert peak[worker] >> 20 < 1_200  # its heap is 768 MiB

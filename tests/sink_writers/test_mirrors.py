"""Mirrored tables in a sink that runs on: what it keeps in mind between messages, and what it does when one fails."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace
from threading import Timer
from urllib.parse import urlsplit

import orjson
import pymysql
import pytest

from schemas.catalog import MIRROR_ROW, MIRROR_TABLE
from schemas.codec import encode
from schemas.errors import TongbuError
from sink_writers import fills, targets
from sink_writers.messages import Chunk, Message, Record
from sink_writers.pulse import Pulse
from sink_writers.runner import Runner
from sink_writers.sink import Position, TryLater
from sink_writers.sinks import postgresql
from sink_writers.stage_log import StageLog
from tongbu.deploy.captured import mysql_arguments

from .conftest import MIRROR_IDS
from .test_runner import ListLog

pytestmark = pytest.mark.integration


class Mirror:
    """A table `public.items` of `erp`, mirrored as `items`, through one sink that goes on from message to message."""

    def __init__(self, target, world) -> None:
        self.target, self.world = target, world
        self.kind = target.spec.kind
        self.name = f"{target.prefix}items"
        self.sink = target.sink()
        self.at = self.sink.claim(target.place)
        self.version = 0
        self.columns = {"id": "text", "name": "character varying(20)"}
        self.key = ["id"]
        self.of = "postgresql"

    @property
    def database(self):
        return self.sink._database

    def message(
        self, *rows: dict, gone: tuple = (), there: tuple = (), chunk: Chunk | None = None
    ) -> Message:
        """Rows as they are now, the keys of those that are gone, and of those that are withheld, under the table's present description."""
        self.version += 1
        records = [self._described()]
        records += [
            self._row("update", [row[name] for name in self.key], [row[c] for c in self.columns])
            for row in rows
        ]
        records += [self._row("delete", list(key), []) for key in gone]
        records += [self._row("snapshot", list(key), []) for key in there]
        message = self.world.message(*records)
        if chunk is None:
            return message
        return replace(
            message, kind="republish", only_bindings=(self.target.spec.binding,), fill=chunk
        )

    def apply(self, *messages: Message) -> None:
        to = Position(self.at.next_offset + len(messages), 0, self.at.epoch)
        self.sink.apply(self.target.place, self.at, messages, to)
        self.at = to

    def run(self, folder, *messages: Message) -> ListLog:
        """Let a runner read messages from a log, all at once."""
        raws = [
            self.world.raw(offset, each.lane_offset, records=each.records)
            for offset, each in enumerate(messages, start=self.at.next_offset)
        ]
        name, reading = self.target.spec.binding, ListLog(raws)
        with closing(StageLog(folder, name)) as stages:
            runner = Runner(
                self.target.spec,
                reading,
                self.sink,
                self.world.decoder,
                lambda _: self.target.place,
                stages,
                Pulse(folder, name, "t"),
            )
            reading.at_end = runner.stop
            runner.run()
        return reading

    def tend(self) -> None:
        self.sink.tend(self.target.place, self.at)

    def rows(self) -> list[tuple]:
        return self.target.query(f"select * from {self.target.own(self.name)} order by 1")

    def begin_fill(self) -> None:
        with targets.opened(self.target.spec) as (target, cursor):
            name = target.table("tongbu_fill")
            fills.begin(cursor, name, self.target.spec.binding, "erp", "public.items", "f")

    @contextmanager
    def reading(self):
        """A transaction that has read the table and does not end."""
        with closing(targets.dialect(self.target.spec).connect()) as reader:
            with closing(reader.cursor()) as cursor:
                cursor.execute("begin")
                cursor.execute(f"select * from {self.target.own(self.name)}")
                cursor.fetchall()
            yield reader

    def _described(self) -> Record:
        value = {
            "source": "erp",
            "table": "public.items",
            "database": self.of,
            "targets": {self.target.spec.binding: self.name},
            "columns": [{"name": name, "type": kind} for name, kind in self.columns.items()],
            "key": self.key,
        }
        return self._record(MIRROR_TABLE, "public.items", "update", value)

    def _row(self, operation: str, key: list[str], values: list) -> Record:
        value = {"table": "public.items", "key": key, "values": values}
        return self._record(MIRROR_ROW, f"erp:public.items:{'|'.join(key)}", operation, value)

    def _record(self, topic: str, key: str, operation: str, value: dict) -> Record:
        schema = self.world.mirror_schemas[topic]
        encoded = encode(MIRROR_IDS[topic], schema.parsed, value)
        return Record(topic, key, operation, self.version, encoded)

    def truncate(self) -> Message:
        message = self.message()
        value = {"table": "public.items", "key": [], "values": []}
        emptied = self._record(MIRROR_ROW, "erp:public.items", "truncate", value)
        return replace(message, records=(*message.records, emptied))

    def linger(self, admin: str) -> None:
        """Let a deleted row take a second and more; MariaDB's triggers are its administrator's to make."""
        if self.kind == "postgresql":
            schema = self.target.spec.schema_
            self.target.query(
                f"create function {schema}.linger() returns trigger language plpgsql as "
                "'begin perform pg_sleep(1.2); return old; end'"
            )
            call = f"execute function {schema}.linger()"
        else:
            call = "set @slept = sleep(1.2)"
        trigger = f"create trigger linger before delete on {self.target.own(self.name)} for each row {call}"
        if self.kind == "mariadb":
            database = urlsplit(self.target.spec.dsn).path.lstrip("/")
            with pymysql.connect(**(mysql_arguments(admin) | {"database": database})) as root:
                root.cursor().execute(trigger)
        else:
            self.target.query(trigger)


@pytest.fixture
def mirror(database, world):
    made = Mirror(database, world)
    yield made
    database.query(f"drop table if exists {database.own(made.name)}")


def test_a_column_that_was_dropped_and_added_again_is_written(mirror):
    mirror.apply(mirror.message({"id": "1", "name": "a"}))
    del mirror.columns["name"]
    mirror.apply(mirror.message({"id": "2"}))
    mirror.columns["name"] = "character varying(20)"
    mirror.apply(mirror.message({"id": "3", "name": "c"}))

    assert mirror.rows() == [("1", None), ("2", None), ("3", "c")]


def test_rows_of_an_earlier_description_arrive_in_one_batch_with_a_later_one(mirror):
    first = mirror.message({"id": "1", "name": "a"})
    mirror.columns["more"] = "integer"
    mirror.apply(first, mirror.message({"id": "2", "name": "b", "more": "5"}))

    assert mirror.rows() == [("1", "a", None), ("2", "b", 5)]


def test_a_row_that_is_written_while_a_fill_ends_stays_although_the_end_is_tried_twice(
    mirror, monkeypatch
):
    mirror.apply(mirror.message({"id": "0", "name": "left over"}))
    mirror.begin_fill()
    begun = Chunk("f", "public.items", "", "erp:1", last=False)
    mirror.apply(mirror.message({"id": "1", "name": "filled"}, chunk=begun))
    ended = Chunk("f", "public.items", "erp:1", "", last=True)
    batch = [
        mirror.message({"id": "2", "name": "live"}),
        mirror.message({"id": "3", "name": "filled"}, chunk=ended),
        mirror.message({"id": "4", "name": "live"}),
    ]
    with monkeypatch.context() as patch:
        put = mirror.sink._mirrors.put

        def fail(cursor, place, messages):
            put(cursor, place, messages)
            if messages[0] is batch[-1]:
                raise TryLater("not now")

        patch.setattr(mirror.sink._mirrors, "put", fail)
        at = mirror.at
        with pytest.raises(TryLater):
            mirror.apply(*batch)
        mirror.at = at
    mirror.apply(*batch)

    assert [row[0] for row in mirror.rows()] == ["1", "2", "3", "4"]


def test_a_row_that_a_fill_names_as_withheld_stays_as_the_target_has_it(mirror):
    mirror.apply(mirror.message(*({"id": id_, "name": id_} for id_ in ("gone", "kept"))))
    mirror.apply(mirror.message({"id": "refused", "name": "x" * 30}))
    mirror.begin_fill()
    begun = Chunk("f", "public.items", "", "erp:a", last=False)
    mirror.apply(
        mirror.message({"id": "a", "name": "a"}, there=[("kept",), ("refused",)], chunk=begun)
    )
    ended = Chunk("f", "public.items", "erp:a", "", last=True)
    mirror.apply(mirror.message({"id": "b", "name": "b"}, there=[("new",)], chunk=ended))

    assert mirror.rows() == [("a", "a"), ("b", "b"), ("kept", "kept")]
    assert [key.rpartition(":")[2] for key in mirror.target.set_aside()] == ["refused"]


def test_a_fill_tells_rows_apart_whose_keys_are_bytes(mirror):
    mirror.of, is_pg = mirror.kind, mirror.kind == "postgresql"
    mirror.columns = {"id": "bytea" if is_pg else "binary(16)", "name": "text"}
    rows = [
        {"id": ("\\x" if is_pg else "0x") + byte * 16, "name": byte} for byte in ("01", "e2", "f1")
    ]
    mirror.apply(mirror.message(*rows))
    mirror.begin_fill()
    mirror.apply(mirror.message(rows[2], chunk=Chunk("f", "public.items", "", "", last=True)))

    assert [row[1] for row in mirror.rows()] == ["f1"]


def test_a_fill_closes_what_was_set_aside_of_rows_that_the_source_has_no_more(mirror):
    refused = "x" * 30
    mirror.apply(
        mirror.message(*({"id": id_, "name": refused} for id_ in ("gone", "kept", "later")))
    )
    mirror.begin_fill()
    begun = Chunk("f", "public.items", "", "erp:a", last=False)
    mirror.apply(mirror.message({"id": "a", "name": "a"}, chunk=begun))
    mirror.apply(mirror.message({"id": "later", "name": refused}, {"id": "new", "name": refused}))
    ended = Chunk("f", "public.items", "erp:a", "", last=True)
    mirror.apply(mirror.message({"id": "kept", "name": refused}, chunk=ended))

    assert {
        key.rpartition(":")[2]: version for key, version in mirror.target.set_aside().items()
    } == {
        "kept": 4,
        "later": 3,
        "new": 3,
    }
    mirror.columns["name"] = "character varying(40)"
    mirror.apply(mirror.message())
    mirror.tend()
    assert [row[0] for row in mirror.rows()] == ["a", "kept", "later", "new"]
    seen = mirror.target.own("tongbu_seen")
    left = f"select count(*) from {seen} where binding = '{mirror.target.spec.binding}'"
    assert mirror.target.query(left) == [(0,)]


def test_a_row_with_a_nul_in_its_key_stops_nothing_and_its_delete_closes_it(mirror):
    mirror.of, takes = mirror.kind, mirror.kind != "postgresql"
    mirror.columns = {"id": "varchar(20)" if takes else "text", "name": "text"}
    rows = [{"id": "a\0b", "name": "a"}, {"id": "c", "name": "c"}]
    mirror.apply(mirror.message(*rows))
    mirror.begin_fill()
    mirror.apply(mirror.message(*rows, chunk=Chunk("f", "public.items", "", "", last=True)))
    assert [row[1] for row in mirror.rows()] == ["a", "c"][not takes :]
    mirror.apply(mirror.message(gone=[("a\0b",)]))

    assert [row[1] for row in mirror.rows()] == ["c"]
    assert mirror.target.set_aside() == {}


def test_a_refused_row_with_a_long_key_is_set_aside_and_a_later_state_closes_it(mirror):
    mirror.columns = {"id": "text", "part": "text", "amount": "integer"}
    mirror.key = ["id", "part"]
    long = {"id": "i" * 200, "part": "p" * 200}
    mirror.apply(mirror.message(long | {"amount": "much"}, {"id": "1", "part": "a", "amount": "1"}))
    assert list(mirror.target.set_aside().values()) == [1]
    told = targets.set_aside(mirror.target.spec, mirror.world.decoder)
    named = f"erp:public.items{orjson.dumps([*long.values()]).decode()}"  # PostgreSQL has room for the id
    in_full = mirror.kind == "postgresql"
    assert [*told[mirror.name]] == [
        f"erp:public.items:{'|'.join(long.values())}" if in_full else named
    ]
    mirror.tend()
    assert mirror.rows() == [("1", "a", 1)]
    mirror.apply(mirror.message(long | {"amount": "2"}))

    assert mirror.rows() == [("1", "a", 1), (*(long.values()), 2)]
    assert mirror.target.set_aside() == {}


def test_a_value_that_is_too_long_for_its_column_is_set_aside_and_never_cut(mirror):
    mirror.columns = {"id": "character varying(5)", "name": "character(3)", "flags": "bit(2)"}
    row = {"id": "1", "name": "abc", "flags": None}
    mirror.apply(mirror.message(row, row | {"id": "123456"}))
    mirror.apply(mirror.message(row | {"id": "2", "name": "abcd"}, gone=[("1 to be cut",)]))
    mirror.apply(mirror.message(row | {"id": "3", "flags": "101"}))
    assert [each[0] for each in mirror.rows()] == ["1"]
    mirror.columns = {"id": "character varying(9)", "name": "character(9)", "flags": "bit(3)"}
    mirror.apply(mirror.message(row | {"id": "4", "flags": "111"}))
    mirror.tend()

    assert [each[0] for each in mirror.rows()] == ["1", "123456", "2", "3", "4"]


@pytest.mark.parametrize("ended_by", ["truncate", "fill"])
def test_a_table_is_emptied_however_long_that_takes(mirror, monkeypatch, stack_instance, ended_by):
    monkeypatch.setattr(
        postgresql, "_OPTIONS", postgresql._OPTIONS.replace("timeout=60s", "timeout=900ms")
    )
    if mirror.kind == "mariadb":
        hurried = mirror.database.session.replace(
            "max_statement_time = 60", "max_statement_time = 0.9"
        )
        monkeypatch.setattr(type(mirror.database), "session", hurried)
    mirror.apply(mirror.message({"id": "1", "name": "a"}))
    mirror.database.close()  # the next connection is hurried
    mirror.linger(stack_instance.mariadb_admin_dsn())
    if ended_by == "truncate":
        mirror.apply(mirror.truncate())
    else:
        mirror.begin_fill()
        whole = Chunk("f", "public.items", "", "", last=True)
        mirror.apply(mirror.message(chunk=whole))

    assert mirror.rows() == []
    limit = {"postgresql": "show statement_timeout", "mariadb": "select @@max_statement_time"}
    if mirror.kind in limit:
        with mirror.database.transaction(mirror.target.place) as cursor:
            cursor.execute(limit[mirror.kind])
            assert str(cursor.fetchone()[0]).rstrip("0") in ("900ms", "0.9")


def test_the_reason_of_a_row_with_a_value_of_another_type_does_not_have_the_value(mirror):
    mirror.columns = {"id": "text", "amount": "integer"}
    mirror.apply(mirror.message({"id": "1", "amount": "secret"}))

    ((reason,),) = mirror.target.query(
        f"select reason from {mirror.target.own('tongbu_set_aside')} "
        f"where binding = '{mirror.target.spec.binding}'"
    )
    assert "value" in reason or "invalid" in reason
    assert "secret" not in reason


def test_a_change_of_type_that_the_rows_refuse_is_told_without_their_values(mirror):
    mirror.apply(mirror.message({"id": "1", "name": "secret"}))
    for kind in ("integer", "timestamp(6) without time zone"):
        mirror.columns["name"] = kind
        with pytest.raises(TongbuError, match="alter table") as refused:
            mirror.apply(mirror.message({"id": "2", "name": None}))
        assert "refuses" in str(refused.value)
        assert "secret" not in str(refused.value)


def test_a_changed_primary_key_is_followed(mirror):
    mirror.columns = {"id": "text", "part": "text", "name": "text"}
    row = {"id": "1", "part": "a", "name": "x"}
    mirror.apply(mirror.message(row, row | {"id": "2"}, row | {"id": "3"}))
    earlier = mirror.message(gone=[("2",)])
    mirror.key = ["part", "id"]
    mirror.apply(earlier, mirror.message(row | {"part": "b", "name": "y"}, gone=[("a", "3")]))
    assert mirror.rows() == [("1", "a", "x"), ("1", "b", "y")]
    mirror.key = ["part"]
    mirror.apply(mirror.message(row | {"id": None, "part": "c"}))

    assert sorted(mirror.rows(), key=str) == [
        ("1", "a", "x"),
        ("1", "b", "y"),
        (None, "c", "x"),
    ]
    assert mirror.target.set_aside() == {}


def test_what_came_before_a_changed_primary_key_is_written_by_the_former_one(mirror, tmp_path):
    mirror.columns = {"id": "text", "part": "text", "name": "text"}
    row = {"id": "1", "part": "a", "name": "x"}
    mirror.apply(mirror.message(row, row | {"id": "2", "part": "p"}))
    earlier = mirror.message(row | {"part": "b"}, gone=[("2",)])
    mirror.key = ["part"]
    later = mirror.message(row | {"id": "3", "part": "1"})
    reading = mirror.run(tmp_path, earlier, later)

    assert mirror.rows() == [("1", "b", "x"), ("3", "1", "x")]
    assert reading.committed == {0: 3}


def test_a_primary_key_that_the_rows_do_not_have_asks_for_a_person(mirror):
    mirror.columns["part"] = "text"
    mirror.apply(mirror.message({"id": "1", "name": "a", "part": None}))
    mirror.key = ["part"]

    with pytest.raises(TongbuError, match=r"refuses `alter table .* add primary key"):
        mirror.apply(mirror.message({"id": "2", "name": "b", "part": "c"}))


def test_a_table_that_the_target_can_not_have_asks_for_a_person(mirror):
    mirror.columns |= {f"c{number}": "integer" for number in range(1700)}
    words = "at most 1600 columns" if mirror.kind == "postgresql" else "Too many columns"

    with pytest.raises(TongbuError, match=rf"refuses `create table .*`: .*{words}") as refused:
        mirror.apply(mirror.message())
    assert not isinstance(refused.value, TryLater)


def test_a_column_that_the_target_has_no_room_for_asks_for_a_person_who_may_give_it_another_type(
    mirror,
):
    if mirror.kind == "postgresql":
        pytest.skip("its rows are not counted by the lengths of their columns")
    mirror.of, mirror.columns = mirror.kind, {"id": "varchar(20)", "name": "varchar(10000)"}
    mirror.apply(mirror.message({"id": "1", "name": "a"}))
    mirror.columns["more"] = "varchar(8000)"
    message = mirror.message({"id": "2", "name": "b", "more": "c"})
    with pytest.raises(TongbuError, match=r"refuses `alter table .*`: Row size too large") as said:
        mirror.apply(message)
    assert not isinstance(said.value, TryLater)
    assert "another type" in said.value.remedy
    mirror.target.query(f"alter table {mirror.name} add column more longtext null")
    mirror.apply(message)

    assert mirror.rows() == [("1", "a", None), ("2", "b", "c")]


def test_a_column_of_the_old_primary_key_may_go(mirror):
    mirror.columns["part"] = "text"
    mirror.apply(mirror.message({"id": "1", "name": "a", "part": "p"}))
    earlier = mirror.message({"id": "2", "name": "b", "part": "q"})
    del mirror.columns["id"]
    mirror.key = ["part"]
    mirror.apply(earlier, mirror.message({"part": "r", "name": "c"}))

    assert [row[::-1] for row in mirror.rows()] == [("p", "a"), ("q", "b"), ("r", "c")]


def test_a_reader_of_a_mirrored_table_lets_others_through_while_its_columns_wait(mirror):
    mirror.apply(mirror.message({"id": "1", "name": "a"}))
    mirror.columns["more"] = "integer"
    message = mirror.message({"id": "2", "name": "b", "more": "5"})
    with mirror.reading() as reader:
        end = Timer(15, reader.rollback)
        end.start()
        with pytest.raises(TryLater, match=r"`alter table .*items.* waits for"):
            mirror.apply(message)
        assert mirror.rows() == [("1", "a")]
        end.cancel()
    mirror.apply(message)

    assert mirror.rows() == [("1", "a", None), ("2", "b", 5)]


def test_what_was_set_aside_before_the_primary_key_changed_is_not_written_and_says_what_to_do(
    mirror,
):
    mirror.columns = {"id": "text", "part": "text", "name": "character varying(5)"}
    mirror.apply(mirror.message({"id": "1", "part": "a", "name": "too long"}))
    mirror.key, mirror.columns["name"] = ["part", "id"], "character varying(40)"
    now = {"id": "1", "part": "b", "name": "now"}
    mirror.apply(mirror.message(now))
    mirror.tend()
    assert mirror.rows() == [("1", "b", "now")]
    ((reason,),) = mirror.target.query(
        f"select reason from {mirror.target.own('tongbu_set_aside')} "
        f"where binding = '{mirror.target.spec.binding}'"
    )
    name = mirror.target.spec.binding
    assert f"`tongbu resync {name} --entity public.items`" in reason
    mirror.begin_fill()
    mirror.apply(mirror.message(now, chunk=Chunk("f", "public.items", "", "", last=True)))

    assert mirror.rows() == [("1", "b", "now")]
    assert mirror.target.set_aside() == {}


def test_a_mirrored_row_that_no_statement_has_room_for_is_set_aside_and_its_neighbours_arrive(
    mirror,
):
    if mirror.kind == "postgresql":
        pytest.skip("it takes statements of 1 GB")
    mirror.of, mirror.columns = mirror.kind, {"id": "varchar(20)", "name": "longtext"}
    mirror.apply(mirror.message({"id": "1", "name": "a"}))
    mirror.database._connection.longest = 1 << 20
    rows = [{"id": f"m{n}", "name": "x" * 300_000} for n in range(10)]
    mirror.apply(mirror.message({"id": "large", "name": "x" * (1 << 20)}, *rows))
    mirror.tend()
    assert [row[0] for row in mirror.rows()] == ["1", *(row["id"] for row in rows)]
    ((reason,),) = mirror.target.query(
        f"select reason from tongbu_set_aside where binding = '{mirror.target.spec.binding}'"
    )
    assert "max_allowed_packet" in reason
    mirror.apply(mirror.message({"id": "large", "name": "b"}))

    assert ("large", "b") in mirror.rows()
    assert mirror.target.set_aside() == {}

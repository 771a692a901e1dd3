"""Target tables as code, and what happens while a target can't be used."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from schemas.catalog import Catalog
from schemas.errors import ServiceUnavailable, TongbuError
from sink_writers import targets
from sink_writers.bindings import load
from sink_writers.sink import Position, TryLater

pytestmark = pytest.mark.integration


def without(catalog: Catalog, field: str) -> Catalog:
    """The catalog as it was before a field was added to sales_order."""
    order = catalog.entities["sales_order"]
    fields = [each for each in order.schema["fields"] if each["name"] != field]
    older = replace(order, schema=order.schema | {"fields": fields})
    return replace(catalog, entities=catalog.entities | {"sales_order": older})


def drop(target, table: str) -> None:
    target.query(f"drop table {target.own(target.prefix + table)}")


def test_what_was_applied_is_no_longer_planned(database, world):
    assert targets.plan(database.spec, world.catalog) == []


def test_a_new_field_is_a_new_column_and_rows_stay(database, world):
    for table in ("sales_order_line", "sales_order"):
        drop(database, table)
    older = without(world.catalog, "seen_at")
    targets.apply(database.spec, targets.plan(database.spec, older))
    database.query(
        f"insert into {database.own(database.prefix + 'sales_order')} (id, version) values ('o1', 1)"
    )

    assert targets.lacking(database.spec, older) == ([], [])
    assert targets.lacking(database.spec, world.catalog) == ([], ["sales_order"])
    statements = targets.plan(database.spec, world.catalog)
    assert [one for one in statements if "add column" in one and "seen_at" in one]
    targets.apply(database.spec, statements)
    assert targets.lacking(database.spec, world.catalog) == ([], [])
    assert targets.plan(database.spec, world.catalog) == []
    assert database.rows("sales_order")[0]["seen_at"] is None


def test_an_entity_grows_by_a_child_table_and_not_by_being_new(database, world):
    drop(database, "sales_order_line")
    assert targets.lacking(database.spec, world.catalog) == ([], ["sales_order"])
    drop(database, "sales_order")
    assert targets.lacking(database.spec, world.catalog) == (["sales_order"], [])


def test_a_table_of_somebody_else_is_used_with_its_own_names(database, world):
    table = database.own(database.prefix + "customer")
    for each in ("sales_order_line", "sales_order", "customer"):
        drop(database, each)
    key = 'text collate "C"' if database.spec.kind == "postgresql" else "varchar(255)"
    collate = "" if database.spec.kind == "postgresql" else "collate utf8mb4_bin"
    database.query(
        f"create table {table} (id {key} {collate} primary key, full_name text, own_note text, version bigint not null)"
    )
    entity = database.spec.entities["customer"]
    chosen = entity.model_copy(update={"columns": {"name": "full_name"}})
    database.spec = database.spec.model_copy(update={"entities": {"customer": chosen}})
    targets.apply(database.spec, targets.plan(database.spec, world.catalog))
    database.apply(world.message(world.customer("c1", 1, name="张三")))

    assert database.query(f"select id, full_name, own_note, version from {table}") == [
        ("c1", "张三", None, 1)
    ]


def test_a_table_with_a_key_of_its_own_and_no_place_for_the_version_is_used(database, world):
    """The id stands in a column beside its own key, and the version in tongbu_fence; its rows are taken over."""
    for each in ("sales_order_line", "sales_order", "customer"):
        drop(database, each)
    table, is_pg = database.own(database.prefix + "customer"), database.spec.kind == "postgresql"
    own_key = "bigint generated always as identity" if is_pg else "bigint auto_increment"
    collate = "" if is_pg else "collate utf8mb4_bin"
    database.query(
        f"create table {table} (nr {own_key} primary key, customer_no varchar(40) {collate} unique, "
        "full_name varchar(60), own_note varchar(20))"
    )
    database.query(
        f"insert into {table} (customer_no, full_name, own_note) values ('c1', 'x', 'kept')"
    )
    chosen = database.spec.entities["customer"].model_copy(
        update={
            "columns": {"id": "customer_no", "version": None, "name": "full_name"},
            "fields": ["name"],
        }
    )
    database.spec = database.spec.model_copy(update={"entities": {"customer": chosen}})
    targets.apply(database.spec, targets.plan(database.spec, world.catalog))
    assert targets.plan(database.spec, world.catalog) == []

    database.apply(
        world.message(world.customer("c1", 5, name="张三"), world.customer("c2", 5, name="b"))
    )
    database.apply(
        world.message(world.customer("c1", 4, name="late"), world.customer("c2", 6, "delete"))
    )
    database.apply(world.message(world.customer("c2", 5, name="back")))
    rows = f"select customer_no, full_name, own_note from {table}"
    assert database.query(rows) == [("c1", "张三", "kept")]

    database.query(
        f"update {database.own('tongbu_fence')} set fenced_at = '2020-01-01' where table_name = '{database.prefix}customer'"
    )
    sink = database.sinks[0]
    sink._swept = float("-inf")
    database.tend()
    database.apply(world.message(world.customer("c1", 3, name="late")))
    assert database.query(rows) == [("c1", "张三", "kept")], (
        "a row's version outlives the sweep of fences"
    )


def test_a_key_that_takes_different_ids_for_the_same_is_refused(database, world):
    for each in ("sales_order_line", "sales_order"):
        drop(database, each)
    table = database.own(database.prefix + "customer")
    if database.spec.kind == "postgresql":
        schema = database.spec.schema_
        database.query(
            f"create collation {schema}.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        database.query(f"alter table {table} alter column id type text collate {schema}.loose")
    else:
        database.query(f"alter table {table} modify id varchar(255) collate utf8mb4_general_ci")

    with pytest.raises(
        TongbuError, match=r"customer.id takes different ids for the same"
    ) as refused:
        targets.plan(database.spec, world.catalog)
    database.query(refused.value.remedy.removeprefix("Run: "))
    targets.plan(
        database.spec.model_copy(
            update={"entities": {"customer": database.spec.entities["customer"]}}
        ),
        world.catalog,
    )


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("add column must int not null", r"customer requires a value for must"),
        ("drop primary key", r"customer has no unique key on \(id\)"),
    ],
)
def test_a_table_that_can_not_be_written_is_refused_at_once(database, world, statement, said):
    for each in ("sales_order_line", "sales_order"):
        drop(database, each)
    if database.spec.kind == "postgresql":
        statement = statement.replace("primary key", "constraint customer_pkey")
    database.query(f"alter table {database.own(database.prefix + 'customer')} {statement}")

    with pytest.raises(TongbuError, match=said):
        targets.plan(database.spec, world.catalog)


def test_a_column_of_another_type_is_refused_with_the_statement(database, world):
    table = database.own(database.prefix + "customer")
    database.query(f"alter table {table} drop column since")
    database.query(f"alter table {table} add column since bigint")

    with pytest.raises(
        TongbuError, match=r"since is bigint.*, needed is date\n.*run: alter table .* date"
    ):
        targets.plan(database.spec, world.catalog)


def test_tables_that_are_missing_are_waited_for(database, world):
    sink = database.sink()
    at = sink.claim(database.place)
    drop(database, "sales_order_line")
    message = world.message(world.order("o1", 1, lines={1: "p1"}))

    with pytest.raises(TryLater, match="tongbu apply --only targets"):
        sink.apply(database.place, at, [message], Position(1, 1, at.epoch))
    targets.apply(database.spec, targets.plan(database.spec, world.catalog))
    sink.apply(database.place, at, [message], Position(1, 1, at.epoch))
    assert len(database.rows("sales_order_line")) == 1


def test_a_broken_connection_is_opened_again(database, world):
    sink = database.sink()
    at = sink.claim(database.place)
    connection = sink._database._connection
    number = (
        connection.info.backend_pid
        if database.spec.kind == "postgresql"
        else connection.thread_id()
    )
    kill = "select pg_terminate_backend({})" if database.spec.kind == "postgresql" else "kill {}"
    database.query(kill.format(number))
    message = world.message(world.order("o1", 1, lines={1: "p1"}))

    with pytest.raises(TryLater):
        sink.apply(database.place, at, [message], Position(1, 1, at.epoch))
    sink.apply(database.place, at, [message], Position(1, 1, at.epoch))
    assert len(database.rows("sales_order")) == 1


def test_a_server_that_takes_no_writes_for_a_while_is_connected_to_anew(database, world):
    """After a failover the connection may lead to what is a standby now, or not yet a primary."""
    sink, place = database.sink(), database.place
    at, message = sink.claim(place), world.message(world.customer("c1", 1))
    with sink._database.single(place) as cursor:
        is_pg = database.spec.kind == "postgresql"
        cursor.execute(
            "set default_transaction_read_only = on"
            if is_pg
            else "set session transaction read only"
        )
    with pytest.raises(TryLater):
        sink.apply(place, at, [message], Position(1, 1, at.epoch))
    sink.apply(place, at, [message], Position(1, 1, at.epoch))

    assert len(database.rows("customer")) == 1


def test_fences_of_other_bindings_outlive_a_sweep(database, world):
    """Two bindings may share a schema; in a table that has no place for the version its fences are the guard."""
    table = database.own(f"{database.prefix}customer")
    options = {"sources": ["erp"], "dsn": database.spec.dsn, "schema": database.spec.schema_}
    wanted = {"table": f"{database.prefix}theirs", "columns": {"version": None}}
    other = database.spec.model_validate(
        {"binding": f"o{database.place.binding}", "kind": database.spec.kind, **options}
        | {"entities": {"customer": wanted}}
    )
    targets.apply(other, targets.plan(other, world.catalog))
    theirs = type(database)(world, replace(database.place, binding=other.binding), "", spec=other)
    theirs.apply(world.message(world.customer("c1", 5, name="new")))
    database.apply(world.message(world.customer("c2", 5, "delete")))
    fence, mine = database.own("tongbu_fence"), f"table_name like '{database.prefix}%'"
    database.query(f"update {fence} set fenced_at = '2020-01-01' where {mine}")
    database.sinks[0]._swept = float("-inf")
    database.tend()
    left = database.query(f"select record_key from {fence} where {mine}")
    theirs.apply(world.message(world.customer("c1", 4, name="old")))
    rows = database.query(f"select name from {database.own(f'{database.prefix}theirs')}")
    theirs.sinks[0].close()
    database.query(f"drop table {database.own(f'{database.prefix}theirs')}")

    assert rows == [("new",)]
    assert left == [("c1",)]
    assert database.query(f"select id from {table}") == []


def test_rows_and_position_come_together_or_not_at_all(database, world):
    sink = database.sink()
    at = sink.claim(database.place)
    sink.apply(
        database.place,
        at,
        [world.message(world.order("o1", 1, lines={1: "p1"}))],
        Position(1, 1, at.epoch),
    )
    at = Position(1, 1, at.epoch)
    change = world.message(world.customer("c1", 2), world.order("o1", 2, lines={1: "p2"}))
    with closing(targets.dialect(database.spec).connect()) as blocker, blocker.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute(
            f"select 1 from {database.own(database.prefix + 'sales_order_line')} for update"
        )
        with pytest.raises(TryLater):
            sink.apply(database.place, at, [change], Position(2, 2, at.epoch))
        cursor.execute("rollback")

    assert database.rows("customer") == []
    assert [row["version"] for row in database.rows("sales_order")] == [1]
    assert database.sink().claim(database.place).next_offset == 1


def test_reading_a_target_without_its_tables_says_what_makes_them(database, world, monkeypatch):
    drop(database, "sales_order_line")
    with pytest.raises(TryLater, match="tongbu apply --only targets"):
        list(targets.read_rows(database.spec, world.catalog, database.prefix + "sales_order_line"))

    dialect = type(targets.dialect(database.spec))
    monkeypatch.setattr(dialect, "table", lambda _, name: f"no_{name}")
    with pytest.raises(TryLater, match="tongbu apply --only targets"):
        targets.set_aside(database.spec, world.decoder)


def test_a_target_that_does_not_answer_is_named(database):
    spec = database.spec.model_copy(
        update={"dsn": f"{database.spec.dsn.split(':')[0]}://u:p@127.0.0.1:1/d"}
    )
    with pytest.raises(ServiceUnavailable, match=r"(does not answer|can't take it).*refused"):
        targets.dialect(spec).connect()


def test_a_refused_login_is_for_a_person(database):
    scheme, _, rest = database.spec.dsn.partition("://")
    spec = database.spec.model_copy(
        update={"dsn": f"{scheme}://nobody:wrong@{rest.partition('@')[2]}"}
    )
    with pytest.raises(TongbuError, match="Check user and password") as refused:
        targets.dialect(spec).connect()
    assert not isinstance(refused.value, ServiceUnavailable)


def test_the_tables_of_an_effects_binding_are_planned_too(stack, monkeypatch):
    for name in ("HUB_DSN", "WEBHOOK_URL", "WEBHOOK_SECRET"):
        monkeypatch.setenv(name, stack[name])
    binding = load("order-events")
    catalog = Catalog.load()
    targets.apply(binding, targets.plan(binding, catalog))

    assert targets.plan(binding, catalog) == []

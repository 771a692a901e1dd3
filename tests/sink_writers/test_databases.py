"""What only databases have: unique values, keys that the target's owner added, values at their limits."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pymysql
import pytest

from schemas.errors import TongbuError
from sink_writers import letters, targets
from sink_writers.changes import Changes
from sink_writers.dialects import mariadb
from sink_writers.dialects.mariadb_apply import _parents_first
from sink_writers.sink import Fenced, Move, Position, TryLater
from sink_writers.sinks import relational
from tongbu.deploy.captured import mysql_arguments

from .conftest import environment_of, make_target

pytestmark = pytest.mark.integration


@pytest.fixture
def unique(database):
    """A target whose owner wants customers to have unique names."""
    table = database.own(database.prefix + "customer")
    column = "name" if database.spec.kind == "postgresql" else "name(100)"
    database.query(f"create unique index unique_{database.place.binding} on {table} ({column})")
    is_pg = database.spec.kind == "postgresql"
    schema = f"{database.spec.schema_}." if is_pg else ""
    database.index = f"{schema}unique_{database.place.binding}{'' if is_pg else f' on {table}'}"
    return database


def names(database):
    return {row["id"]: row["name"] for row in database.rows("customer")}


def test_two_rows_may_swap_a_unique_value_in_one_transaction(unique, world):
    unique.apply(
        world.message(world.customer("c1", 1, name="a"), world.customer("c2", 1, name="b"))
    )
    unique.apply(
        world.message(world.customer("c1", 2, name="b"), world.customer("c2", 2, name="a"))
    )

    assert names(unique) == {"c1": "b", "c2": "a"}
    assert unique.set_aside() == {}


def test_a_unique_value_may_pass_from_a_deleted_row_to_a_new_one(unique, world):
    unique.apply(world.message(world.customer("c2", 1, name="a")))
    unique.apply(
        world.message(
            world.customer("c1", 2, "create", name="a"), world.customer("c2", 2, "delete")
        )
    )

    assert names(unique) == {"c1": "a"}
    assert unique.set_aside() == {}


def test_a_unique_value_of_another_row_is_never_overwritten(unique, world):
    unique.apply(world.message(world.customer("c1", 1, name="a")))
    unique.apply(
        world.message(world.customer("c2", 2, name="a"), world.customer("c3", 2, name="c"))
    )

    assert names(unique) == {"c1": "a", "c3": "c"}
    assert unique.set_aside() == {"c2": 2}
    unique.apply(world.message(world.customer("c1", 3, name="other")))
    unique.tend()
    assert names(unique) == {"c1": "other", "c2": "a", "c3": "c"}
    assert unique.set_aside() == {}


def test_a_constraint_that_is_checked_at_commit_sets_one_record_aside(database, world):
    if database.spec.kind != "postgresql":
        pytest.skip("only PostgreSQL has constraints that are checked at commit")
    table = database.own("customer")
    database.query(
        f"alter table {table} add constraint u unique (name) deferrable initially deferred"
    )
    database.apply(
        world.message(world.customer("c1", 1, name="a"), world.customer("c2", 1, name="b"))
    )
    database.apply(
        world.message(world.customer("c1", 2, name="b"), world.customer("c2", 2, name="a"))
    )
    database.apply(world.message(world.customer("c1", 3, name="a"), world.customer("c3", 3)))

    assert names(database) == {"c1": "b", "c2": "a", "c3": None}
    assert database.set_aside() == {"c1": 3}


@pytest.fixture(params=["null", "not null"])
def beside(database, world, request):
    """Customers in a table with a key of its own, where the id stands beside it, behind a name that is unique, too."""
    for each in ("sales_order_line", "sales_order", "customer"):
        database.query(f"drop table {database.own(database.prefix + each)}")
    table, is_pg = database.own(database.prefix + "customer"), database.spec.kind == "postgresql"
    own_key = "bigint generated always as identity" if is_pg else "bigint auto_increment"
    collate = "" if is_pg else "collate utf8mb4_bin"
    database.query(
        f"create table {table} (nr {own_key} primary key, name varchar(60) {request.param} unique, "
        f"customer_no varchar(40) {collate} {request.param} unique, version bigint)"
    )
    chosen = database.spec.entities["customer"].model_copy(
        update={"columns": {"id": "customer_no"}, "fields": ["name"]}
    )
    database.spec = database.spec.model_copy(update={"entities": {"customer": chosen}})
    targets.apply(database.spec, targets.plan(database.spec, world.catalog))
    database.apply(
        world.message(world.customer("c1", 1, name="a"), world.customer("c2", 1, name="b"))
    )
    query = f"select customer_no, name, version from {table} order by customer_no"
    return database, lambda: database.query(query)


def test_a_row_whose_id_is_not_the_primary_key_never_overwrites_another_by_a_unique_value(
    beside, world
):
    target, rows = beside
    target.apply(world.message(world.customer("c1", 2, name="b")))
    assert rows() == [("c1", "a", 1), ("c2", "b", 1)]
    assert target.set_aside() == {"c1": 2}
    target.apply(world.message(world.customer("c2", 3, name="it's")))
    target.tend()

    assert rows() == [("c1", "b", 2), ("c2", "it's", 3)]
    assert target.set_aside() == {}


def test_an_id_that_may_be_null_is_kept_while_unique_values_swap(beside, world):
    target, rows = beside
    target.apply(
        world.message(world.customer("c1", 2, name="b"), world.customer("c2", 2, name="a"))
    )
    left = target.set_aside()

    assert rows() == [("c1", "b", 2), ("c2", "a", 2)] or (rows(), left) == (
        [("c1", "a", 1), ("c2", "b", 1)],  # a name that must not be null can't be out of the way
        {"c1": 2, "c2": 2},
    )


def aged(database, seconds):
    """Let what is set aside be older: tried for the last time before 100 s, set aside so many before that."""
    name, of = database.own("tongbu_set_aside"), f"binding = '{database.spec.binding}'"
    ago = (
        "tried_at - interval '{} seconds'"
        if database.spec.kind == "postgresql"
        else "tried_at - interval {} second"
    )
    database.query(f"update {name} set tried_at = {ago.format(100)} where {of}")
    database.query(f"update {name} set set_aside_at = {ago.format(seconds)} where {of}")


def test_what_is_refused_again_and_again_is_tried_less_often(database, world):
    database.apply(world.message(world.customer("c1", 1, name=database.poison)))
    query = f"select tried_at from {database.own('tongbu_set_aside')} where binding = '{database.spec.binding}'"
    for seconds, is_tried in ((0, True), (100, True), (200, False), (10_000, False)):
        aged(database, seconds)
        before = database.query(query)
        database.tend()
        assert (database.query(query) != before) == is_tried, seconds


def test_what_is_refused_is_tried_few_at_a_time_and_all_that_is_taken_at_once(unique, world):
    customers = [world.customer(f"c{n}", 2, name="a") for n in range(60)]
    unique.apply(world.message(world.customer("c", 1, name="a")))
    unique.apply(world.message(*customers))
    sink, place = unique.sinks[0], unique.place
    query = f"select count(*) from {unique.own('tongbu_set_aside')} where binding = '{unique.spec.binding}' and tried_at > set_aside_at"
    at = sink.claim(place)
    sink.tend(place, at)
    assert (unique.query(query), sink.due) == ([(25,)], False)
    unique.query(f"drop index {unique.index}")
    rounds = 0
    while not rounds or sink.due:
        sink.tend(place, at)
        rounds += 1

    assert (rounds, unique.set_aside()) == (2, {})


def test_the_reader_of_one_entity_leaves_what_that_of_another_has_set_aside_alone(database, world):
    """Each has its own position, so nothing orders what both would do about one record."""
    units = replace(database.place, topic="canonical.org_unit.v1")
    customers = replace(database.place, topic="replay.x.canonical.customer.v1")
    first, second = database.sink(), database.sink()
    at = first.claim(units)
    refused = world.message(world.unit("u1", 1, name=database.poison))
    first.apply(units, at, [refused], Position(1, 1, at.epoch))
    query = f"select tried_at from {database.own('tongbu_set_aside')} where binding = '{database.spec.binding}'"
    before = database.query(query)
    second.tend(customers, second.claim(customers))
    assert database.query(query) == before
    first.tend(units, first.claim(units))
    assert database.query(query) != before


def test_a_giant_is_whole_however_many_others_the_target_refuses(unique, world, monkeypatch):
    monkeypatch.setattr(letters, "_AT_ONCE", 3)
    unique.apply(world.message(world.customer("c", 1, name="a")))
    unique.apply(world.message(*(world.customer(f"c{n}", 2, name="a") for n in range(4))))
    orders = [world.order(f"o{n}", 3, customer_id="late") for n in range(2)]
    at = unique.sinks[0].claim(unique.place)
    to = Position(at.next_offset + 1, 0, at.epoch)
    giant = world.giant(orders, [world.customer("late", 3)])
    unique.sinks[0].apply(unique.place, at, [giant], to)

    assert [row["id"] for row in unique.rows("sales_order")] == ["o0", "o1"]


def test_reasons_name_the_trouble_and_never_a_value(unique, world):
    unique.apply(world.message(world.customer("c1", 1, name="secret")))
    unique.apply(world.message(world.customer("c2", 2, name="secret")))
    (reason,) = unique.query(
        f"select reason from {unique.own('tongbu_set_aside')} "
        f"where binding = '{unique.spec.binding}'"
    )[0]

    assert f"unique_{unique.place.binding}" in reason
    assert "secret" not in reason


def refuse_by_trigger(database, name, admin):
    """Let a trigger of the target's owner refuse customers of a name; MariaDB's are its administrator's to make."""
    table, schema = database.own(database.prefix + "customer"), database.spec.schema_
    head = f"create trigger no_{database.place.binding} before insert on {table} for each row"
    if database.spec.kind == "postgresql":
        database.query(
            f"create function {schema}.no() returns trigger language plpgsql as $$ begin if new.name = '{name}' "
            "then raise exception 'no %', new.name; end if; return new; end $$"
        )
        database.query(f"{head} execute function {schema}.no()")
        return
    says = f"concat('no ', '{name}')"
    trigger = (
        f"{head} begin declare said text; if new.name = '{name}' then set said = {says}; "
        "signal sqlstate '45000' set message_text = said; end if; end"
    )
    dsn = admin if database.spec.kind == "mariadb" else database.spec.dsn
    path = {"database": urlsplit(database.spec.dsn).path.lstrip("/")}
    with pymysql.connect(**(mysql_arguments(dsn) | path)) as root:
        root.cursor().execute(trigger)


def test_what_a_trigger_of_the_target_refuses_is_set_aside(database, world, stack_instance):
    refuse_by_trigger(database, "secret", stack_instance.mariadb_admin_dsn())
    database.apply(
        world.message(world.customer("c1", 1, name="secret"), world.customer("c2", 1, name="b"))
    )

    assert names(database) == {"c2": "b"}
    assert database.set_aside() == {"c1": 1}
    ((reason,),) = database.query(
        f"select reason from {database.own('tongbu_set_aside')} where binding = '{database.spec.binding}'"
    )
    assert "secret" not in reason
    assert re.search(r"raise exception|1644", reason)


def test_trailing_spaces_and_case_make_other_keys(database, world):
    keys = ["c1", "C1", "c1\N{COMBINING ACUTE ACCENT}"]
    if (
        database.spec.kind != "mysql"
    ):  # 8.0.17 and later can tell them apart, the stack's 8.0.15 can't
        keys.append("c1 ")
    database.apply(world.message(*(world.customer(key, 1) for key in keys)))

    assert sorted(row["id"] for row in database.rows("customer")) == sorted(keys)


def test_foreign_keys_are_planned_once(database, world):
    assert targets.plan(database.spec, world.catalog) == []
    live = targets.dialect(database.spec)
    with targets.opened(database.spec) as (_, cursor):
        found = live.foreign_keys(cursor.connection)
    assert f"{database.prefix}sales_order_customer_id_fk" in found


@pytest.mark.parametrize(
    ("number", "words", "passing"),
    [
        (1205, "Lock wait timeout exceeded", True),
        (1213, "Deadlock found", True),
        (2013, "Lost connection to server during query", True),
        (1290, "The server is running with the --read-only option", True),
        (1114, "The table is full", True),
        (1969, "Query execution was interrupted (max_statement_time exceeded)", True),
        (1005, 'Can\'t create table (errno: 28 "No space left on device")', True),
        (1005, 'Can\'t create table (errno: 185 "Too many columns")', False),
        (1118, "Row size too large", False),
        (1117, "Too many columns", False),
        (1067, "Invalid default value", False),
        (1071, "Specified key was too long", False),
        (1142, "ALTER command denied", False),
    ],
)
def test_what_stands_against_a_definition_passes_by_itself_or_does_not(number, words, passing):
    assert mariadb.passes(pymysql.OperationalError(number, words)) is passing


def test_parents_come_first_where_rows_are_checked_one_by_one():
    rows = [{"id": id_, "up": up} for id_, up in (("c", "b"), ("a", "x"), ("b", "a"), ("d", None))]

    assert [row["id"] for row in _parents_first(rows, "id", "up")] == ["a", "b", "c", "d"]


def stand_still(sink, place, at, meanwhile):
    """Be stopped in the middle of an apply, holding the position's lock, while others go on."""
    with sink._database.transaction(place) as cursor:
        sink._database.write(cursor, Changes(), Move(place, at, Position(1, 1, at.epoch)))
        meanwhile()
        cursor.execute("select 1")


def claim_when_possible(sink, place):
    for _ in range(20):
        try:
            return sink.claim(place)
        except TryLater:
            continue
    raise AssertionError("the successor stays blocked")


def test_an_owner_that_stands_still_with_locks_never_blocks_its_successor(database, world):
    first, second, place = database.sink(), database.sink(), database.place
    at, claimed = first.claim(place), []
    with pytest.raises((TryLater, Fenced)):
        stand_still(first, place, at, lambda: claimed.append(claim_when_possible(second, place)))

    assert claimed == [Position(0, 0, at.epoch + 1)]
    message, to = world.message(world.customer("c1", 1)), Position(1, 1, at.epoch + 1)
    second.apply(place, claimed[0], [message], to)
    with pytest.raises(Fenced):
        first.apply(place, at, [message], Position(1, 1, at.epoch))
    assert [row["id"] for row in database.rows("customer")] == ["c1"]


def test_an_owner_that_had_to_connect_again_is_known_by_its_new_connection(database):
    first, second, place = database.sink(), database.sink(), database.place
    at, claimed = first.claim(place), []
    first._database.close()
    with pytest.raises((TryLater, Fenced)):
        stand_still(first, place, at, lambda: claimed.append(claim_when_possible(second, place)))

    assert claimed[0].epoch == at.epoch + 1


def test_values_at_their_limits_arrive_exactly(database, world):
    most = Decimal("9999999999999999999999999999.9999999999")
    least = Decimal(f"-{most}")
    moment = datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)
    text = "𠀀 é \\ ' \" \t\n%s {}"
    orders = [
        world.order("o1", 1, gross={"amount": most, "currency": "CNY"}, seen_at=moment, code=text),
        world.order("o2", 1, gross={"amount": least, "currency": ""}, ext={text: text}),
        world.order("o3", 1, gross={"amount": Decimal("0.0000000001"), "currency": "长"}),
    ]
    days = [date(1000, 1, 1), date(9999, 12, 31)]
    database.apply(
        world.message(*orders, *(world.customer(str(day), 1, since=day) for day in days))
    )

    first, second, third = database.rows("sales_order")
    assert (first["gross_amount"], first["seen_at"], first["code"]) == (most, moment, text)
    assert (second["gross_amount"], second["ext"]) == (least, {text: text})
    assert (third["gross_amount"], third["gross_currency"]) == (Decimal("0.0000000001"), "长")
    assert [row["since"] for row in database.rows("customer")] == days
    assert database.set_aside() == {}


# -- routing, references in a circle, privileges


def changed(spec, entity, **values):
    """The binding with other options of one entity."""
    wanted = spec.entities[entity].model_copy(update=values)
    return spec.model_copy(update={"entities": {**spec.entities, entity: wanted}})


def test_a_record_is_where_its_binding_routes_it_and_leaves_when_that_changes(database, world):
    where = {"status": ["approved"], "gross.currency": ["CNY"]}
    database.spec = changed(database.spec, "sales_order", where=where)
    lines, dollars = {1: "p1"}, {"amount": Decimal(1), "currency": "USD"}
    database.apply(
        world.message(
            world.order("o1", 1, status="approved", lines=lines),
            world.order("o2", 1, status="draft", lines=lines),
            world.order("o3", 1, status="approved", gross=dollars),
        )
    )
    assert [row["id"] for row in database.rows("sales_order")] == ["o1"]
    database.apply(
        world.message(
            world.order("o1", 2, status="draft", lines=lines),
            world.order("o2", 2, status="approved", lines=lines),
        )
    )
    database.apply(world.message(world.order("o1", 1, status="approved", lines=lines)))

    assert [row["id"] for row in database.rows("sales_order")] == ["o2"]
    assert [row["sales_order_id"] for row in database.rows("sales_order_line")] == ["o2"]


def test_a_route_by_what_the_schema_does_not_have_is_refused(database):
    for where in ({"staus": ["draft"]}, {"status": ["aproved"]}):
        spec = changed(database.spec, "sales_order", where=where)
        with pytest.raises(TongbuError, match=r"staus|aproved"):
            targets.tables(spec, database.world.catalog)


def circular(database, name):
    """Orders that refer to a customer, and customers that refer to an order."""
    spec = database.spec.model_copy(update={"binding": name, "schema_": name})
    return changed(spec, "customer", references={"name": "sales_order"})


def test_references_in_a_circle_arrive_and_go_where_the_database_checks_at_the_end(database, world):
    name = f"c{database.place.binding}"
    spec = circular(database, name)
    if spec.kind != "postgresql":
        with pytest.raises(TongbuError, match="in a circle"):
            targets.tables(spec, world.catalog)
        return
    targets.apply(spec, targets.plan(spec, world.catalog))
    other = type(database)(world, database.place, "", spec=spec)
    other.apply(
        world.message(
            world.order("o1", 1, customer_id="c1"),
            world.customer("c1", 1, name="o1"),
            world.customer("c2", 1, name="o2"),  # waits for its order
        )
    )
    assert [row["id"] for row in other.rows("customer")] == ["c1"]
    assert other.set_aside() == {"c2": 1}
    other.apply(world.message(world.order("o2", 2, customer_id="c2")))  # and that for its customer
    other.tend()
    assert [row["id"] for row in other.rows("customer")] == ["c1", "c2"]
    other.apply(
        world.message(world.customer("c1", 3, "delete"), world.order("o1", 3, "delete")),
        world.message(world.order("o2", 4), world.customer("c2", 4, name="o2")),
    )

    assert [row["id"] for row in other.rows("customer")] == ["c2"]
    assert [row["id"] for row in other.rows("sales_order")] == ["o2"]
    assert other.set_aside() == {}
    other.close()


def test_privileges_that_lack_are_named_all_at_once(database, world, request):
    user, tables = f"u{database.place.binding}", [database.own(database.prefix + "customer")]
    environment = environment_of(database.spec.kind, request)
    dsn = {"postgresql": "WAREHOUSE_DSN", "mariadb": "OA_HUB_DSN", "mysql": "MYSQL_DSN"}
    instance = request.getfixturevalue("stack_instance")
    url = urlsplit(database.spec.dsn)
    if database.spec.kind == "postgresql":
        admin = urlsplit(instance.postgres_admin_dsn())._replace(path=url.path)
        with psycopg.connect(urlunsplit(admin), autocommit=True) as root:
            root.execute(f"create role {user} login password 'x'")
            root.execute(f'grant usage on schema "{database.spec.schema_}" to {user}')
            root.execute(
                f'grant select on all tables in schema "{database.spec.schema_}" to {user}'
            )
            root.execute(f"grant insert, update on {tables[0]} to {user}")
    else:
        admin = (
            environment[dsn[database.spec.kind]]
            if database.spec.kind == "mysql"
            else instance.mariadb_admin_dsn()
        )
        with pymysql.connect(**mysql_arguments(admin)) as root, root.cursor() as cursor:
            schema = url.path.lstrip("/")
            cursor.execute(f"create user {user}@'%' identified by 'x'")
            cursor.execute(f"grant select on `{schema}`.* to {user}@'%'")
            cursor.execute(f"grant insert, update on `{schema}`.{tables[0]} to {user}@'%'")
    limited = database.spec.model_copy(
        update={"dsn": urlunsplit(url._replace(netloc=f"{user}:x@{url.hostname}:{url.port}"))}
    )

    with pytest.raises(TongbuError) as refused:
        targets.check(limited, world.catalog)

    said = str(refused.value)
    assert f"delete on {tables[0]}" in said
    assert f"insert on {tables[0]}" not in said
    assert f"insert on {database.own(database.prefix + 'org_unit')}" in said


def test_a_record_of_an_entity_that_the_binding_has_no_more_stays_set_aside(database, world):
    database.apply(
        world.message(
            world.unit("u1", 1, name=database.poison), world.order("o1", 1, customer_id="c1")
        )
    )
    kept = {name: each for name, each in database.spec.entities.items() if name != "org_unit"}
    database.spec = database.spec.model_copy(update={"entities": kept})
    targets.apply(database.spec, targets.plan(database.spec, world.catalog))
    database.sinks.insert(0, database.sink())
    database.apply(world.message(world.customer("c1", 2)))
    database.tend()

    assert [row["id"] for row in database.rows("sales_order")] == ["o1"]
    assert database.set_aside() == {"u1": 1}


def test_a_record_with_a_nul_in_its_id_stops_nothing_and_its_delete_closes_it(database, world):
    """MariaDB and MySQL hold that, PostgreSQL does not."""
    nul, takes = "erp:a\0b", database.spec.kind != "postgresql"
    database.apply(
        world.message(
            world.customer(nul, 1), world.order("o1", 1, customer_id=nul), world.order("o2", 1)
        )
    )
    assert [row["id"] for row in database.rows("sales_order")] == ["o1", "o2"][not takes :]
    told = targets.set_aside(database.spec, world.decoder)
    assert takes or [*told[f"{database.prefix}customer"]] == [nul]
    database.begin_fill("f")
    database.apply(world.chunk("f", 2, world.customer(nul, 2), to=nul))
    database.apply(world.chunk("f", 3, world.customer("erp:c", 3), after=nul, last=True))
    database.apply(
        world.message(
            world.customer(nul, 4, "delete"),
            world.customer("erp:d", 4, "create", previous_id=nul),
            world.order("o1", 4),
        )
    )
    database.tend()

    assert [row["id"] for row in database.rows("customer")] == ["erp:c", "erp:d"]
    assert [row["id"] for row in database.rows("sales_order")] == ["o1", "o2"]
    assert database.set_aside() == {}
    assert database.fill() == ("f", "", True)


def test_a_record_with_a_long_id_stops_nothing_and_its_delete_closes_it(database, world):
    long = "erp:" + "x" * 300
    database.apply(
        world.message(
            world.customer(long, 1, name=database.poison),
            world.order("o1", 1, customer_id=long),
            world.order("o2", 1),
        )
    )
    assert [row["id"] for row in database.rows("sales_order")] == ["o2"]
    assert sorted(database.set_aside().values()) == [1, 1]
    told = targets.set_aside(database.spec, world.decoder)
    assert [*told[f"{database.prefix}customer"]] == [long]
    database.apply(world.message(world.customer(long, 2, "delete"), world.order("o1", 2)))
    database.tend()

    assert [row["id"] for row in database.rows("sales_order")] == ["o1", "o2"]
    assert database.set_aside() == {}


MIB = 1 << 20


@pytest.fixture(params=["mariadb", "mysql"])
def narrow(request, world):
    """A target that takes no statement above 2 MiB."""
    environment = environment_of(request.param, request)
    stack = request.getfixturevalue("stack_instance")
    admin_dsn = stack.mariadb_admin_dsn() if request.param == "mariadb" else stack.mysql_admin_dsn()
    with closing(pymysql.connect(**mysql_arguments(admin_dsn))) as admin:
        cursor = admin.cursor()
        cursor.execute("select @@global.max_allowed_packet")
        ((before,),) = cursor.fetchall()
        made = make_target(request.param, world, environment)
        table = made.own(made.prefix + "customer")
        made.query(f"alter table {table} modify name longtext")
        cursor.execute(f"set global max_allowed_packet = {2 * MIB}")
        yield made
        cursor.execute(f"set global max_allowed_packet = {before}")
        made.close()


def test_many_rows_are_more_statements_where_the_server_takes_only_small_ones(
    narrow, world, monkeypatch
):
    rows = [world.customer(f"c{n}", 1, name="长" * 100_000) for n in range(20)]
    monkeypatch.setattr(relational.RelationalSink, "_carefully", None)  # at once, or not at all
    narrow.apply(world.message(*rows))

    assert len(names(narrow)) == 20
    assert narrow.set_aside() == {}


def test_a_record_that_no_statement_has_room_for_is_set_aside_and_its_neighbours_arrive(
    narrow, world
):
    rows = [
        world.customer("large", 1, name="\\" * (3 * MIB // 2)),
        world.customer("larger", 1, name="x" * 3 * MIB),
        world.customer("small", 1, name="a"),
    ]
    narrow.apply(world.message(*rows))
    narrow.tend()
    narrow.tend()
    assert names(narrow) == {"small": "a"}
    assert narrow.set_aside() == {"large": 1, "larger": 1}
    reasons = narrow.query(
        f"select record_key, reason from {narrow.own('tongbu_set_aside')} "
        f"where binding = '{narrow.spec.binding}'"
    )
    assert all("max_allowed_packet" in reason for _, reason in reasons)
    narrow.apply(world.message(world.customer("large", 2, name="b"), world.customer("larger", 2)))

    assert names(narrow) == {"large": "b", "larger": None, "small": "a"}
    assert narrow.set_aside() == {}

"""What only databases have: unique values, keys that the target's owner added, values at their limits."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from sink_writers import targets
from sink_writers.changes import Changes
from sink_writers.sink import Fenced, Move, Position, TryLater
from sink_writers.sinks.mariadb import _parents_first

pytestmark = pytest.mark.integration


@pytest.fixture
def unique(database):
    """A target whose owner wants customers to have unique names."""
    table = database.own(database.prefix + "customer")
    column = "name" if database.spec.kind == "postgresql" else "name(100)"
    database.query(f"create unique index unique_{database.place.binding} on {table} ({column})")
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


def test_reasons_name_the_trouble_and_never_a_value(unique, world):
    unique.apply(world.message(world.customer("c1", 1, name="secret")))
    unique.apply(world.message(world.customer("c2", 2, name="secret")))
    (reason,) = unique.query(
        f"select reason from {unique.own('tongbu_set_aside')} "
        f"where binding = '{unique.spec.binding}'"
    )[0]

    assert f"unique_{unique.place.binding}" in reason
    assert "secret" not in reason


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


def test_parents_come_first_where_rows_are_checked_one_by_one():
    rows = [{"id": id_, "up": up} for id_, up in (("c", "b"), ("a", "x"), ("b", "a"), ("d", None))]

    assert [row["id"] for row in _parents_first(rows, "up")] == ["a", "b", "c", "d"]


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

"""What every relational sink must do; a new kind gets these tests for free."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sink_writers.sink import Fenced, OtherTopic, Place, Position


def test_an_order_arrives_with_its_lines_and_exact_values(target, world):
    target.apply(
        world.message(world.order("o1", 7, lines={1: "p1", 2: "p2"}, ext={"门店": "上海"}))
    )

    order = target.rows("sales_order")[0]
    assert (order["id"], order["version"], order["status"]) == ("o1", 7, "draft")
    assert (order["gross_amount"], order["gross_currency"]) == (Decimal("12.3456"), "CNY")
    assert order["ext"] == {"门店": "上海"}
    assert order["closed"] is False
    assert [
        (row["sales_order_id"], row["line_no"], row["product_id"])
        for row in target.rows("sales_order_line")
    ] == [
        ("o1", 1, "p1"),
        ("o1", 2, "p2"),
    ]


def test_a_late_older_version_never_moves_a_row_back(target, world):
    target.apply(world.message(world.order("o1", 9, code="new", lines={1: "new"})))
    target.apply(world.message(world.order("o1", 8, code="old", lines={1: "old", 2: "old"})))

    assert [row["code"] for row in target.rows("sales_order")] == ["new"]
    assert [row["product_id"] for row in target.rows("sales_order_line")] == ["new"]


def test_the_same_message_twice_changes_nothing(target, world):
    message = world.message(
        world.order("o1", 7, lines={1: "p1"}), world.customer("c1", 7, name="张三")
    )
    target.apply(message)
    before = [target.rows(table) for table in ("customer", "sales_order", "sales_order_line")]
    target.apply(message, message)

    assert [
        target.rows(table) for table in ("customer", "sales_order", "sales_order_line")
    ] == before


def test_lines_that_are_gone_go_and_new_ones_come(target, world):
    target.apply(world.message(world.order("o1", 1, lines={1: "p1", 2: "p2", 3: "p3"})))
    target.apply(world.message(world.order("o1", 2, lines={2: "p2", 3: "other", 4: "p4"})))

    lines = [(row["line_no"], row["product_id"]) for row in target.rows("sales_order_line")]
    assert lines == [(2, "p2"), (3, "other"), (4, "p4")]


def test_an_order_may_lose_all_its_lines(target, world):
    target.apply(world.message(world.order("o1", 1, lines={1: "p1"})))
    target.apply(world.message(world.order("o1", 2)))

    assert target.rows("sales_order_line") == []
    assert len(target.rows("sales_order")) == 1


def test_a_delete_takes_the_row_with_its_lines(target, world):
    target.apply(
        world.message(world.order("o1", 1, lines={1: "p1"}), world.order("o2", 1, lines={1: "p1"}))
    )
    target.apply(world.message(world.order("o1", 2, "delete")))

    assert [row["id"] for row in target.rows("sales_order")] == ["o2"]
    assert [row["sales_order_id"] for row in target.rows("sales_order_line")] == ["o2"]


def test_an_old_record_does_not_bring_a_deleted_row_back(target, world):
    target.apply(world.message(world.order("o1", 5, "delete")))
    target.apply(world.message(world.order("o1", 4, lines={1: "p1"})))

    assert target.rows("sales_order") == []
    assert target.rows("sales_order_line") == []


def test_a_newer_record_brings_a_deleted_row_back(target, world):
    target.apply(world.message(world.order("o1", 4)))
    target.apply(world.message(world.order("o1", 5, "delete")))
    target.apply(world.message(world.order("o1", 6, "create", code="again")))

    assert [row["code"] for row in target.rows("sales_order")] == ["again"]


def test_an_old_delete_leaves_a_newer_row_alone(target, world):
    target.apply(world.message(world.order("o1", 6, lines={1: "p1"})))
    target.apply(world.message(world.order("o1", 5, "delete")))

    assert len(target.rows("sales_order")) == 1
    assert len(target.rows("sales_order_line")) == 1


def test_many_versions_in_one_batch_leave_the_highest(target, world):
    target.apply(
        world.message(world.order("o1", 1, lines={1: "p1"})),
        world.message(world.order("o1", 2, "delete")),
        world.message(world.order("o1", 3, "create", code="last", lines={5: "p5"})),
        world.message(world.order("o2", 4, lines={1: "p1"})),
        world.message(world.order("o2", 5, "delete")),
    )

    assert [(row["id"], row["code"]) for row in target.rows("sales_order")] == [("o1", "last")]
    assert [row["line_no"] for row in target.rows("sales_order_line")] == [5]


def test_a_new_owner_goes_on_where_the_last_one_stopped(target, world):
    first = target.sink()
    at = first.claim(target.place)
    first.apply(target.place, at, [world.message(world.order("o1", 7))], Position(12, 7, at.epoch))

    assert target.sink().claim(target.place) == Position(12, 7, at.epoch + 1)


def test_a_second_owner_stops_the_first(target, world):
    first, second = target.sink(), target.sink()
    at = first.claim(target.place)
    second.claim(target.place)

    with pytest.raises(Fenced):
        first.apply(
            target.place, at, [world.message(world.order("o1", 7))], Position(1, 7, at.epoch)
        )
    assert target.rows("sales_order") == []


def test_an_apply_that_was_done_may_be_asked_for_again(target, world):
    sink = target.sink()
    at = sink.claim(target.place)
    to = Position(1, 7, at.epoch)
    message = world.message(world.order("o1", 7, code="once"))
    sink.apply(target.place, at, [message], to)

    assert sink.apply(target.place, at, [message], to) is None
    assert sink.claim(target.place).next_offset == 1


def test_a_position_of_another_topic_stops_the_binding(target):
    target.sink().claim(target.place)
    made_anew = Place(target.place.binding, target.place.topic, "topic-b", target.place.partition)

    with pytest.raises(OtherTopic, match="made anew"):
        target.sink().claim(made_anew)


def test_a_refused_record_is_set_aside_and_its_neighbours_arrive(target, world):
    target.apply(
        world.message(
            world.customer("c1", 1, name="一"),
            world.customer("c2", 1, name=target.poison),
            world.order("o1", 1),
        ),
        world.message(world.customer("c3", 2, name="三"), world.order("o2", 2, lines={1: "p1"})),
    )

    assert [row["id"] for row in target.rows("customer")] == ["c1", "c3"]
    assert [row["id"] for row in target.rows("sales_order")] == ["o1", "o2"]
    assert target.set_aside() == {"c2": 1}


def test_a_later_record_closes_what_was_set_aside(target, world):
    target.apply(
        world.message(
            world.customer("c1", 1, name=target.poison), world.customer("c2", 1, name=target.poison)
        )
    )
    target.apply(
        world.message(world.customer("c1", 2, name="好"), world.customer("c2", 2, "delete"))
    )

    assert [row["name"] for row in target.rows("customer")] == ["好"]
    assert target.set_aside() == {}


def test_a_record_that_can_not_be_decoded_is_set_aside(target, world):
    good = world.customer("c1", 1, name="一")
    broken = world.customer("c2", 1, name="二")
    damaged = type(broken)(
        broken.topic, broken.key, broken.operation, broken.version, broken.value[:9]
    )
    target.apply(world.message(good, damaged))

    assert [row["id"] for row in target.rows("customer")] == ["c1"]
    assert target.set_aside() == {"c2": 1}

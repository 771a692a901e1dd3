"""What every relational sink must do; a new kind gets these tests for free."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from types import SimpleNamespace

import pytest

from sink_writers.binding_tables import tables
from sink_writers.changes import Rows
from sink_writers.dialects.postgresql import sql_type
from sink_writers.sink import Fenced, OtherTopic, Place, Position, Refused, TryLater
from sink_writers.sinks.memory import MemorySink


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


def test_all_messages_three_times_over_change_nothing(target, world):
    messages = [
        world.message(
            world.customer("erp:c1", 1), world.order("erp:o1", 1, lines={1: "p", 2: "p"})
        ),
        world.message(world.order("erp:o1", 2, lines={2: "q"}, customer_id="erp:c1")),
        world.message(world.order("erp:o2", 3, lines={1: "p"})),
        world.message(
            world.customer("erp:c1", 4, "delete"),
            world.customer("erp:c2", 4, "create", previous_id="erp:c1"),
            world.order("erp:o1", 4, lines={2: "q"}, customer_id="erp:c2"),
        ),
        world.message(world.order("erp:o2", 5, "delete")),
    ]
    tables = ("customer", "sales_order", "sales_order_line")
    target.apply(*messages)
    before = [target.rows(table) for table in tables]
    for _ in range(3):
        target.apply(*messages)
        for message in messages:
            target.apply(message)

    assert [target.rows(table) for table in tables] == before
    assert [row["id"] for row in before[0]] == ["erp:c2"]
    assert target.set_aside() == {}


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
    message, to = world.message(world.order("o1", 7)), Position(1, 7, at.epoch)

    with suppress(TryLater, Fenced):  # where its connection was ended, it finds that out first
        first.apply(target.place, at, [message], to)
    with pytest.raises(Fenced):
        first.apply(target.place, at, [message], to)
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


def test_the_reason_of_a_record_that_can_not_be_decoded_does_not_have_its_value(binding, world):
    def decode(_):
        raise ValueError("secret")

    found = tables(binding, world.catalog, sql_type)
    rows = Rows(found, SimpleNamespace(decode=decode))
    with pytest.raises(Refused, match="ValueError") as refused:
        rows.writable(world.customer("c1", 1))
    assert "secret" not in str(refused.value)


def test_a_record_with_two_child_rows_of_one_key_is_set_aside_and_its_neighbours_arrive(
    target, world
):
    target.apply(
        world.message(
            world.order("o1", 1, lines=[(1, "p1"), (1, "p2")]),
            world.order("o2", 1, lines={1: "p1"}),
        )
    )

    assert [row["id"] for row in target.rows("sales_order")] == ["o2"]
    assert [row["product_id"] for row in target.rows("sales_order_line")] == ["p1"]
    assert target.set_aside() == {"o1": 1}


# -- references between entities


def test_children_and_parents_of_one_batch_arrive_in_any_order(target, world):
    target.apply(
        world.message(world.order("erp:o1", 1, customer_id="erp:c1")),
        world.message(world.customer("erp:c1", 2)),
    )

    assert [row["customer_id"] for row in target.rows("sales_order")] == ["erp:c1"]
    assert target.set_aside() == {}


def test_a_record_without_its_parent_is_set_aside_and_its_neighbours_arrive(target, world):
    target.apply(
        world.message(
            world.order("erp:o1", 1, customer_id="oa:c1", lines={1: "p"}), world.order("erp:o2", 1)
        )
    )

    assert [row["id"] for row in target.rows("sales_order")] == ["erp:o2"]
    assert target.rows("sales_order_line") == []
    assert target.set_aside() == {"erp:o1": 1}


def test_what_waits_for_its_parent_follows_when_it_comes(target, world):
    target.apply(world.message(world.order("erp:o1", 1, customer_id="oa:c1", lines={1: "p"})))
    target.tend()
    assert target.rows("sales_order") == []
    target.apply(world.message(world.customer("oa:c1", 2)))
    target.tend()

    assert [row["version"] for row in target.rows("sales_order")] == [1]
    assert len(target.rows("sales_order_line")) == 1
    assert target.set_aside() == {}


def test_what_waits_is_due_at_once_when_its_parent_comes_and_after_a_release(target, world):
    sink = target.sink()
    target.apply(world.message(world.order("erp:o1", 1, customer_id="oa:c1")))
    target.apply(world.message(world.customer("oa:c9", 2)))
    assert not sink.due
    target.apply(world.message(world.customer("oa:c1", 3)))
    tries_again = not isinstance(sink, MemorySink)  # which has tried it already
    assert sink.due is tries_again
    target.tend()
    assert not sink.due
    assert target.set_aside() == {}
    target.apply(world.message(world.customer("oa:c2", 4), kind="release"))

    assert sink.due is tries_again


def test_a_later_state_without_the_missing_parent_closes_the_letter(target, world):
    target.apply(world.message(world.order("erp:o1", 1, customer_id="oa:c1")))
    target.apply(world.message(world.order("erp:o1", 2)))
    target.apply(world.message(world.customer("oa:c1", 3)))
    target.tend()

    assert [row["version"] for row in target.rows("sales_order")] == [2]
    assert target.set_aside() == {}


def test_the_letter_keeps_the_latest_state_that_waits(target, world):
    target.apply(world.message(world.order("erp:o1", 1, customer_id="oa:c1", code="one")))
    target.apply(world.message(world.order("erp:o1", 2, customer_id="oa:c1", code="two")))
    assert target.set_aside() == {"erp:o1": 2}
    target.apply(world.message(world.customer("oa:c1", 3)))
    target.tend()

    assert [row["code"] for row in target.rows("sales_order")] == ["two"]


def test_a_parent_may_go_with_its_children(target, world):
    target.apply(
        world.message(
            world.customer("erp:c1", 1),
            world.order("erp:o1", 1, customer_id="erp:c1", lines={1: "p"}),
        )
    )
    target.apply(
        world.message(world.customer("erp:c1", 2, "delete"), world.order("erp:o1", 2, "delete"))
    )

    assert target.rows("customer") == target.rows("sales_order") == []
    assert target.set_aside() == {}


def test_a_parent_that_others_still_need_stays_until_they_go(target, world):
    target.apply(
        world.message(world.customer("erp:c1", 1), world.order("erp:o1", 1, customer_id="erp:c1"))
    )
    target.apply(world.message(world.customer("erp:c1", 2, "delete")))
    assert [row["id"] for row in target.rows("customer")] == ["erp:c1"]
    assert target.set_aside() == {"erp:c1": 2}
    target.apply(world.message(world.order("erp:o1", 3, "delete")))
    target.tend()

    assert target.rows("customer") == []
    assert target.set_aside() == {}


def test_a_table_may_refer_to_itself(target, world):
    target.apply(
        world.message(
            world.unit("oa:d3", 1, parent_id="oa:d2"),
            world.unit("oa:d2", 1, parent_id="oa:d1"),
            world.unit("oa:d1", 1),
        )
    )
    assert [row["id"] for row in target.rows("org_unit")] == ["oa:d1", "oa:d2", "oa:d3"]
    target.apply(world.message(*(world.unit(f"oa:d{number}", 2, "delete") for number in (1, 2, 3))))

    assert target.rows("org_unit") == []
    assert target.set_aside() == {}


def test_a_whole_branch_waits_for_the_missing_root(target, world):
    target.apply(
        world.message(
            world.unit("oa:d3", 1, parent_id="oa:d2"), world.unit("oa:d2", 1, parent_id="oa:d1")
        )
    )
    assert target.set_aside() == {"oa:d2": 1, "oa:d3": 1}
    target.apply(world.message(world.unit("oa:d1", 2)))
    target.tend()
    target.tend()

    assert len(target.rows("org_unit")) == 3
    assert target.set_aside() == {}


def test_rows_that_refer_to_a_moved_id_follow_it(target, world):
    target.apply(
        world.message(world.customer("erp:c1", 1), world.order("erp:o1", 1, customer_id="erp:c1"))
    )
    target.apply(
        world.message(
            world.customer("erp:c1", 2, "delete"),
            world.customer("erp:c2", 2, "create", previous_id="erp:c1"),
        ),
        world.message(
            world.customer("erp:c2", 3, "delete"),
            world.customer("erp:c3", 3, "create", previous_id="erp:c2"),
        ),
    )

    assert [row["id"] for row in target.rows("customer")] == ["erp:c3"]
    assert [row["customer_id"] for row in target.rows("sales_order")] == ["erp:c3"]
    assert target.set_aside() == {}


def test_rows_that_came_with_a_move_or_after_it_do_not_follow_it(target, world):
    """Codes are shifted, and the orders of one customer with them: c2 becomes c3, then c1 becomes c2."""
    customer, order = world.customer, world.order
    target.apply(
        world.message(
            customer("c1", 1),
            customer("c2", 1),
            customer("p1", 1),
            world.unit("u1", 1),
            world.unit("u2", 1, parent_id="u1"),
            *(order(f"o{n}", 1, customer_id=f"c{n}") for n in (1, 2)),
            *(order(f"old{n}", 1, customer_id=f"c{n}") for n in (1, 2)),
        )
    )
    target.apply(
        world.message(
            customer("c3", 2, "create", previous_id="c2"),
            customer("c2", 2, previous_id="c1"),
            customer("c1", 2, "delete"),
            order("o1", 2, customer_id="c2"),
            order("o2", 2, customer_id="c3"),
            world.unit("u3", 2, "create", previous_id="u1"),
            world.unit("u1", 2, parent_id="u3"),
            world.unit("u4", 2, parent_id="u1"),
        )
    )

    orders = {row["id"]: row["customer_id"] for row in target.rows("sales_order")}
    assert orders == {"o1": "c2", "o2": "c3", "old1": "c2", "old2": "c3"}
    parents = {row["id"]: row["parent_id"] for row in target.rows("org_unit")}
    assert parents == {"u1": "u3", "u2": "u3", "u3": None, "u4": "u1"}
    assert target.set_aside() == {}


# -- fills


def customers(target):
    return [(row["id"], row["version"]) for row in target.rows("customer")]


def test_a_fill_brings_what_is_missing_and_deletes_what_is_left_over(target, world):
    target.apply(
        world.message(
            *(world.customer(f"erp:c{number}", 1) for number in (1, 3, 5, 9)),
            world.customer("oa:c2", 1),
        )
    )
    target.begin_fill("f1")
    first = [world.customer(f"erp:c{number}", 7, "snapshot") for number in (1, 2)]
    target.apply(world.chunk("f1", 7, *first, after="", to="erp:c4"))
    assert target.fill() == ("f1", "erp:c4", False)
    assert [id_ for id_, _ in customers(target)] == [
        "erp:c1",
        "erp:c2",
        "erp:c5",
        "erp:c9",
        "oa:c2",
    ]
    last = world.customer("erp:c5", 8, "snapshot")
    target.apply(world.chunk("f1", 8, last, after="erp:c4", to="erp:c5", last=True))

    assert customers(target) == [("erp:c1", 7), ("erp:c2", 7), ("erp:c5", 8), ("oa:c2", 1)]
    assert target.fill() == ("f1", "", True)


def test_live_records_between_chunks_win_over_them(target, world):
    target.begin_fill("f1")
    target.apply(world.message(world.customer("erp:c2", 9, name="live")))
    target.apply(
        world.chunk("f1", 7, world.customer("erp:c2", 7, "snapshot"), to="erp:c2", last=True)
    )
    target.apply(world.message(world.customer("erp:c3", 10)))

    assert customers(target) == [("erp:c2", 9), ("erp:c3", 10)]


def test_a_giant_whose_last_part_only_names_withheld_ids_is_applied(target, world):
    target.apply(world.giant([world.customer("erp:c1", 7)], []))

    assert customers(target) == [("erp:c1", 7)]


def test_ids_that_a_chunk_names_as_withheld_stay(target, world):
    target.apply(world.message(world.customer("erp:c1", 1), world.customer("erp:c2", 1)))
    target.begin_fill("f1")
    target.apply(world.chunk("f1", 7, to="erp:c2", last=True, withheld=("erp:c2",)))

    assert customers(target) == [("erp:c2", 1)]


def test_chunks_of_another_fill_delete_nothing_and_are_no_progress(target, world):
    target.apply(world.message(world.customer("erp:c1", 1)))
    target.begin_fill("first")
    target.begin_fill("second")
    target.apply(world.chunk("first", 7, to="erp:c9", last=True))
    target.apply(world.chunk("second", 8, after="erp:c5", to="erp:c9", last=True))

    assert customers(target) == [("erp:c1", 1)]
    assert target.fill() == ("second", "", False)


def test_a_repeated_chunk_is_no_progress(target, world):
    target.begin_fill("f1")
    chunk = world.chunk("f1", 7, world.customer("erp:c1", 7, "snapshot"), to="erp:c1")
    target.apply(chunk)
    target.apply(chunk, world.chunk("f1", 9, after="erp:c1", to="erp:c1", last=True))

    assert customers(target) == [("erp:c1", 7)]
    assert target.fill() == ("f1", "", True)


def test_what_a_fill_finds_left_over_is_fenced(target, world):
    target.apply(world.message(world.customer("erp:c1", 1)))
    target.begin_fill("f1")
    target.apply(world.chunk("f1", 7, last=True))
    target.apply(world.message(world.customer("erp:c1", 6)))

    assert customers(target) == []


def test_what_is_left_over_but_still_referred_to_goes_when_it_can(target, world):
    target.apply(
        world.message(
            *(world.customer(f"erp:c{number}", 1) for number in (1, 2)),
            world.order("erp:o1", 1, customer_id="erp:c1"),
        )
    )
    target.begin_fill("f1")
    target.apply(world.chunk("f1", 7, world.customer("erp:c3", 7, "snapshot"), last=True))
    assert [id_ for id_, _ in customers(target)] == ["erp:c1", "erp:c3"]
    assert target.set_aside() == {"erp:c1": 7}
    target.apply(world.message(world.order("erp:o1", 8, "delete")))
    target.tend()

    assert customers(target) == [("erp:c3", 7)]
    assert target.fill() == ("f1", "", True)


# -- transactions too large for memory


def test_a_giant_is_applied_at_once_in_whatever_part_its_parents_come(target, world):
    target.apply(
        world.message(world.customer("erp:c9", 1), world.order("erp:o9", 1, customer_id="erp:c9"))
    )
    target.apply(
        world.giant(
            [world.order("erp:o1", 2, customer_id="erp:c1"), world.customer("erp:c9", 2, "delete")],
            [world.order("erp:o2", 2, customer_id="erp:c2"), world.order("erp:o9", 2, "delete")],
            [world.customer("erp:c1", 2), world.customer("erp:c2", 2)],
        )
    )

    assert [row["id"] for row in target.rows("sales_order")] == ["erp:o1", "erp:o2"]
    assert [row["id"] for row in target.rows("customer")] == ["erp:c1", "erp:c2"]
    assert target.set_aside() == {}

"""Comparing a target table with what it should hold."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sink_writers.tables import Column, TargetTable
from tongbu.parity import Difference, Parity, compare, compared_columns

TABLE = TargetTable(
    entity="sales_order",
    topic="canonical.sales_order.v1",
    name="sales_order",
    columns=(
        Column("id", ("id",), "text", "key"),
        Column("gross_amount", ("gross", "amount"), "numeric(38,10)", "decimal(38,10)"),
        Column("gross_currency", ("gross", "currency"), "text", "text"),
        Column("approval_route", ("approval_route",), "text", "text"),
        Column("refs", ("refs",), "jsonb", "json"),
        Column("version", ("meta", "version"), "bigint", "bigint"),
    ),
    key=("id",),
)
LINES = TargetTable(
    entity="sales_order",
    topic="canonical.sales_order.v1",
    name="sales_order_line",
    columns=(
        Column("sales_order_id", ("id",), "text", "key"),
        Column("line_no", ("line_no",), "integer", "integer"),
        Column("product_name", ("product_name",), "text", "text"),
    ),
    key=("sales_order_id", "line_no"),
    parent="sales_order",
    array="lines",
)


def row(id_: str, **values: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "gross_amount": Decimal("10.5"),
        "gross_currency": "CNY",
        "approval_route": "auto_approve",
        "refs": [],
        "version": 1,
    } | values


def parity(
    expected: list[dict[str, Any]],
    actual: list[dict[str, Any]],
    late: frozenset[tuple[str, ...]] = frozenset(),
    set_apart: frozenset[str] = frozenset(),
) -> Parity:
    found = Parity()
    compare(TABLE, expected, actual, late, set_apart, found)
    return found


def test_equal_rows_have_no_mismatch_and_versions_do_not_count() -> None:
    found = parity([row("a"), row("b")], [row("b", version=9), row("a")])
    assert (found.rows, found.mismatches) == (2, 0)


def test_missing_extra_and_differing_rows_are_named_without_their_values() -> None:
    found = parity(
        [row("a"), row("b"), row("c")],
        [row("a", gross_amount=Decimal("10.6"), gross_currency="USD"), row("c"), row("d")],
    )
    assert found.rows == 4
    assert found.first == [
        Difference("sales_order", ("a",), "differs", ("gross_amount", "gross_currency")),
        Difference("sales_order", ("d",), "extra"),
        Difference("sales_order", ("b",), "missing"),
    ]


def test_a_null_is_not_an_empty_text_and_not_a_zero() -> None:
    found = parity([row("a")], [row("a", gross_amount=None, gross_currency="")])
    assert found.first[0].columns == ("gross_amount", "gross_currency")


def test_json_columns_compare_by_content() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    should = [{"amount": Decimal("1.0"), "at": at}]
    same = [{"at": "2026-01-01T00:00:00+00:00", "amount": "1.0"}]
    assert parity([row("a", refs=should)], [row("a", refs=same)]).mismatches == 0
    assert parity([row("a", refs=should)], [row("a", refs=[])]).mismatches == 1


def test_fields_as_of_the_last_change_are_left_out_and_only_those() -> None:
    late = frozenset({("approval_route",), ("gross", "currency"), ("lines", "product_name")})
    assert compared_columns(TABLE, late) == ["gross_amount", "refs"]
    assert compared_columns(LINES, late) == []
    assert compared_columns(TABLE, {("gross",)}) == ["approval_route", "refs"]


def test_rows_of_ids_set_apart_are_not_looked_at() -> None:
    found = parity(
        [row("a"), row("b")], [row("b", gross_amount=None)], set_apart=frozenset({"a", "b"})
    )
    assert (found.rows, found.mismatches) == (0, 0)

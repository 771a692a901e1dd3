"""The checksum of a target's content."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongbu.checksum import of_rows

ROWS = [
    ("sales_order", {"id": "erp:1", "gross_amount": Decimal("12.5000"), "version": 7}),
    ("sales_order", {"id": "erp:2", "gross_amount": None, "version": 8}),
    ("sales_order_line", {"sales_order_id": "erp:1", "line_no": 1}),
]


@given(st.permutations(ROWS))
def test_the_order_of_rows_does_not_matter(rows: list[tuple[str, dict[str, Any]]]) -> None:
    assert of_rows(rows) == of_rows(ROWS)


@pytest.mark.parametrize(
    "changed",
    [
        ("sales_order", {"id": "erp:2", "gross_amount": Decimal(0), "version": 8}),
        ("sales_order", {"id": "erp:2", "gross_amount": None, "version": 9}),
        ("customer", {"id": "erp:2", "gross_amount": None, "version": 8}),
    ],
)
def test_a_changed_value_version_or_table_shows(changed: tuple[str, dict[str, Any]]) -> None:
    assert of_rows([ROWS[0], changed, ROWS[2]]).checksum != of_rows(ROWS).checksum


def test_a_row_that_is_there_twice_shows() -> None:
    assert of_rows([*ROWS, ROWS[0]]).checksum != of_rows(ROWS).checksum
    assert of_rows([*ROWS, ROWS[0], ROWS[0]]).checksum != of_rows(ROWS).checksum


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("12.5000"), Decimal("12.5")),
        (Decimal("-0.00"), Decimal(0)),
        (Decimal("1E+3"), Decimal(1000)),
        (
            datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (date(2026, 1, 1), date(2026, 1, 1)),
    ],
)
def test_a_value_counts_the_same_however_a_driver_spells_it(one: object, other: object) -> None:
    assert of_rows([("t", {"v": one})]) == of_rows([("t", {"v": other})])


def test_all_38_digits_of_a_decimal_count() -> None:
    one, other = (
        "1234567890123456789012345678.0000000001",
        "1234567890123456789012345678.0000000002",
    )
    assert of_rows([("t", {"v": Decimal(one)})]) != of_rows([("t", {"v": Decimal(other)})])


def test_no_rows_have_a_checksum_too() -> None:
    assert of_rows([]).as_json() == {"rows": 0, "checksum": "0" * 32}

"""The approval route at its boundaries: it approves only what is beyond doubt."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from demo_world import RULES

from streams.stages.map import Aggregate
from streams.stages.rules import compile_rule

RULE = compile_rule(next(each.value for each in RULES if each.value.rule == "approval_route"))


def route(amount: Any, grade: Any, currency: Any = "CNY") -> str:
    record = {"gross": {"amount": amount, "currency": currency}, "currency": currency}
    customer = {"cCusDefine1": grade}
    aggregate = Aggregate(root={}, singles={"customer": customer}, record=record)
    return RULE(aggregate)["approval_route"]


@pytest.mark.parametrize("amount", ["100000.01", "100000.0001", "100001", "1000000000"])
def test_an_order_above_the_limit_of_a_grade_a_customer_approves_itself(amount: str) -> None:
    assert route(Decimal(amount), "A") == "auto_approve"


@pytest.mark.parametrize("amount", ["100000", "100000.0000", "99999.99", "0", "-100001"])
def test_up_to_the_limit_the_finance_director_decides(amount: str) -> None:
    assert route(Decimal(amount), "A") == "finance_director"


@pytest.mark.parametrize("grade", ["a", "B", " A", "A ", "AA", "Ａ", "", None, 1, True])
def test_any_other_grade_goes_to_the_finance_director(grade: Any) -> None:
    assert route(Decimal(200_000), grade) == "finance_director"


@pytest.mark.parametrize(
    "amount", [None, "200000", 200_000.0, 200_000, True, Decimal("NaN"), Decimal("-Infinity")]
)
def test_an_amount_that_is_missing_or_no_decimal_goes_to_the_finance_director(amount: Any) -> None:
    assert route(amount, "A") == "finance_director"


def test_an_amount_that_the_engine_would_see_rounded_goes_to_the_finance_director() -> None:
    assert route(Decimal("1234567890123456.78"), "A") == "finance_director"


@pytest.mark.parametrize("currency", ["USD", "XXX", "cny", "", None])
def test_the_limit_is_in_yuan_so_other_currencies_go_to_the_finance_director(currency: Any) -> None:
    assert route(Decimal(200_000), "A", currency) == "finance_director"


def test_an_order_without_lines_goes_to_the_finance_director() -> None:
    aggregate = Aggregate(
        root={},
        singles={"customer": {"cCusDefine1": "A"}},
        record={"gross": None, "currency": "CNY"},
    )
    assert RULE(aggregate) == {"approval_route": "finance_director"}


def test_an_order_whose_customer_is_not_known_goes_to_the_finance_director() -> None:
    record = {"gross": {"amount": Decimal(200_000), "currency": "CNY"}, "currency": "CNY"}
    aggregate = Aggregate(root={}, singles={"customer": None}, record=record)
    assert RULE(aggregate) == {"approval_route": "finance_director"}

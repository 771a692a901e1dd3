"""Rows as a driver gives them, in the form that Debezium gives them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from schemas.captured import Column, Table
from tongbu.source_rows import MARIADB, POSTGRESQL, Form, forms, to_row


def convert(type_: str, value: Any, known: dict[str, Form]) -> Any:
    table = Table(schema="s", name="t", columns=(Column(name="c", type=type_),))
    return to_row(forms(table, known), [value])["c"]


SHANGHAI = timezone(timedelta(hours=8))


@pytest.mark.parametrize(
    ("type_", "value", "form"),
    [
        ("integer", 7, 7),
        ("boolean", True, True),
        ("character varying(20)", "订单", "订单"),
        ("numeric(20,4)", Decimal("10.0000"), "10.0000"),
        ("numeric(38,10)", Decimal("0E-10"), "0.0000000000"),
        ("double precision", 0.5, 0.5),
        ("date", date(1970, 1, 11), 10),
        ("date", date(1969, 12, 31), -1),
        ("timestamp without time zone", datetime(1970, 1, 1, 0, 0, 1), 1_000_000),
        ("timestamp(3) without time zone", datetime(1970, 1, 1, 0, 0, 0, 5000), 5000),
        (
            "timestamp with time zone",
            datetime(2026, 1, 1, 8, tzinfo=SHANGHAI),
            "2026-01-01T00:00:00Z",
        ),
        ("time without time zone", time(0, 0, 1, 2), 1_000_002),
        ("bytea", b"\xff", "/w=="),
        ("numeric(20,4)", None, None),
    ],
)
def test_values_of_postgresql(type_: str, value: Any, form: Any) -> None:
    found = convert(type_, value, POSTGRESQL)
    assert (type(found), found) == (type(form), form)


@pytest.mark.parametrize(
    ("type_", "value", "form"),
    [
        ("int(11)", 7, 7),
        ("int(10) unsigned", 7, 7),
        ("tinyint(1)", 1, 1),
        ("varchar(200)", "审批", "审批"),
        ("decimal(15,2)", Decimal("10.00"), "10.00"),
        ("decimal(15,2) unsigned", Decimal("10.00"), "10.00"),
        ("date", date(1970, 1, 11), 10),
        ("date", "0000-00-00", None),
        ("datetime", datetime(1970, 1, 1, 0, 0, 1), 1_000_000),
        ("datetime(6)", "0000-00-00 00:00:00", None),
        (
            "timestamp",
            datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None),
            "2026-01-01T00:00:00Z",
        ),
        ("time", timedelta(hours=-12), -43_200_000_000),
        ("bit(1)", b"\x01", True),
        ("blob", b"\xff", "/w=="),
    ],
)
def test_values_of_mariadb(type_: str, value: Any, form: Any) -> None:
    found = convert(type_, value, MARIADB)
    assert (type(found), found) == (type(form), form)

"""Rows as a driver gives them, in the form that Debezium gives them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from schemas.captured import Column, Table
from streams.stages.source_types import reader
from tongbu.source_rows import MARIADB, POSTGRESQL, Form, forms, read, to_row


def convert(type_: str, value: Any, known: dict[str, Form]) -> Any:
    table = Table(schema="s", name="t", columns=(Column(name="c", type=type_),))
    return to_row(forms(table, known), [value])["c"]


@pytest.mark.parametrize(
    ("type_", "value", "form"),
    [
        ("integer", 7, 7),
        ("boolean", True, True),
        ("character varying(20)", "订单", "订单"),
        ("numeric(20,4)", Decimal("10.0000"), "10.0000"),
        ("numeric(38,10)", Decimal("0E-10"), "0.0000000000"),
        ("double precision", 0.5, 0.5),
        ("date", "1970-01-11", 10),
        ("date", "1969-12-31", -1),
        ("timestamp without time zone", "1970-01-01 00:00:01", 1_000_000),
        ("timestamp(3) without time zone", "1970-01-01 00:00:00.005", 5000),
        ("timestamp with time zone", "2026-01-01 08:00:00+08", "2026-01-01T00:00:00Z"),
        ("time without time zone", "00:00:01.000002", 1_000_002),
        ("time without time zone", "24:00:00", 86_400_000_000),
        ("interval", "P1M-1D", "P0Y1M-1DT0H0M0S"),
        ("interval(3)", "P-1Y-2M3DT-4H-5M-6.789S", "P-1Y-2M3DT-4H-5M-6.789S"),
        ("interval", "PT0S", "P0Y0M0DT0H0M0S"),
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


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("date", "infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "10000-01-01"),
        ("timestamp without time zone", "-infinity"),
        ("timestamp with time zone", "infinity"),
    ],
)
def test_what_python_has_not_is_a_value_that_no_field_can_hold(type_: str, value: str) -> None:
    found = convert(type_, value, POSTGRESQL)

    with pytest.raises(ValueError, match=r"years|isoformat|zone"):
        reader(type_)(found)  # type: ignore[misc]


def test_a_row_is_read_whatever_its_times_and_addresses_are(stack: dict[str, str]) -> None:
    spelled = {
        "date": "infinity",
        "timestamp without time zone": "-infinity",
        "timestamp with time zone": "0044-03-15 00:00:00+00 BC",
        "time without time zone": "24:00:00",
        "inet": "10.0.0.1",
        "int4range": "[1,9)",
        "interval": "1 day -00:00:00.5",
    }
    columns = tuple(Column(name=f"c{at}", type=each) for at, each in enumerate(spelled))
    table = Table(schema="public", name="Odd", columns=columns)
    with psycopg.connect(stack["ERP_DSN"], autocommit=True) as erp:
        declared = ", ".join(f"{each.name} {each.type}" for each in columns)
        erp.execute(f'CREATE TABLE "Odd" ({declared})')
        erp.execute(
            f'INSERT INTO "Odd" VALUES ({", ".join("%s" for _ in spelled)})', [*spelled.values()]
        )
        (found,) = read(stack["ERP_DSN"], [table])
        erp.execute('DROP TABLE "Odd"')

    assert found.after is not None
    assert [found.after[name] for name in ("c3", "c4", "c5", "c6")] == [
        86_400_000_000,
        "10.0.0.1",
        "[1,9)",
        "P0Y0M1DT0H0M-0.5S",
    ]

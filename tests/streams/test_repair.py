"""What a snapshot brings of times before October 1582 is what the source holds."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.captured import Column, Table
from streams.records import Change, Position
from streams.stages.repair import repair, repairs

_MICROS = {
    # what Debezium 3.5.0 sends from a snapshot, seen on PostgreSQL -> what is stored
    -62_135_769_600_000_000: "0001-01-01 00:00:00",
    1_709_210_096_123_456: "2024-02-29 12:34:56.123456",
}


def _mended(column_type: str, value: object, operation: str = "r") -> object:
    table = Table(schema="s", name="t", columns=(Column(name="c", type=column_type),))
    change = Change("s.t", operation, None, {"c": value}, None, Position((0, 0), 0), None)
    repair(change, repairs(table))
    assert change.after is not None
    return change.after["c"]


@pytest.mark.parametrize(("sent", "stored"), _MICROS.items())
@pytest.mark.parametrize(
    "column_type", ["timestamp without time zone", "timestamp(3) without time zone"]
)
def test_a_time_of_a_snapshot_is_the_stored_one(column_type: str, sent: int, stored: str) -> None:
    micros = _mended(column_type, sent)

    assert isinstance(micros, int)
    assert datetime(1970, 1, 1) + timedelta(microseconds=micros) == datetime.fromisoformat(stored)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("0000-12-30T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z"),
        ("2024-02-29T04:34:56Z", "2024-02-29T04:34:56Z"),
        ("infinity", "infinity"),
    ],
)
def test_an_instant_of_a_snapshot_is_the_stored_one(sent: str, stored: str) -> None:
    assert _mended("timestamp with time zone", sent) == stored


@given(st.dates(max_value=date(1582, 10, 4)))
def test_every_julian_day_is_found_again(stored: date) -> None:
    """Java's shift, from the textbook: so many days lie between the same date in both calendars."""
    year = stored.year - (stored.month < 3)
    shift = year // 100 - year // 400 - 2
    sent = (stored - date(1970, 1, 1) + timedelta(days=shift)).days * 86_400_000_000

    mended = _mended("timestamp without time zone", sent)

    assert isinstance(mended, int)
    assert mended == (stored - date(1970, 1, 1)).days * 86_400_000_000


def test_streamed_times_are_right_and_stay() -> None:
    assert (
        _mended("timestamp without time zone", -62_135_769_600_000_000, "c")
        == -62_135_769_600_000_000
    )


def test_zero_of_types_that_begin_later_is_what_it_means() -> None:
    assert _mended("timestamp", "1970-01-01T00:00:00Z", "u") is None
    assert _mended("timestamp", "1970-01-01T00:00:01Z", "u") == "1970-01-01T00:00:01Z"
    assert _mended("year", 1900, "u") == 0


def test_an_unsigned_bigint_is_a_number_also_as_a_key_that_moves() -> None:
    column = Column(name="c", type="bigint(20) unsigned")
    table = Table(schema="s", name="t", columns=(column,), key=("c",))
    change = Change(
        "s.t",
        "c",
        None,
        {"c": "AP//////////"},
        None,
        Position((0, 0), 0),
        None,
        moved_from={"c": "AIA="},
    )

    repair(change, repairs(table))

    assert (change.after, change.moved_from) == ({"c": 2**64 - 1}, {"c": 128})


def test_most_tables_need_no_repair() -> None:
    table = Table(
        schema="s", name="t", columns=(Column(name="a", type="int"), Column(name="b", type="date"))
    )

    assert repairs(table) == ()

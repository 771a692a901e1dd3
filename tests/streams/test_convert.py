"""Conversion of source values: exact, or refused. Never a guess, never an error of another kind."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lanes import Log, Reader, head, line

from streams.stages.convert import (
    CONVERSIONS,
    avro_kind,
    converter,
    convertible,
    family,
    local_time,
    to_decimal,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CHINA = "Asia/Shanghai"
MOMENTS = st.datetimes(datetime(1992, 1, 1), datetime(2199, 12, 31))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


FIRST, LAST = (micros(each.replace(tzinfo=UTC)) for each in (datetime.min, datetime.max))


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


# -- decimals


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(0, 10))
def test_every_decimal_of_28_integer_and_10_fraction_digits_is_kept_exactly(
    digits: int, places: int
) -> None:
    number = Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), -places))
    if -(10**28) < number < 10**28:
        assert to_decimal(format(number, "f")) == number
    else:
        with pytest.raises(ValueError, match="integer digits"):
            to_decimal(format(number, "f"))


@given(st.integers(0, 10**28 - 1), st.integers(0, 10**10 - 1), st.integers(1, 20))
@example(10**28 - 1, 0, 1)
def test_zeros_beyond_the_tenth_place_are_no_digits(whole: int, fraction: int, zeros: int) -> None:
    plain = f"{whole}.{fraction:010d}"
    assert to_decimal(plain + "0" * zeros) == Decimal(plain)


@given(st.integers(0, 10**28 - 1), st.integers(11, 40), st.integers(1, 9))
def test_an_eleventh_place_is_refused_and_never_rounded(whole: int, place: int, digit: int) -> None:
    with pytest.raises(ValueError, match="decimal places"):
        to_decimal(f"{whole}.{'0' * (place - 1)}{digit}")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_what_its_shortest_spelling_says_or_is_refused(number: float) -> None:
    try:
        converted = to_decimal(number)
    except ValueError:
        assert abs(number) >= 10**28 or Decimal(repr(number)) % Decimal("1e-10")
    else:
        assert converted == Decimal(repr(number))


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity", float("nan"), ""])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"NaN|not a number"):
        to_decimal(value)


@pytest.mark.parametrize("value", [True, False, None, [], ["1"], {}, b"1"])
def test_a_decimal_of_another_json_type_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        to_decimal(value)


def test_a_sum_of_lines_is_exact_where_pythons_default_precision_would_round(
    reader: Reader,
) -> None:
    log = Log().start()
    large = "9999999999999999999999.9999"
    log.transaction(
        ("c", "head", head()),
        ("c", "line", line(1, no=1, amount=large)),
        ("c", "line", line(2, no=2, amount="0.0000000001")),
        ("c", "line", line(3, no=3, amount=large)),
    )

    (record,) = reader.records(reader.run(log))

    assert record["gross"]["amount"] == Decimal("19999999999999999999999.9998000001")


def test_a_sum_that_needs_more_digits_than_the_schema_has_withholds_its_order(
    reader: Reader,
) -> None:
    log = Log().start()
    log.transaction(
        ("c", "head", head()),
        *(("c", "line", line(each, no=each, amount="9" * 28)) for each in (1, 2)),
    )

    outputs = reader.run(log)

    assert reader.records(outputs) == []
    assert [letter["code"] for letter in reader.letters(outputs)] == ["conversion"]


# -- times and dates


@given(MOMENTS)
def test_a_local_time_of_china_is_eight_hours_before_its_text(moment: datetime) -> None:
    text = moment.isoformat(" ")
    expected = micros(moment.replace(tzinfo=UTC)) - 8 * 3600 * 1_000_000
    assert local_time(text, CHINA) == {"at": expected, "text": text}


@given(MOMENTS)
def test_a_timestamp_column_comes_back_as_the_text_that_the_source_shows(moment: datetime) -> None:
    spell = converter("timestamp(6) without time zone", "local")
    assert spell(micros(moment.replace(tzinfo=UTC))) == moment.isoformat(" ")


@given(st.datetimes(timezones=st.timezones()))
def test_a_time_with_zone_becomes_its_instant_or_is_out_of_range(moment: datetime) -> None:
    convert, at = converter("timestamp with time zone", "timestamp-micros"), micros(moment)
    if FIRST <= at <= LAST:
        assert convert(moment.isoformat()) == at
    else:
        with pytest.raises(ValueError, match="years 1 to 9999"):
            convert(moment.isoformat())


@given(st.dates())
def test_a_date_is_the_same_day_from_a_date_column_and_from_text(day: date) -> None:
    avro = {"type": "int", "logicalType": "date"}
    days = day.toordinal() - date(1970, 1, 1).toordinal()
    assert converter("char(10)", avro)(day.isoformat()) == days
    assert converter("date", avro)(days) == days


@pytest.mark.parametrize(
    "text",
    ["2026-13-99", "2026-02-29", "2026-01-05 24:00", "1/5/2026", "", "infinity", "2026-01-05 8:00"],
)
def test_what_is_no_date_and_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        local_time(text, CHINA)


@pytest.mark.parametrize("text", ["2026-01-05 08:00:00+02:00", "2026-01-05T08:00:00Z"])
def test_a_local_time_that_brings_its_own_zone_is_refused_and_not_taken_for_local(
    text: str,
) -> None:
    with pytest.raises(ValueError, match="zone of its own"):
        local_time(text, CHINA)


def test_a_time_with_zone_that_brings_none_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        converter("timestamp with time zone", "timestamp-micros")("2026-01-05T08:00:00")


@pytest.mark.parametrize(
    ("text", "zone"),
    [("0001-01-01 00:00:00", CHINA), ("9999-12-31 23:59:59", "America/New_York")],
)
def test_an_instant_that_no_reader_can_hold_is_refused(text: str, zone: str) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        local_time(text, zone)


@pytest.mark.parametrize("value", [9_223_372_036_825_200_000, -9_223_372_036_832_400_000])
def test_postgresqls_infinite_timestamps_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        converter("timestamp(3) without time zone", "local")(value)


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), "20454", 1.0, True])
def test_days_that_no_reader_can_hold_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        converter("date", {"type": "int", "logicalType": "date"})(value)


# -- all of the table


@pytest.mark.parametrize("pair", CONVERSIONS, ids="-".join)
@given(value=JSON)
def test_a_conversion_gives_its_own_type_or_refuses_whatever_json_it_is_given(
    pair: tuple[str, str], value: Any
) -> None:
    try:
        converted = CONVERSIONS[pair](value)
    except (ValueError, TypeError):
        return
    assert type(converted) is EXPECTED[pair[1]]


EXPECTED = {
    "string": str,
    "enum": str,
    "local": str,
    "date": int,
    "int": int,
    "long": int,
    "timestamp-micros": int,
    "decimal": Decimal,
    "boolean": bool,
}


@pytest.mark.parametrize(
    ("column_type", "expected"),
    [
        ("timestamp(3) without time zone", "timestamp"),
        ("timestamp with time zone", "timestamptz"),
        ("datetime(6)", "timestamp"),
        ("int(10) unsigned", "int"),
        ("tinyint(1)", "int"),
        ("tinyint(4)", "int"),
        ("numeric(20,4)", "decimal"),
        ("double precision", "float"),
        ("character varying(20)", "text"),
        ("longtext", "text"),
        ("bytea", "binary"),
        ("interval", "interval"),
        ("integer[]", None),
        ("numeric(20,4)[]", None),
        ("json", "json"),
    ],
)
def test_a_column_type_belongs_to_a_family_or_to_none(
    column_type: str, expected: str | None
) -> None:
    assert family(column_type) == expected


def test_money_never_comes_from_text_and_a_number_never_becomes_a_time() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal"}
    assert not convertible("character varying(20)", decimal)
    assert not convertible("bigint", {"type": "long", "logicalType": "timestamp-micros"})
    assert avro_kind(["null", decimal]) == "decimal"

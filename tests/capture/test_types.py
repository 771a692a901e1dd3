"""Every column type of the three databases, on real servers: what was decoded is what SELECT returns, or is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from capturing import SCHEMA, Captured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from type_table import DECODED, REFUSED_TYPES, REFUSED_VALUES
from types_on_servers import Values, columns, comparable, fill, live_table, selected

from schemas.captured import Table
from streams.records import Change
from streams.stages.repair import repair, repairs
from streams.stages.source_types import reader, refusal
from tongbu.instance import ROOT

#: Table -> how its rows came.
WAYS = {"snapshot": "r", "streamed": "c"}
TYPES = ROOT / "docs/types.md"


@pytest.fixture(scope="session")
def rows(captured: Captured) -> dict[str, dict[int, Change]]:
    """The rows of both tables as capture sent them, repaired."""
    fill(captured, "streamed")
    found: dict[str, dict[int, Change]] = {"snapshot": {}, "streamed": {}}
    for change in captured.changes():
        _, _, name = change.table.partition("_")
        if change.after is not None and change.operation == WAYS.get(name):
            repair(change, repairs(live_table(captured, f"类型_{name}")))
            found[name][change.after["id"]] = change
    return found


def _decoded(changes: dict[int, Change], table: Table) -> Iterator[tuple[str, int, Any]]:
    for row, change in changes.items():
        for column in table.columns:
            read = reader(column.type)
            if column.name != "id" and read is not None and row < 100:
                value = (change.after or {})[column.name]
                yield column.name, row, None if value is None else read(value)


def _spelled_by_the_source(captured: Captured, values: Values, table: Table) -> None:
    """Have the source spell decoded intervals as it spells its own."""
    names = {column.name for column in table.columns if column.type == "interval"}
    for (name, row), value in values.items():
        if name in names and value is not None:
            values[name, row] = captured.select(f"SELECT '{value}'::interval::text")[0][0]


@pytest.mark.parametrize("way", ["snapshot", "streamed"])
def test_every_value_of_the_fixed_table_is_what_select_returns(
    captured: Captured, rows: dict[str, dict[int, Change]], way: str
) -> None:
    table = live_table(captured, f"类型_{way}")
    decoded = {(name, row): value for name, row, value in _decoded(rows[way], table)}
    _spelled_by_the_source(captured, decoded, table)
    oracle = selected(captured, table)
    kinds = {column.name: column.type for column in table.columns}

    differing = {
        f"{columns(captured.database)[name]} row {row}": (value, oracle[name, row])
        for (name, row), value in decoded.items()
        if comparable(value, kinds[name], captured.database)
        != comparable(oracle[name, row], kinds[name], captured.database)
    }

    assert differing == {}
    literals = sum(map(len, DECODED[captured.database].values()))
    assert len(decoded) >= literals


@pytest.mark.parametrize("way", ["snapshot", "streamed"])
def test_values_that_debezium_can_not_bring_are_refused(
    captured: Captured, rows: dict[str, dict[int, Change]], way: str
) -> None:
    table = live_table(captured, f"类型_{way}")
    names = {kind: name for name, kind in columns(captured.database).items()}
    for kind, literals in REFUSED_VALUES[captured.database].items():
        column = table.column(names[kind])
        assert column is not None
        read = reader(column.type)
        assert read is not None
        for row in range(100, 100 + len(literals)):
            with pytest.raises(ValueError, match=r"years|ISO|isoformat|nested|expected"):
                read((rows[way][row].after or {})[column.name])


def test_types_that_lose_something_are_refused_by_name(captured: Captured) -> None:
    table = live_table(captured, "类型_streamed")
    names = {kind: name for name, kind in columns(captured.database).items()}
    for kind in REFUSED_TYPES[captured.database]:
        column = table.column(names[kind])
        assert column is not None
        assert reader(column.type) is None, column.type


#: One column per family whose values have no end; the strategy gives SQL parameters.
_DRAWN = {
    "a numeric(38,10)" : st.decimals(
        min_value=Decimal("-1e27"), max_value=Decimal("1e27"), places=10
    ),
    "b bigint": st.integers(-(2**63), 2**63 - 1),
    "c double precision": st.floats(allow_nan=False, allow_infinity=False),
    "d date": st.dates().map(str),
    "e timestamp(6)": st.datetimes().map(str),
    "f text": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200),
}  # fmt: skip


SERIAL = {"postgresql": "serial", "mariadb": "serial", "mysql": "bigint unsigned AUTO_INCREMENT"}


@pytest.fixture(scope="session")
def drawn(captured: Captured) -> Captured:
    own = ", ".join(_DRAWN)
    if captured.database != "postgresql":
        own = own.replace("timestamp(6)", "datetime(6)").replace(" text", " longtext")
    captured.run(f"CREATE TABLE {SCHEMA}.drawn (id {SERIAL[captured.database]} PRIMARY KEY, {own})")
    return captured


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.lists(st.tuples(*_DRAWN.values()), min_size=20, max_size=60))
def test_whatever_is_written_is_what_is_decoded(
    drawn: Captured, data: list[tuple[Any, ...]]
) -> None:
    since = drawn.end
    with drawn.session() as cursor:
        cursor.execute(f"TRUNCATE {SCHEMA}.drawn")
        marks = ", ".join(["%s"] * len(_DRAWN))
        cursor.executemany(f"INSERT INTO {SCHEMA}.drawn (a, b, c, d, e, f) VALUES ({marks})", data)
    changes = [
        each for each in drawn.changes(since) if each.table == f"{SCHEMA}.drawn" and each.after
    ]
    table = live_table(drawn, "drawn")
    for change in changes:
        repair(change, repairs(table))

    decoded = {
        (name, (change.after or {})["id"]): value
        for change in changes
        for name, _, value in _decoded({0: change}, table)
    }

    assert decoded == selected(drawn, table, "true")


def test_the_documented_table_is_what_was_decoded(
    captured: Captured, rows: dict[str, dict[int, Change]]
) -> None:
    """docs/types.md is made by this test with TONGBU_WRITE_DOCS=1."""
    section = _section(captured, rows["streamed"])
    start, end = f"<!-- {captured.database} -->\n", f"<!-- end of {captured.database} -->\n"
    text = TYPES.read_text(encoding="utf-8")
    head, _, rest = text.partition(start)
    if os.environ.get("TONGBU_WRITE_DOCS"):
        TYPES.write_text(head + start + section + end + rest.partition(end)[2], encoding="utf-8")

    documented = TYPES.read_text(encoding="utf-8").partition(start)[2].partition(end)[0]
    assert documented == section


def _section(captured: Captured, changes: dict[int, Change]) -> str:
    table = live_table(captured, "类型_streamed")
    decoded = {(name, row): value for name, row, value in _decoded(changes, table)}
    lines = ["| type | SQL | value |", "|---|---|---|"]
    for name, kind in columns(captured.database).items():
        column = table.column(name)
        assert column is not None
        for row, literal in enumerate(DECODED[captured.database].get(kind, [])):
            lines.append(
                f"| {_cell(kind)} | {_cell(literal)} | {_cell(repr(decoded[name, row]))} |"
            )
        refused = REFUSED_VALUES[captured.database].get(kind, [])
        lines.extend(f"| {_cell(kind)} | {_cell(literal)} | refused |" for literal in refused)
        if kind in REFUSED_TYPES[captured.database]:
            why = refusal(column.type) or "it is not captured"
            lines.append(f"| {_cell(kind)} | | refused: {why} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return "`" + shown.replace("|", "\\|") + "`"

"""What the targets should hold, from the rows of a source as they are."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lanes import CAPTURED, MAPPING, SCHEMAS, declarations, head, line

from schemas.codec import Decoder
from schemas.declarations import Mapping
from sink_writers.messages import Record
from streams.in_force import compile_in_force
from streams.records import Change, Position
from tongbu.expected import ExpectedSource, Unmappable, looked_up


def row(table: str, values: dict[str, Any]) -> Change:
    return Change(f"public.{table}", "r", None, values, None, Position((0, 0), 0), None)


@pytest.fixture
def source(tmp_path: Path) -> ExpectedSource:
    return ExpectedSource("erp", compile_in_force(declarations(), CAPTURED), tmp_path / "erp")


def test_rows_become_whole_records_in_the_order_of_ids(source: ExpectedSource) -> None:
    rows = [row("head", head(number)) for number in (2, 1)]
    rows += [row("line", line(1, 1)), row("line", line(2, 1, no=2, amount="2.5000"))]
    assert sum(source.fill(rows)) == 4

    found = [each for each in source.records("order") if isinstance(each, Record)]

    values = [Decoder(lambda id_: deepcopy(SCHEMAS[id_])).decode(each.value) for each in found]
    assert [each["id"] for each in values] == ["erp:SO1", "erp:SO2"]
    assert [each["line_count"] for each in values] == [2, 0]
    assert values[0]["gross"]["amount"] == Decimal("12.5")


def test_rows_outside_the_entity_give_no_record(source: ExpectedSource) -> None:
    list(source.fill([row("head", head(1, returned=True))]))
    assert list(source.records("order")) == []


def test_an_id_whose_rows_cant_be_mapped_is_named(source: ExpectedSource) -> None:
    rows = [row("head", head(1)), row("line", line(1, 1, amount="NaN")), row("head", head(2))]
    list(source.fill(rows))
    found = list(source.records("order"))
    assert [type(each) for each in found] == [Unmappable, Record]
    assert found[0] == Unmappable("erp:SO1", "conversion")


def test_an_entity_of_another_source_gives_nothing(source: ExpectedSource) -> None:
    assert list(source.records("employee")) == []
    assert source.late_paths("employee") == frozenset()


def test_fields_that_a_lookup_decides_are_named_down_to_the_column() -> None:
    mapping = deepcopy(MAPPING) | {
        "lookups": {"customer": {"from": "public.customer", "key": {"code": "code"}}}
    }
    mapping["fields"] = {
        "code": "code",
        "grade": "customer.grade",
        "kind": {"codes": {"a": "b"}, "of": "customer.kind"},
        "is_big": {"cases": [{"when": {"customer.size": "L"}, "then": True}], "default": False},
        "owner_id": {"reference": "employee", "to": ["code", "customer.owner"]},
        "deposit": {"money": "deposit", "currency": "customer.currency"},
        "gross": {"sum": "lines.gross"},
        "net": {"sum": "lines.net"},
        "lines": {
            "each": "lines",
            "fields": {
                "line_no": "no",
                "root_code": "root.code",
                "net": {"money": "amount", "currency": {"const": "CNY"}},
                "gross": {"money": "amount", "currency": "customer.currency"},
            },
        },
    }

    assert looked_up(Mapping.model_validate(mapping)) == {
        ("grade",),
        ("kind",),
        ("is_big",),
        ("owner_id",),
        ("deposit", "currency"),
        ("gross",),
        ("lines", "gross", "currency"),
    }

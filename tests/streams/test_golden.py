"""
Golden cases: source rows as Debezium gives them, and the canonical fields they must become.

A case is a file tests/golden/<source>/<table>/<case>.yaml. `rows` are committed in one transaction (columns
that are left out are null), `gives` are all records it makes, whole but for what is the same everywhere
(id, meta, source_refs, ext), `withholds` the ids that could not be mapped, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from demo_world import CATALOG, in_force
from ruamel.yaml import YAML

from schemas.codec import Decoder
from streams.held import Held
from streams.pipeline import Turn
from streams.quarantine import Quarantine
from streams.records import Change, LaneRecord, Position, Row
from streams.seal import Seal
from streams.stages.encode import Moment
from streams.state import State

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(GOLDEN.rglob("*.yaml"))
SCHEMAS = [each.schema for each in CATALOG.all()]


def load(file: Path) -> dict[str, Any]:
    case: dict[str, Any] = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    assert set(case) <= {"rows", "gives", "withholds"}, file
    return case


def changes(source: str, rows: dict[str, list[Row]]) -> Iterator[Change]:
    tables = in_force(source).tables
    for name, each in ((name, row) for name, some in rows.items() for row in some):
        nothing = dict.fromkeys(column.name for column in tables[name].columns)
        assert set(each) <= set(nothing), f"{name} has no {set(each) - set(nothing)}"
        yield Change(name, "c", None, nothing | each, "1", Position((0, 0), 0), None)


def process(source: str, rows: dict[str, list[Row]], folder: Path) -> Turn:
    state = State(folder)
    record = LaneRecord(f"cdc.{source}", 7, 0, None, None)
    moment = Moment(source, 7, record, transaction="1", committed_at=0)
    turn = Turn(moment, in_force(source), state, Seal(None), Quarantine(state, Held(state)))
    for _ in turn.transaction(changes(source, rows)):
        pass
    state.close()
    return turn


def decoded(turn: Turn) -> list[dict[str, Any]]:
    decode = Decoder(lambda id_: deepcopy(SCHEMAS[id_])).decode
    return [decode(record["value"]) | {"topic": record["topic"]} for record in turn.message.records]


def plain(value: Any) -> Any:
    """Spell a decoded value as the case files do: decimals, dates and times as text."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return value.isoformat() if isinstance(value, date | datetime) else value


def business_fields(record: dict[str, Any]) -> dict[str, Any]:
    common = {"id", "meta", "source_refs", "ext", "topic"}
    return {name: plain(value) for name, value in record.items() if name not in common}


def given(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    entities: dict[str, dict[str, Any]] = {}
    for record in records:
        entity = record["topic"].split(".")[1]
        entities.setdefault(entity, {})[record["id"]] = business_fields(record)
    return entities


@pytest.mark.parametrize(
    "file", CASES, ids=lambda file: str(file.relative_to(GOLDEN).with_suffix(""))
)
def test_rows_become_the_canonical_fields_of_the_case(file: Path, tmp_path: Path) -> None:
    case, source = load(file), file.relative_to(GOLDEN).parts[0]
    turn = process(source, case["rows"], tmp_path)
    withheld: dict[str, dict[str, str]] = {}
    for each in turn.message.withheld:
        withheld.setdefault(each["entity"], {})[each["id"]] = each["reason"]
    assert given(decoded(turn)) == case.get("gives", {})
    assert withheld == case.get("withholds", {})


def test_every_entity_has_a_golden_case() -> None:
    covered = {entity for file in CASES for entity in load(file).get("gives", {})}
    assert covered == set(CATALOG.entities)


def test_a_record_says_where_it_comes_from_and_what_decided_on_it(tmp_path: Path) -> None:
    case = load(GOLDEN / "erp" / "SO_SOMain" / "large_order_of_a_grade_a_customer.yaml")
    records = {each["id"]: each for each in decoded(process("erp", case["rows"], tmp_path))}
    order = records["erp:SO2601001"]
    assert order["source_refs"] == [
        {"source": "erp", "table": "public.SO_SOMain", "key": "SO2601001"}
    ]
    assert order["ext"] == {}
    assert order["meta"]["mapping"] == "u8.sales_order@1"
    assert order["meta"]["rules"] == ["approval_route@1"]


@pytest.mark.parametrize(
    ("source", "table"), [("erp", "public.Customer"), ("oa", "oa.hrmresource")]
)
def test_a_case_can_not_name_a_column_that_is_not_there(source: str, table: str) -> None:
    attempt = partial(list, changes(source, {table: [{"nonsense": 1}]}))
    with pytest.raises(AssertionError, match="nonsense"):
        attempt()

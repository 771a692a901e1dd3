"""Reconciliation, with targets that are said to hold this or that."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastavro
import pytest
from rich.console import Console

from schemas.codec import Decoder, encode
from sink_writers import targets
from sink_writers.fills import short
from tongbu import mirrored, reconcile
from tongbu.deploy.deployment import Deployment
from tongbu.parity import Difference, Parity
from tongbu.progress import Steps
from tongbu.reconcile import Report

ID, KEY = "erp:C1", 'erp:public.Customer["C1"]'
ENVIRONMENT = {
    "KAFKA_BOOTSTRAP": "none",
    "REGISTRY_URL": "http://none",
    "ERP_DSN": "postgresql://none",
    "OA_DSN": "mysql://none",
    "WAREHOUSE_DSN": "postgresql://none",
    "OA_HUB_DSN": "mysql://none",
}
MIRROR = """
mirror: erp-to-{0}
source: erp
binding: {0}
tables:
  public.Customer: u8_Customer
"""


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Declarations of no mappings, and of a table that two targets mirror; `oa` set one id of each kind aside."""
    for folder in ("mappings", "rules", "mirrors"):
        (tmp_path / folder).mkdir()
    for binding in ("oa", "warehouse"):
        (tmp_path / f"mirrors/{binding}.yaml").write_text(MIRROR.format(binding), encoding="utf-8")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    aside = {"customer": {ID: "refused"}, "u8_Customer": {KEY: "refused"}}
    monkeypatch.setattr(targets, "set_aside", lambda each, _: aside if each.binding == "oa" else {})
    monkeypatch.setattr(targets, "mirrored", lambda _: {})
    monkeypatch.setattr(targets, "read_rows", lambda *_: [])
    monkeypatch.setattr(reconcile, "open_letters", lambda *_: [])
    return Deployment(ENVIRONMENT, declarations=tmp_path)


def reconciled(deployment: Deployment) -> Report:
    with Steps(Console(file=io.StringIO())) as steps:
        return reconcile.reconcile(deployment, {}, steps)


def extra_customers(binding: Any, _catalog: Any, table: str) -> list[dict[str, Any]]:
    return [{"id": ID}] if table == "customer" else []


def told(found: Report) -> dict[str, list[tuple[str, tuple[Any, ...]]]]:
    return {
        name: [(each.table, each.key) for each in parity.first if each.what == "extra"]
        for name, parity in found.targets.items()
    }


def test_an_id_that_one_target_set_aside_is_compared_in_the_others(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "read_rows", extra_customers)

    found = reconciled(deployment)

    assert told(found) == {"oa": [], "warehouse": [("customer", (ID,))]}
    assert found.set_apart == {"customer": {ID: "set aside by oa: refused"}}


def test_an_id_with_an_open_dead_letter_is_compared_in_no_target(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = {"entity": "customer", "entity_id": ID, "code": "conversion"}
    monkeypatch.setattr(targets, "read_rows", extra_customers)
    monkeypatch.setattr(reconcile, "open_letters", lambda *_: [letter])

    assert told(reconciled(deployment)) == {"oa": [], "warehouse": []}


def test_a_row_that_one_mirror_set_aside_is_compared_in_the_others(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(table: Any, _source: Any, _target: Any, apart: set[Any], parity: Parity) -> None:
        for key in {("C1",)} - apart:
            parity.add(Difference(table.name, key, "extra"))

    there = {"public.Customer": SimpleNamespace(name="u8_Customer")}
    monkeypatch.setattr(targets, "mirrored", lambda _: there)
    monkeypatch.setattr(mirrored, "compare_table", compare)

    found = reconciled(deployment)

    assert told(found) == {"oa": [], "warehouse": [("u8_Customer", ("C1",))]}
    assert found.set_apart["public.Customer"] == {KEY: "set aside by oa: refused"}


class Kept:
    """A target that has set aside what is too long for its column of keys."""

    def __init__(self, *letters: tuple[str, str, str, bytes]) -> None:
        self._letters = letters

    def table(self, name: str) -> str:
        return name

    def execute(self, query: str, arguments: list[str]) -> None:
        assert arguments[0] == "%:%"

    def fetchall(self) -> list[tuple[str, str, str, bytes | None]]:
        return [
            (table, key, why, None if ":" in key else value)
            for table, key, why, value in self._letters
        ]


def test_what_was_set_aside_under_a_digest_has_the_id_that_its_record_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = {"name": "key", "type": {"type": "array", "items": "string"}}
    row = {"type": "record", "name": "row", "fields": [key]}
    table = {"type": "record", "name": "table", "fields": [
        {"name": "source", "type": "string"}, {"name": "table", "type": "string"},
    ]}  # fmt: skip
    entity = {"type": "record", "name": "entity", "fields": [{"name": "id", "type": "string"}]}
    schemas: dict[int, dict[str, Any]] = {1: row, 2: entity, 3: table}
    long = "C" * 300
    described = encode(
        3, fastavro.parse_schema(table), {"source": "erp", "table": "public.Customer"}
    )
    mirrored_row = len(described).to_bytes(4, "big") + described
    mirrored_row += encode(1, fastavro.parse_schema(row), {"key": [long]})
    record = encode(2, fastavro.parse_schema(entity), {"id": f"erp:{long}"})
    kept = Kept(
        ("u8_Customer", short(f'erp:public.Customer["{long}"]'), "refused", mirrored_row),
        ("u8_Customer", KEY, "refused", b""),
        ("customer", short(f"erp:{long}"), "refused", record),
        ("customer", short("erp:" + "D" * 300), "can't be decoded", b"?"),
    )
    there = {"public.Customer": SimpleNamespace(name="u8_Customer")}
    monkeypatch.setattr(targets, "mirrored", lambda _: there)
    monkeypatch.setattr(targets, "opened", lambda _: nullcontext((kept, kept)))
    binding = SimpleNamespace(binding="oa")

    found = targets.set_aside(binding, Decoder(lambda id_: schemas[id_]))  # type: ignore[arg-type]

    assert set(found["u8_Customer"]) == {f'erp:public.Customer["{long}"]', KEY}
    assert set(found["customer"]) == {f"erp:{long}", short("erp:" + "D" * 300)}
    keys = mirrored._keys("erp", "public.Customer", found["u8_Customer"])
    assert keys == {(long,), ("C1",)}

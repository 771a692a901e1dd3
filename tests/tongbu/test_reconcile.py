"""Reconciliation, with targets that are said to hold this or that."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sink_writers import targets
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
    monkeypatch.setattr(targets, "set_aside", lambda each: aside if each.binding == "oa" else {})
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

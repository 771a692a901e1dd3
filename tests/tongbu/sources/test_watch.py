"""Findings as metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from schemas.errors import ServiceUnavailable
from tongbu.deploy.deployment import Deployment
from tongbu.instance import ROOT
from tongbu.sources import inspection
from tongbu.sources.findings import Finding
from tongbu.sources.watch import FIGURES, Findings, look


def _told(*found: Finding) -> str:
    findings, registry = Findings(), CollectorRegistry()
    registry.register(findings)
    findings.take(list(found))
    return generate_latest(registry).decode()


def test_the_worst_level_of_a_check_counts() -> None:
    told = _told(
        Finding("erp", "tables", "ok", "11 tables"),
        Finding("erp", "tables", "alarm", "one is gone"),
    )

    assert 'tongbu_source_check{check="tables",source="erp"} 2.0' in told


def test_figures_are_metrics_and_what_was_not_looked_at_is_none() -> None:
    told = _told(Finding("erp", "slot", "ok", "x", figures={"slot_lag_bytes": 17}))

    assert 'tongbu_source_slot_lag_bytes{source="erp"} 17.0' in told
    assert "tongbu_source_wal_status{" not in told


def test_every_metric_is_documented_with_its_alarm_level() -> None:
    text = (Path(ROOT) / "docs/capture.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`tongbu_source_(\w+)`", text))

    assert {*FIGURES, "check", "looked_at_seconds"} <= documented


def test_a_broker_that_is_away_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    class Watched:
        def look(self) -> None:
            looked.append("at the catalog")

    def away(_: Deployment) -> list[Finding]:
        raise ServiceUnavailable("Kafka does not answer")

    monkeypatch.setattr(inspection, "inspect", away)
    look(Deployment({}), Findings(), [Watched()])  # type: ignore[list-item]

    assert looked == ["at the catalog"]

"""The README's figures come from a report of the harness, and from nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import publish
from bench.publish import KEPT, README, figures, with_figures
from bench.report import command
from bench.rounds import FULL, Plan
from schemas.errors import TongbuError

REPORT = {
    "at": "2026-01-02T03:04:05+00:00",
    "command": "make bench",
    "machine": {"cores": 2},
    "runs": [
        {"system": "tongbu", "path": "postgresql-postgresql", "tx_per_s": 50, "rows_per_tx": 2, "p50": 4.0, "p99": 9.0, "rounds": 3},
        {"system": "debezium-jdbc", "path": "postgresql-postgresql", "tx_per_s": 50, "rows_per_tx": 2, "saturated": True, "rounds": 3},
        {"system": "tongbu", "path": "mariadb-postgresql", "tx_per_s": 400, "rows_per_tx": 2, "p50": 1.0, "p99": 1.0, "rounds": 3},
    ],
    "backlog": [{"system": "tongbu", "path": "postgresql-postgresql", "rows_per_s": 12000, "cpu_s_per_1000_rows": 0.1}],
    "ratio": {"p50_50": 0.4, "p99_50": 0.5},
}  # fmt: skip


def test_a_table_has_the_reports_figures_with_the_command_that_made_them() -> None:
    table = figures(REPORT)
    assert "| 50 transactions/s: p50 / p99 | 4.0 / 9.0 ms | saturated | 0.40 / 0.50 |" in table
    assert "12,000" in table
    assert "`make bench` on 2026-01-02, 2 cores" in table


def test_a_report_names_the_command_that_made_it() -> None:
    assert command(Plan()) == "make bench"
    assert command(FULL) == "make bench FULL=1"
    assert command(replace(Plan(), seconds=8.0)) == (
        "python -m bench run --rounds 3 --seconds 8 --backlog 50000"
    )
    assert command(Plan(), "tongbu", "mariadb-postgresql") == (
        "python -m bench run --rounds 3 --seconds 5 --backlog 50000 --only tongbu --path mariadb-postgresql"
    )


def test_figures_of_other_paths_are_not_in_the_table() -> None:
    assert "400 transactions/s" not in figures(REPORT)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "both systems"),  # of one path or one system only
        ({"parity": {"tongbu, postgresql-postgresql": "1 row"}}, "rows differ: tongbu"),
        (None, "there is no"),
    ],
)
def test_a_report_without_a_comparison_is_not_published(
    changed: dict[str, Any] | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path))
    for name in ("KEPT", "README"):
        monkeypatch.setattr(publish, name, tmp_path / name)
    if changed is not None:
        (tmp_path / "reports").mkdir()
        report = REPORT | {"parity": {}} | changed
        (tmp_path / "reports/bench.json").write_text(json.dumps(report))

    with pytest.raises(TongbuError, match=message):
        publish.publish()
    assert not (tmp_path / "KEPT").exists()


def test_a_text_without_marks_is_refused() -> None:
    with pytest.raises(TongbuError, match="no place for figures"):
        with_figures("# README", REPORT)


def test_the_readme_has_the_figures_of_the_report_that_is_kept() -> None:
    if not KEPT.exists():
        pytest.skip("no figures are published yet")
    text = README.read_text(encoding="utf-8")
    assert with_figures(text, json.loads(KEPT.read_text(encoding="utf-8"))) == text

"""The harness's figures: nothing is left out of a percentile, saturated loads are said to be so, ratios are ours by the peer's."""

from __future__ import annotations

from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.figures import (
    LEAD_IN_SECONDS,
    PATH,
    Backlog,
    Load,
    backlog_rate,
    latencies,
    ratio,
    report_backlogs,
    report_loads,
    saturated,
)
from bench.report import markdown
from bench.rounds import Measured
from bench.run import _conclude
from schemas.errors import TongbuError


def load(system: str, round_: int, ms: float, rate: int = 50, lines: int = 2) -> Load:
    """A load whose transactions all take `ms`."""
    return Load(system, round_, rate, lines, [(1.0, ms)] * 10, 0.0, {"sink": 3.0}, 1000)


def backlog(system: str, rate: float, cpu: float) -> Backlog:
    """A drained backlog of 1,000 rows."""
    return Backlog(system, 1, 1000, rate, {"connect": cpu}, 1000)


def test_latency_is_from_the_sources_commit_to_the_targets_in_milliseconds() -> None:
    assert latencies({1: 10.0, 2: 12.0}, {1: 10.5, 2: 12.25}) == [(12.0, 250.0)]


def test_the_lead_in_is_not_counted() -> None:
    source = {1: 0.0, 2: LEAD_IN_SECONDS - 0.01, 3: LEAD_IN_SECONDS + 0.5}
    assert [at for at, _ in latencies(source, dict.fromkeys(source, 9.0))] == [
        LEAD_IN_SECONDS + 0.5
    ]


def test_an_order_that_did_not_arrive_makes_no_percentile() -> None:
    with pytest.raises(ValueError, match="1 orders did not arrive"):
        latencies({1: 0.0, 2: 2.0}, {1: 0.1})


def test_what_came_with_the_first_commit_is_not_part_of_the_rate() -> None:
    assert backlog_rate({1: 5.0, 2: 5.0, 3: 6.0, 4: 7.0}, 3) == pytest.approx(3.0)


def test_a_backlog_of_one_commit_tells_no_rate_and_what_to_do() -> None:
    with pytest.raises(TongbuError, match="one commit") as refused:
        backlog_rate({1: 5.0, 2: 5.0}, 3)
    assert "--backlog" in refused.value.remedy


@pytest.mark.parametrize(("rate", "is_saturated"), [(1000, True), (800, False), (801, True)])
def test_a_load_above_80_per_cent_of_the_backlog_rate_is_saturated(
    rate: int, *, is_saturated: bool
) -> None:
    assert saturated(rate, 3, 3000.0) is is_saturated


def test_a_line_has_the_median_over_rounds_so_that_one_stall_does_not_decide() -> None:
    (line,) = report_loads([load("a", 1, 5.0), load("a", 2, 900.0), load("a", 3, 7.0)])
    assert (line["p50"], line["p99"], line["rounds"]) == (7.0, 7.0, 3)
    assert line["cpu_s_per_1000_rows"] == 3.0


def test_a_saturated_load_has_no_percentiles() -> None:
    (line,) = report_loads([load("a", 1, 5.0, rate=400)], {("a", PATH, 400, 2)})
    assert line["saturated"]
    assert "p50" not in line


def test_ratios_are_ours_by_the_peers() -> None:
    loads = [load("ours", 1, 4.0), load("peer", 1, 10.0), load("ours", 1, 3.0, rate=400)]
    runs = report_loads(loads)
    lines = report_backlogs([backlog("ours", 20_000, 0.1), backlog("peer", 10_000, 0.2)])
    assert ratio(runs, lines, "ours", "peer") == {
        "p50_50": 0.4,
        "p99_50": 0.4,
        "backlog": 2.0,
        "cpu": 0.5,
    }


def test_loads_of_another_size_are_no_part_of_the_ratio() -> None:
    runs = report_loads([load("ours", 1, 4.0, lines=20), load("peer", 1, 10.0, lines=20)])
    assert ratio(runs, [], "ours", "peer") == {}


@pytest.mark.parametrize("difference", ["equal", "5:1 in the source, 4:1 in the target"])
def test_a_run_whose_rows_differ_fails_with_its_report_written(
    difference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path))
    content: dict[str, Any] = {
        "runs": [], "backlog": [], "stages": [], "ratio": {}, "definitions": {}, "versions": {},
        "memory_mib": {}, "idle_cpu_percent": {}, "seconds": 1,
        "parity": {"tongbu": "equal", "peer": difference},
    }  # fmt: skip
    fails = pytest.raises(TongbuError, match=r"source and target differ.*peer")
    with nullcontext() if difference == "equal" else fails:
        _conclude(content, Measured(), Console(file=StringIO()))
    assert (tmp_path / "reports/bench.json").exists()


def test_the_tables_for_people_say_saturation_memory_idle_cpu_and_growth() -> None:
    run = {"system": "a", "path": PATH, "tx_per_s": 1000, "rows_per_tx": 20, "saturated": True}
    said = markdown(
        {
            "runs": [run], "backlog": [], "ratio": {}, "stages": [], "definitions": {}, "versions": {},
            "memory_mib": {"a": {"kafka": 500.0, "sink": 50.5}}, "idle_cpu_percent": {"a": {"connect": 20.0, "sink": 1.5}},
            "scaling": [{"case": "10 x columns", "us_per_transaction": 106.2, "ratio": 1.12}],
        }
    )  # fmt: skip
    assert "| saturated | saturated |" in said
    assert "| a | 550 | kafka 500, sink 50 | 21.5 | connect 20.0, sink 1.5 |" in said
    assert "| 10 x columns | 106 | 1.12 x |" in said

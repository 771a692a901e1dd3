"""What the processor is compared by: both sides do the same work, and a rate is taken where the work is steady."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from bench.alone import drain
from bench.alone.drain import drained
from bench.alone.orders import Orders
from bench.alone.run import Found, report
from schemas.errors import ServiceUnavailable
from streams.lane import Lane
from streams.seal import Seal
from streams.state import State


def test_every_transaction_of_the_log_publishes_one_order_with_all_its_columns(
    tmp_path: Path,
) -> None:
    lane = Lane("erp", 0, State(tmp_path), Seal(None), None)
    orders = Orders("t1")
    made = []
    for _ in range(6):
        records = orders.transaction()
        made.append([out for record in records for out in lane.process(record) if out is not None])

    assert [[out.topic for out in each] for each in made] == [
        ["canonical.transactions.v1", "canonical.order.v1"]
    ] * 6
    assert lane.counters.changes == 18
    assert lane.counters.dead_letters == 0
    assert b"c19 of order 0" in (made[0][1].value or b"")


def test_a_rate_is_taken_between_the_shares_of_what_is_new() -> None:
    counts = iter([100, 105, 111, 150, 194, 199, 200])
    assert drained(lambda: next(counts), 100, 100, lambda: "now") == [(111, "now"), (199, "now")]


def test_a_backlog_that_nobody_drains_any_more_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain, "_STUCK_SECONDS", 0.1)
    counts = itertools.chain([100, 120], itertools.repeat(150))
    with pytest.raises(ServiceUnavailable, match="stands at 50 of 100"):
        drained(lambda: next(counts), 100, 100, lambda: "now")


def test_ratios_are_ours_by_the_plain_loops_of_the_medians() -> None:
    def found(rate: float, p50: float) -> Found:
        load = {"p50": p50, "p99": 2 * p50, "us_per_transaction": 100 * p50}
        return Found(
            [rate, rate, 1.0], [10.0, 10.0, 99.0], {500: [load, load, {**load, "p50": 77}]}
        )

    said = report({"processor": found(9000, 3), "plain loop": found(10_000, 2)})
    assert said["ratio"] == {
        "rows_per_s": 0.9,
        "p50_500": 1.5,
        "p99_500": 1.5,
        "us_per_transaction_500": 1.5,
    }
    assert said["sides"]["processor"]["loads"][500]["p50"] == pytest.approx(3)

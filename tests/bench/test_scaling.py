"""The processor's scaling cases: what is measured is real work."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scaling import Case, log_of, measure
from streams.lane import Lane
from streams.seal import Seal
from streams.state import State


@pytest.mark.parametrize("case", [Case("a", 20, 3, 1), Case("b", 20, 30, 1), Case("c", 20, 3, 4)])
def test_every_transaction_of_a_case_is_mapped_and_published(case: Case, tmp_path: Path) -> None:
    lane = Lane("erp", 0, State(tmp_path), Seal(None), None)
    for record in log_of(case, 40).records:
        list(lane.process(record))

    assert (lane.counters.transactions, lane.counters.published) == (60, 60)
    assert lane.counters.dead_letters == 0


def test_a_case_gives_a_cost() -> None:
    assert 0 < measure(Case("a", 10), 200) < float("inf")

"""What grows in a soak, and when it is a failure."""

from __future__ import annotations

import pytest

from bench.harm.verdict import holds
from bench.soak import growth


def test_growth_is_per_hour_and_leaves_the_first_quarter_out() -> None:
    samples = [
        {"minutes": minute, "memory_mib": {"sink": 1000.0 if minute < 15 else 100.0 + minute}}
        for minute in range(60)
    ]
    assert growth(samples, "memory_mib") == {"sink": 60.0}


def test_a_few_samples_tell_no_growth() -> None:
    assert growth([{"minutes": 1, "memory_mib": {"sink": 1.0}}] * 7, "memory_mib") == {}


def test_a_role_that_one_sample_lacks_costs_no_report() -> None:
    samples = [{"minutes": minute, "files": {"sink": 10, "processor": 20}} for minute in range(60)]
    del samples[50]["files"]["sink"]
    assert growth(samples, "files") == {"processor": 0.0}


@pytest.mark.parametrize(
    "wrong", [{"lost": 1}, {"doubled": 1}, {"mismatched": 1}, {"withheld": 1}, {"quiet": False}]
)
def test_rows_that_differ_or_were_not_compared_are_a_failure(wrong: dict[str, int]) -> None:
    good = {"lost": 0, "doubled": 0, "mismatched": 0, "withheld": 0, "quiet": True}
    assert holds(good)
    assert not holds(good | wrong)

"""What grows in a soak."""

from __future__ import annotations

from bench.soak import growth


def test_growth_is_per_hour_and_leaves_the_first_quarter_out() -> None:
    samples = [
        {"minutes": minute, "memory_mib": {"sink": 1000.0 if minute < 15 else 100.0 + minute}}
        for minute in range(60)
    ]
    assert growth(samples, "memory_mib") == {"sink": 60.0}


def test_a_few_samples_tell_no_growth() -> None:
    assert growth([{"minutes": 1, "memory_mib": {"sink": 1.0}}] * 7, "memory_mib") == {}

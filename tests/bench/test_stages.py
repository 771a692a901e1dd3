"""The stage clock's hops."""

from __future__ import annotations

from bench.stages import HOPS, by_hop

LINE = {
    "committed_at": 1_000_000,
    "captured": 1_002_000,
    "received": 1_003_000,
    "produced": 1_003_500,
    "consumed": 1_005_000,
    "applied": 1_006_000,
}


def test_hops_add_up_to_the_total() -> None:
    found = {hop: figures["p50"] for hop, figures in by_hop([LINE], 0, 2).items()}
    assert found["total"] == 6.0
    assert sum(found[hop] for hop in HOPS if hop != "total") == found["total"]


def test_transactions_of_other_times_are_not_counted() -> None:
    assert by_hop([LINE], 2, 3) == {hop: {} for hop in HOPS}

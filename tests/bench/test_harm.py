"""Rounds of harm: the plan follows from the seed, and effects are counted one by one."""

from __future__ import annotations

from typing import Any

import pytest

from bench.harm import effects, unhealed
from bench.services import KINDS, SERVICES, choose


def test_the_same_seed_gives_the_same_faults() -> None:
    assert choose(30, 7) == choose(30, 7)
    assert choose(30, 7) != choose(30, 8)


def test_every_service_suffers_every_kind_of_fault_before_any_suffers_one_again() -> None:
    turn = len(SERVICES) * len(KINDS)
    assert {(harm.service, harm.kind) for harm in choose(turn, 1)} == {
        (service, kind) for service in SERVICES for kind in KINDS
    }


def test_an_approval_without_an_event_is_lost_and_one_with_two_is_doubled() -> None:
    assert effects(["a", "b", "c"], ["a", "c", "c"]) == {
        "approved": 3,
        "lost": 1,
        "doubled": 1,
        "examples": ["b", "c"],
    }


@pytest.mark.parametrize(
    ("change", "is_unhealed"),
    [({}, False), ({"mismatched": {"oa": 1}}, True), ({"stuck": 1}, True)],
)
def test_a_report_with_anything_wrong_is_unhealed(
    change: dict[str, Any], *, is_unhealed: bool
) -> None:
    good = {"mismatched": {"oa": 0}, "effects": {"lost": 0, "doubled": 0}, "stuck": 0}
    assert unhealed(good | change) is is_unhealed

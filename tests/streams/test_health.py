"""Health tells a blocked loop from an idle one, and metrics say how each lane is."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

import orjson
import pytest

from streams import health

LANE: dict[str, Any] = {
    "position": 12,
    "stopped": None,
    "behind": 0,
    "records_in_flight": 0,
    "published": 5,
    "withheld": 2,
    "quarantined": {"public.head": {"code": "misfit", "why": "w", "kept": 3}},
}


KAFKA: dict[str, Any] = {
    "waiting": None,
    "waiting_seconds": 0.0,
    "waits": 3,
    "silence_seconds": 0.4,
    "opening_seconds": 0.0,
}


@pytest.mark.parametrize(
    ("age", "lane", "expected"),
    [
        (0.1, {}, (200, "idle")),
        (0.1, {"behind": 3}, (200, "busy")),
        (0.1, {"records_in_flight": 500}, (200, "busy")),
        (60.0, {}, (503, "blocked")),
        (0.1, {"stopped": "another topic"}, (503, "stopped")),
    ],
)
def test_health_tells_what_the_process_is_doing(
    age: float, lane: dict[str, Any], expected: tuple[int, str]
) -> None:
    code, body = health.health(age, {"erp": LANE | lane}, KAFKA)
    assert (code, body["state"]) == expected


def test_a_worker_without_lanes_is_well() -> None:
    assert health.health(0.0, {}, KAFKA)[0] == 200


@pytest.mark.parametrize(("seconds", "code"), [(2.0, 200), (61.0, 503)])
def test_a_member_whose_lanes_do_not_open_is_well_for_a_while_only(
    seconds: float, code: int
) -> None:
    found, body = health.health(0.0, {}, KAFKA | {"opening_seconds": seconds})
    assert (found, body["state"]) == (code, "opening")


def test_health_says_what_is_waited_for() -> None:
    why = "canonical.order.v1: timed out"
    code, body = health.health(0.1, {"erp": LANE}, KAFKA | {"waiting": why})
    assert (code, body["state"], body["kafka"]["waiting"]) == (503, "waiting", why)


def test_metrics_and_health_are_answered_over_http() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    health.serve(f"127.0.0.1:{port}", lambda: 0.1, lambda: {"erp": LANE}, lambda: KAFKA)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        state = orjson.loads(answer.read())["state"]

    assert 'tongbu_lane_published_total{source="erp"} 5.0' in text
    assert 'tongbu_lane_withheld{source="erp"} 2.0' in text
    assert 'tongbu_lane_stopped{source="erp"} 0.0' in text
    assert 'tongbu_lane_quarantined_changes{source="erp",table="public.head"} 3.0' in text
    assert "tongbu_kafka_waits_total 3.0" in text
    assert "tongbu_kafka_silence_seconds 0.4" in text
    assert state == "idle"

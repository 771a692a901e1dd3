"""A reader that was killed before it had a place in the log has nothing to go on from: it begins anew."""

from __future__ import annotations

from typing import Any

import connect_stub
import httpx
import orjson
import pytest

from schemas.errors import TongbuError
from tongbu.deploy import connectors, readers
from tongbu.deploy.deployment import Deployment

READER = "oa-snapshot-1"


def _checked(monkeypatch: pytest.MonkeyPatch, status: dict[str, Any]) -> list[tuple[str, str]]:
    """Check a reader that has a status; give what was asked of Kafka Connect besides."""
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix(f"/connectors/{READER}/")
        if path == "status":
            return httpx.Response(200, content=orjson.dumps(status))
        asked.append((request.method, path))
        return httpx.Response(204)

    connect_stub.install(monkeypatch, answer)
    readers.check(Deployment({}), READER)
    return asked


def _failed(why: str) -> dict[str, Any]:
    task = {"state": "FAILED", "trace": f"org.apache.kafka.connect.errors.ConnectException: {why}"}
    return {"connector": {"state": "RUNNING"}, "tasks": [task]}


def test_one_without_a_place_forgets_and_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _checked(monkeypatch, _failed(connectors.NO_PLACE))

    assert asked == [("PUT", "stop"), ("DELETE", "offsets"), ("PUT", "resume")]


def test_one_that_was_left_stopped_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _checked(monkeypatch, {"connector": {"state": "STOPPED"}, "tasks": []})

    assert asked == [("PUT", "resume")]


@pytest.mark.parametrize("state", ["RUNNING", "UNASSIGNED"])
def test_one_that_runs_or_starts_is_left_alone(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    assert _checked(monkeypatch, {"connector": {"state": state}, "tasks": [{"state": state}]}) == []


def test_any_other_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TongbuError, match="Connection refused"):
        _checked(monkeypatch, _failed("Connection refused"))

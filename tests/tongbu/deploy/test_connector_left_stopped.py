"""A connector that was left stopped, for what reset it was ended in between, runs again after `tongbu apply`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import connect_stub
import httpx
import pytest

from tongbu.deploy import connectors
from tongbu.deploy.deployment import Deployment


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of a Kafka Connect that knows one connector, which stands stopped until it is resumed."""
    told: list[tuple[str, str]] = []
    state = "STOPPED"

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal state
        path = request.url.path.removeprefix("/connectors/erp/")
        if path == "status":
            tasks = [{"state": state}] if state == "RUNNING" else []
            return httpx.Response(200, json={"connector": {"state": state}, "tasks": tasks})
        told.append((request.method, path))
        if path == "resume":
            state = "RUNNING"
        return httpx.Response(204)

    connect_stub.install(monkeypatch, answer)
    monkeypatch.setattr(connectors, "_check_offset", lambda *_: None)
    return told


@pytest.mark.parametrize(
    ("start", "before"),
    [
        (connectors.restart, []),
        (partial(connectors._put, wanted={}), [("PUT", "config")]),
    ],
    ids=["restarted", "configured"],
)
def test_a_connector_that_stands_stopped_is_resumed(
    start: Callable[[Deployment, str], None],
    before: list[tuple[str, str]],
    asked: list[tuple[str, str]],
) -> None:
    start(Deployment({}), "erp")

    assert asked == [*before, ("PUT", "resume")]

"""A connector whose first snapshot was cut before it had a place in the log has nothing to go on from: it begins anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tongbu.deploy import connectors
from tongbu.deploy.deployment import Deployment


@pytest.mark.parametrize(
    ("cause", "done"),
    [
        (f"ConnectException: {connectors.NO_PLACE}", ["reset", "resume"]),
        ("Connection refused", ["send", "_wait_until_running"]),
    ],
)
def test_only_one_without_a_place_begins_anew(
    monkeypatch: pytest.MonkeyPatch, cause: str, done: list[str]
) -> None:
    called: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: called.append(name)

    for name in ("reset", "resume", "send", "_wait_until_running"):
        monkeypatch.setattr(connectors, name, note(name))
    monkeypatch.setattr(connectors, "_check_offset", lambda *_: None)
    monkeypatch.setattr(connectors, "_leave_stopped", lambda *_: False)
    monkeypatch.setattr(connectors, "failure", lambda *_: cause)

    connectors.restart(Deployment({"CONNECT_URL": "http://127.0.0.1:1"}), "oa")

    assert called == done

"""A failed connector is started again, with growing pauses, and never behind a gap."""

from __future__ import annotations

import pytest

from schemas.errors import TongbuError
from tongbu.deploy.deployment import Deployment
from tongbu.sources import revival
from tongbu.sources.findings import Finding, lost


class Connect:
    """A connector that fails as often as it is told to, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cause: str | None = "Connection refused"
        self.losses: list[Finding] = []
        self.restarted: list[float] = []
        self.now = 0.0
        monkeypatch.setattr(revival.connectors, "failure", lambda *_: self.cause)
        monkeypatch.setattr(revival.connectors, "restart", self._restart)
        monkeypatch.setattr(revival.offsets, "losses", lambda *_: self.losses)
        monkeypatch.setattr(revival.time, "monotonic", lambda: self.now)
        self.subject = revival.Revival(Deployment({}), "oa")

    def _restart(self, *_: object) -> None:
        self.restarted.append(self.now)
        raise TongbuError("connector oa: Connection refused")

    def look_every(self, seconds: float, until: float) -> None:
        while self.now <= until:
            self.subject.look()
            self.now += seconds


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    return Connect(monkeypatch)


def test_pauses_grow_while_it_fails(connect: Connect) -> None:
    connect.look_every(5, until=155)

    assert connect.restarted == [0, 10, 30, 70, 150]


def test_one_that_runs_again_is_started_at_once_the_next_time(connect: Connect) -> None:
    connect.look_every(5, until=40)
    connect.cause = None
    connect.subject.look()
    connect.cause, before = "Connection refused", len(connect.restarted)
    connect.subject.look()

    assert len(connect.restarted) == before + 1


def test_it_never_starts_one_behind_a_gap(connect: Connect) -> None:
    connect.losses = [lost("oa", "the binlog is purged")]
    connect.look_every(5, until=100)

    assert connect.restarted == []

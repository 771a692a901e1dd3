"""How many replicas topics have is the cluster's business: a broker that is lost takes no lane log with it."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from tongbu import replay_topics
from tongbu import topics as logs
from tongbu.deploy import topics
from tongbu.deploy.deployment import CONNECTORS, Deployment
from tongbu.sources import inspection

#: What stands for a broker's own default (KIP-464).
BROKERS_DEFAULT = -1


class Admin:
    """Makes every topic, and remembers what was asked for."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics={})

    def create_topics(self, wanted: list[Any]) -> dict[str, Future[None]]:
        self.made += wanted
        return {each.topic: _done() for each in wanted}


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Admin:
    made = Admin()
    monkeypatch.setattr(Deployment, "admin", made)
    return made


def test_topics_are_made_with_as_many_replicas_as_the_brokers_default_says(admin: Admin) -> None:
    subject = Deployment({})
    for change in topics.plan(subject):
        change.perform()
    topics.create_history(subject, "_schema_history.oa.2")

    assert {each.topic for each in admin.made} > {"cdc.erp", "_schema_history.oa.2"}
    assert {each.replication_factor for each in admin.made} == {BROKERS_DEFAULT}


def test_so_are_those_of_a_replay(admin: Admin) -> None:
    with replay_topics.created({}, "replay.x.", [], keep=True):
        pass

    assert {each.replication_factor for each in admin.made} == {BROKERS_DEFAULT}


@pytest.mark.parametrize("topic", ["config", "offset", "status"])
def test_so_are_those_of_kafka_connect(topic: str) -> None:
    lines = (CONNECTORS / "worker.properties").read_text(encoding="utf-8").splitlines()

    assert f"{topic}.storage.replication.factor={BROKERS_DEFAULT}" in lines


def _cluster(monkeypatch: pytest.MonkeyPatch, brokers: int, **replicas: int) -> list[Any]:
    """Give what is found in a cluster with topics (_ for .) of so many replicas."""
    there = {
        name.replace("__", "."): SimpleNamespace(
            partitions={0: SimpleNamespace(replicas=list(range(count)))}
        )
        for name, count in replicas.items()
    }
    found = SimpleNamespace(brokers=dict.fromkeys(range(brokers)), topics=there)
    admin = SimpleNamespace(list_topics=lambda timeout: found)
    monkeypatch.setattr(logs, "_admin", lambda _: admin)
    monkeypatch.setattr(inspection, "_source", lambda *_, has_kafka: [])
    return inspection.inspect(Deployment({"KAFKA_BOOTSTRAP": ""}))


def test_of_several_brokers_doctor_names_our_topics_that_only_one_of_them_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (found,) = _cluster(
        monkeypatch,
        3,
        cdc__erp=1,
        cdc__oa=3,
        _connect_offsets=1,
        _schema_history__oa__2=1,
        theirs=1,
    )

    assert (found.source, found.check, found.level) == ("kafka", "replicas", "warning")
    assert "_connect_offsets, _schema_history.oa.2, cdc.erp" in found.what
    assert not {"cdc.oa", "theirs"} & {*found.what.replace(",", "").split()}
    assert "default.replication.factor" in found.remedy


def test_where_each_has_several_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = _cluster(monkeypatch, 3, cdc__erp=3, theirs=1)

    assert found.level == "ok"


def test_of_a_single_broker_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _cluster(monkeypatch, 1, cdc__erp=1) == []

"""A source whose server refuses what it is asked is a finding, and the looking goes on."""

from __future__ import annotations

from unittest.mock import MagicMock

import psycopg
import pymysql
import pytest

from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.deploy.deployment import Deployment
from tongbu.sources import inspection, offsets, watch
from tongbu.sources.findings import Finding

DSNS = {"ERP_DSN": "postgresql://x@y/erp", "OA_DSN": "mysql://x@y/oa", "KAFKA_BOOTSTRAP": ""}
REFUSED = {
    "erp": psycopg.errors.InsufficientPrivilege("permission denied for view pg_replication_slots"),
    "oa": pymysql.err.OperationalError(
        1227, "Access denied; you need the BINLOG MONITOR privilege"
    ),
}


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment whose servers take connections."""
    monkeypatch.setattr(offsets.psycopg, "connect", MagicMock())
    monkeypatch.setattr(offsets.pymysql, "connect", MagicMock())
    return Deployment(DSNS)


@pytest.mark.parametrize("source", REFUSED)
def test_a_server_that_refuses_a_question_is_not_said_to_be_down_and_the_remedy_is_a_grant(
    subject: Deployment, source: str
) -> None:
    with pytest.raises(TongbuError) as refused, offsets.asking(subject, source):
        raise REFUSED[source]

    assert not isinstance(refused.value, ServiceUnavailable)
    assert "denied" in refused.value.message
    assert "connectors-config/grants" in refused.value.remedy


def test_a_server_that_is_away_still_is(subject: Deployment) -> None:
    away = pytest.raises(ServiceUnavailable, match="erp does not answer")
    with away, offsets.asking(subject, "erp"):
        raise psycopg.OperationalError("connection refused")


def test_the_watch_goes_on_where_a_look_at_the_slot_is_refused(
    subject: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise REFUSED["erp"]

    monkeypatch.setattr(inspection.topics, "names", lambda _: set())
    monkeypatch.setattr(inspection.topics, "lone", lambda _: None)
    monkeypatch.setattr(inspection.captured, "examine", lambda *_: [])
    monkeypatch.setattr(inspection.postgresql, "slot_finding", refuse)
    monkeypatch.setattr(inspection.mysql, "inspect", lambda *_: [])
    monkeypatch.setattr(inspection, "_connector", lambda _, name: Finding(name, "c", "ok", ""))
    findings = watch.Findings()

    watch.look(subject, findings, [])

    (alarm,) = [each for each in findings._found if each.check == "source"]
    assert (alarm.source, alarm.level) == ("erp", "alarm")
    assert "denied" in alarm.what
    assert alarm.remedy

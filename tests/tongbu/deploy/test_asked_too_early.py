"""What is asked of a lane or a connector that is not there, or of ids that can't be, is refused with what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import connect_stub
import httpx
import pytest
from typer.testing import CliRunner

from schemas.errors import TongbuError
from tongbu import cli, recapture
from tongbu.deploy import commands
from tongbu.deploy.deployment import Deployment


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment that nothing was applied to: no topics, no connectors."""
    subject = Deployment({"KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    subject.__dict__["admin"] = SimpleNamespace(
        list_topics=lambda timeout: SimpleNamespace(topics={})
    )
    connect_stub.install(monkeypatch, lambda _: httpx.Response(404, json={"message": "not found"}))
    for module in (commands, recapture):
        monkeypatch.setattr(module, "deployment", lambda *_: subject)
    return subject


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("republish", "sales_order"), "source erp has no lane log yet"),
        (("incarnation", "erp", "--reason", "moved"), "source erp has no lane log yet"),
        (("recapture", "erp", "--yes"), "source erp has no connector yet"),
    ],
)
def test_before_the_first_apply_it_is_said_that_apply_comes_first(
    command: tuple[str, ...], named: str, subject: Deployment
) -> None:
    with pytest.raises(TongbuError, match=named) as refused:
        run(*command)
    assert "tongbu apply" in refused.value.remedy


@pytest.mark.parametrize("key", ["SO1", "oa:SO1"])
def test_ids_of_no_source_of_the_entity_are_not_passed_over(key: str, subject: Deployment) -> None:
    with pytest.raises(TongbuError, match=f"`{key}` is no id of sales_order"):
        run("republish", "sales_order", "--keys", key)

"""A namespace is for topics beside the live ones: connectors, of which there is one per source, are never led into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import TongbuError
from tongbu import mirror
from tongbu.deploy import commands, connectors, readers
from tongbu.deploy.deployment import Deployment

NAMED = Deployment({"CONNECT_URL": "http://127.0.0.1:1"}, "test.")


@pytest.mark.parametrize("only", [None, commands.Only.connectors])
def test_a_deployment_that_would_lead_live_connectors_into_a_namespace_is_refused_before_anything_is_made(
    only: commands.Only | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "verify", lambda _: None)

    with pytest.raises(TongbuError, match=r"namespace `test\.`") as refused:
        next(commands.steps(NAMED, only))

    assert "--only" in refused.value.remedy


def test_the_other_parts_of_a_namespace_can_be_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "verify", lambda _: None)

    assert next(commands.steps(NAMED, commands.Only.topics))[0] is commands.Only.topics


@pytest.mark.parametrize(
    "use",
    [
        lambda: connectors.reset(NAMED, "erp"),
        lambda: connectors.restart(NAMED, "erp"),
        lambda: connectors.uncaptured(NAMED, "erp"),
        lambda: readers.start(NAMED, "erp", "erp-snapshot-1", []),
    ],
    ids=["reset", "restart", "look for", "read a table"],
)
def test_a_namespace_has_no_connector_to_reset_restart_look_for_or_read_a_table_with(
    use: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connectors, "_check_offset", lambda *_: None)

    with pytest.raises(TongbuError, match=r"namespace `test\.`"):
        use()


def test_a_mirror_in_a_namespace_is_refused_before_its_declaration_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(tables={"public.A": "A"}, known={}, refused=[], narrowed={})
    monkeypatch.setattr(mirror, "deployment", lambda *_: NAMED)
    monkeypatch.setattr(mirror.mirrors, "plan", lambda *_: found)
    written: list[Any] = []
    monkeypatch.setattr(mirror.mirrors, "write", lambda *_: written.append(1))
    monkeypatch.setattr(commands, "perform", lambda *_: None)

    with pytest.raises(TongbuError, match=r"namespace `test\.`"):
        mirror.mirror("erp", ["public.A"], "warehouse", read=False, namespace="test.")

    assert written == []

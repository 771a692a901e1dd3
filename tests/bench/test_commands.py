"""A slip in a command of the harness is told at once, before anything is started."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from schemas.errors import TongbuError
from tongbu.instance import Instance


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("run --only nonsense", "tongbu, debezium-jdbc"),
        ("run --path nonsense", "mariadb-postgresql"),
        ("faults --part nonsense", "stack, processor"),
        ("faults --target nonsense", "sink-warehouse"),
        ("lanes nonsense", "giant"),
        ("processor --only nonsense", "plain or capture"),
        ("sink --only nonsense", "throughput or latency"),
    ],
)
def test_a_name_that_there_is_not_is_refused_with_those_that_are_known(
    command: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Instance, "load", lambda name: pytest.fail(f"{name} is started"))

    with pytest.raises(TongbuError, match="nonsense") as refused:
        CliRunner().invoke(app, command.split(), catch_exceptions=False)
    assert known in refused.value.remedy

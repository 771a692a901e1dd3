"""A slip in a command of the harness is told at once, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import scaling
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


def test_a_second_command_of_the_harness_is_refused_while_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path))
    refused: list[TongbuError] = []

    def meanwhile(*_: object) -> list[dict[str, object]]:
        try:
            CliRunner().invoke(app, ["soak"], catch_exceptions=False)
        except TongbuError as error:
            refused.append(error)
        return []

    monkeypatch.setattr(scaling, "run", meanwhile)
    for _ in range(2):  # the end of the first lets the next one run
        assert CliRunner().invoke(app, ["scaling"]).exit_code == 0
    assert [each.message for each in refused] == [
        "another `python -m bench` (or make bench, faults, soak) runs here"
    ] * 2

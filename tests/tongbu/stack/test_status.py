"""What `tongbu status` says of a stack that does not run, and its exit code."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tongbu.cli import app
from tongbu.instance import Instance
from tongbu.stack import lifecycle
from tongbu.stack.supervision import Supervisor


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path))
    instance = Instance.load("small")
    yield instance
    Supervisor(instance).stop(at_once=True)


def _status() -> tuple[int, str]:
    said = CliRunner().invoke(app, ["status", "--instance", "small"])
    return said.exit_code, said.output


def test_a_stack_that_was_never_up_is_not_unwell(instance: Instance) -> None:
    code, said = _status()
    assert code == 0
    assert "not started" in said


@pytest.mark.parametrize("number", [9, 15])
def test_a_stack_whose_supervisor_has_died_is_unwell_until_it_is_down(
    instance: Instance, number: int
) -> None:
    supervisor = Supervisor(instance)
    supervisor.start([])
    os.kill(supervisor.rpc.getPID(), number)
    while supervisor.running():
        time.sleep(0.05)

    code, said = _status()
    assert code == 1
    assert "supervisord" in said
    assert "died" in said

    lifecycle.down(instance)
    code, said = _status()
    assert code == 0
    assert "supervisord" not in said

"""A service that is down is named in one message, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

DOWN = {
    "KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "CONNECT_URL": "http://127.0.0.1:1",
    "REGISTRY_URL": "http://127.0.0.1:1/apis/ccompat/v7",
    "ERP_DSN": "postgresql://erp:x@127.0.0.1:1/erp",
    "OA_DSN": "mysql://oa:x@127.0.0.1:1/oa",
}


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["plan"], "source erp does not answer"),
        (["tail", "erp"], "Kafka at 127.0.0.1:1 does not answer"),
        (["load", "--seconds", "1"], "a business system does not answer"),
    ],
    ids=["plan", "tail", "load"],
)
def test_a_command_names_the_service_that_is_down(
    command: list[str], named: str, tmp_path: object
) -> None:
    _names(named, command, {**DOWN, "TONGBU_DATA": str(tmp_path)})


@pytest.mark.parametrize(
    ("variable", "address", "named"),
    [
        ("KAFKA_BOOTSTRAP", "127.0.0.1:1", "Kafka at 127.0.0.1:1 does not answer"),
        ("REGISTRY_URL", "http://127.0.0.1:1", "registry at http://127.0.0.1:1 does not answer"),
        (
            "CONNECT_URL",
            "http://127.0.0.1:1",
            "Kafka Connect at http://127.0.0.1:1 does not answer",
        ),
    ],
)
def test_plan_names_the_one_service_that_is_down_among_those_that_are_up(
    variable: str, address: str, named: str, stack: dict[str, str]
) -> None:
    _names(named, ["plan"], {**stack, variable: address})


def _names(named: str, command: list[str], environment: dict[str, str]) -> None:
    """Run a command; it ends with one message that names the service, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "tongbu.cli", *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr

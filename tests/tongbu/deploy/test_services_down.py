"""A service that is down is named in one message, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest

from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.deploy import connectors

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
        (["reconcile", "--json"], "registry at http://127.0.0.1:1/apis/ccompat/v7 does not answer"),
    ],
    ids=["plan", "tail", "load", "reconcile"],
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
    assert done.stdout == ""  # what is asked again and again is no part of an answer
    assert "Traceback" not in done.stderr


def test_a_connect_worker_that_is_busy_is_asked_again_and_one_that_stays_so_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`tongbu apply` ended with one: a worker with another change in hand answered 500 for a moment."""
    monkeypatch.setattr(connectors.time, "sleep", lambda _: None)
    answers = [httpx.Response(500), httpx.Response(409), httpx.Response(200, json={"name": "oa"})]
    busy = httpx.MockTransport(lambda _: answers.pop(0) if len(answers) > 1 else answers[0])
    with httpx.Client(transport=busy, base_url="http://connect") as connect:
        assert connectors.ask(connect, "/connectors/oa/config").json() == {"name": "oa"}

    monkeypatch.setattr(connectors, "_START_SECONDS", -1)
    always = httpx.MockTransport(lambda _: httpx.Response(500, text="Request timed out"))
    with (
        httpx.Client(transport=always, base_url="http://connect") as connect,
        pytest.raises(ServiceUnavailable, match="500: Request timed out"),
    ):
        connectors.ask(connect, "/connectors/oa/config")


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (
            httpx.Response(500, json={"message": "Request timed out"}),
            ServiceUnavailable,
            "500: Request",
        ),
        (
            httpx.Response(502, text="<html>bad gateway"),
            ServiceUnavailable,
            "502: <html>bad gateway",
        ),
        (
            httpx.Response(404, text="<html>not here"),
            TongbuError,
            "refuses /connectors/oa/stop: <html>",
        ),
        (httpx.Response(400, json={"message": "no such class"}), TongbuError, "no such class"),
    ],
)
def test_an_answer_that_is_an_error_is_told_as_what_it_is(
    answer: httpx.Response, error: type[TongbuError], said: str
) -> None:
    transport = httpx.MockTransport(lambda _: answer)
    with (
        httpx.Client(transport=transport, base_url="http://connect") as connect,
        pytest.raises(error, match=said) as told,
    ):
        connectors.send(connect, "PUT", "/connectors/oa/stop")
    assert ("connectors-config" in told.value.remedy) is (error is TongbuError)

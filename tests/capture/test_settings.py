"""What the shipped connectors are told, where Debezium's default loses or guesses; no server is needed."""

from __future__ import annotations

import orjson
import pytest

from tongbu.deploy.connectors import common_settings
from tongbu.deploy.deployment import CONNECTORS

SOURCES = sorted((CONNECTORS / "sources").glob("*.json"))


@pytest.fixture(params=SOURCES, ids=lambda file: file.stem)
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return {**common_settings(), **orjson.loads(request.param.read_bytes())}


def test_a_value_that_can_not_be_converted_stops_the_connector_instead_of_becoming_null(
    settings: dict[str, str],
) -> None:
    assert settings["event.converting.failure.handling.mode"] == "fail"


def test_nothing_between_the_log_and_the_lane_drops_the_envelope(settings: dict[str, str]) -> None:
    assert settings["transforms"] == "route"
    assert settings["transforms.route.type"].endswith("RegexRouter")
    assert settings["skipped.operations"] == "none"


def test_exactly_once_support_is_not_relied_upon(settings: dict[str, str]) -> None:
    worker = (CONNECTORS / "worker.properties").read_text(encoding="utf-8")

    assert "exactly.once" not in worker
    assert not [name for name in settings if name.startswith("exactly.once")]


def test_no_password_stands_in_a_declaration(settings: dict[str, str]) -> None:
    assert settings["database.password"].startswith("${env:TONGBU_")

"""What `tongbu status` says of lanes and sinks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.console import Console

from schemas.errors import ServiceUnavailable
from sink_writers import pulse
from sink_writers.bindings import FOLDER
from sink_writers.pulse import Pulse
from sink_writers.sink import TryLater
from sink_writers.targets import Condition
from tongbu import flow
from tongbu.instance import Instance


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path))
    monkeypatch.setattr(flow, "complete_environment", lambda _: None)
    monkeypatch.setattr(flow.topics, "backlog", lambda *_: 3)
    monkeypatch.setattr(flow.targets, "condition", lambda _: Condition())
    found = Instance.load("small")
    for file in FOLDER.glob("*.yaml"):
        Pulse(found.folder, file.stem, "t")
    return found


def shown(flows: list[flow.Flow]) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(flow.report(flows))
    return captured.get()


def test_a_sink_writer_that_waits_is_not_well_and_says_for_what_and_what_to_do(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_MOMENT_S", -1)
    waiting = Pulse(instance.folder, "order-events", "t")
    waiting.waits("the endpoint does not answer", "Ask its owner.")

    found = {each.name: each for each in flow.inspect(instance) if each.kind == "sink"}
    assert [name for name in found if not found[name].well] == ["order-events"]
    assert found["order-events"].state == "waiting: the endpoint does not answer"
    assert "order-events: Ask its owner." in shown([*found.values()])

    waiting.goes_on()
    assert all(each.well for each in flow.inspect(instance) if each.kind == "sink")


def test_a_sink_writer_that_does_not_run_is_not_well(instance: Instance) -> None:
    pulse.clear(instance.folder, "warehouse")
    found = {each.name: each for each in flow.inspect(instance) if each.kind == "sink"}
    assert [(name, found[name].state) for name in found if not found[name].well] == [
        ("warehouse", "not running")
    ]


def test_what_to_do_of_a_target_that_can_not_be_asked_is_shown(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> Condition:
        raise TryLater("tables are missing", "`tongbu apply` makes them.")

    monkeypatch.setattr(flow.targets, "condition", away)
    assert "warehouse: `tongbu apply` makes them." in shown(flow.inspect(instance))


def test_of_withheld_ids_it_is_shown_what_names_them() -> None:
    assert "`tongbu dlq list` names" in shown([flow.Flow("lane", "erp", 0, "running", withheld=1)])


def test_a_broker_that_does_not_answer_is_waited_for_once(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> int:
        time.sleep(0.5)
        raise ServiceUnavailable("away")

    monkeypatch.setattr(flow.topics, "backlog", away)
    began = time.monotonic()
    assert [each.behind for each in flow.inspect(instance)] == [None] * 5
    assert time.monotonic() - began < 1.5

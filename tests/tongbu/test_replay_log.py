"""What a recorded log becomes before it is replayed."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from lanes import CAPTURED, declarations

from schemas import control
from schemas.errors import DeclarationError, TongbuError
from tongbu.deploy.deployment import Deployment
from tongbu.lane_files import Recorded
from tongbu.replay_log import Adapter, Tried, since


class Registry:
    """Knows some schemas already; registers others from 100 on."""

    def __init__(self, known: dict[str, int]) -> None:
        self.known = known
        self.registered: list[str] = []

    def lookup(self, subject: str, schema: dict[str, Any]) -> int | None:
        return self.known.get(subject)

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        self.registered.append(subject)
        return 99 + len(self.registered)


def recorded(offset: int, key: bytes | None, value: bytes | None) -> Recorded:
    return Recorded(
        topic="cdc.erp", partition=0, offset=offset, timestamp=1000 + offset, key=key, value=value
    )


def log() -> list[Recorded]:
    controls = [control.Lane(source="erp", epoch=1, topic_id="t"), CAPTURED, declarations()]
    found = [recorded(offset, *control.encode(each)) for offset, each in enumerate(controls)]
    rows = [recorded(offset, b"{}", b'{"op":"c"}') for offset in range(3, 8)]
    return [*found, *rows]


def test_rows_and_other_control_records_go_in_as_they_are() -> None:
    adapter = Adapter(Registry({}), "replay.x.")  # type: ignore[arg-type]
    before = [each for each in log() if each.key != b"tongbu:declarations"]
    assert [adapter.adapt(each) for each in before] == before


def test_schema_ids_become_those_of_the_registry_here_and_live_subjects_stay_as_they_are() -> None:
    registry = Registry({"canonical.order.v1-value": 7})
    adapter = Adapter(registry, "replay.x.")  # type: ignore[arg-type]

    adapted = control.decode(adapter.adapt(log()[2]).value or b"")

    assert isinstance(adapted, control.Declarations)
    assert {each.topic: each.id for each in adapted.schemas} == {
        "canonical.order.v1": 7,
        "canonical.transactions.v1": 100,
        "hub.dead-letter.v1": 101,
    }
    assert registry.registered == [
        "replay.x.canonical.transactions.v1-value",
        "replay.x.hub.dead-letter.v1-value",
    ]


def test_a_log_since_a_time_begins_with_what_was_in_force_then() -> None:
    keys = [(each.key, each.offset) for each in since(log(), 1006)]
    assert keys == [
        (b"tongbu:lane", 0),
        (b"tongbu:captured-schema", 1),
        (b"tongbu:declarations", 2),
        (b"{}", 6),
        (b"{}", 7),
    ]


def test_a_log_since_before_its_beginning_is_all_of_it() -> None:
    assert list(since(log(), 0)) == log()


def test_a_log_since_after_its_end_is_empty() -> None:
    assert list(since(log(), 99_999)) == []


def test_a_folder_without_declarations_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(TongbuError, match="has no mappings/"):
        Tried(Deployment({}, declarations=tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped mappings and rules."""
    for name in ("mappings", "rules"):
        shutil.copytree(Path(str(files("streams"))) / name, tmp_path / name)
    return tmp_path


def test_entities_that_the_recording_does_not_know_can_be_tried(folder: Path) -> None:
    tried = Tried(Deployment({}, declarations=folder)).replace(declarations(), None)

    topics = [each.topic for each in tried.schemas]
    made = {f"canonical.{each['declaration']['entity']}.v1" for each in tried.mappings}
    assert "canonical.customer.v1" in made <= set(topics)
    assert "canonical.transactions.v1" in topics
    assert len(topics) == len(set(topics))


def test_a_mapping_that_does_not_fit_is_refused_before_anything_is_made(folder: Path) -> None:
    file = folder / "mappings/u8/customer.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("entity: customer", "entity: custmer"))

    with pytest.raises(DeclarationError, match=r"customer\.yaml:\d+: there is no entity `custmer`"):
        Tried(Deployment({}, declarations=folder))


def test_a_mapping_waits_until_its_tables_are_captured(folder: Path) -> None:
    tried = Tried(Deployment({}, declarations=folder))

    def made(*tables: str) -> list[str]:
        found = tried.replace(declarations(), frozenset(tables))
        return [each["declaration"]["entity"] for each in found.mappings]

    assert made("public.Customer") == ["customer"]
    with pytest.raises(DeclarationError, match="never has all of its tables captured"):
        tried.check_all_used()
    assert len(made(*Deployment({}).tables_of("erp"))) > 1
    tried.check_all_used()

"""The schema registry's client."""

from __future__ import annotations

import socket
import uuid
from copy import deepcopy
from typing import Any

import pytest

from schemas.errors import ServiceUnavailable, TongbuError
from schemas.registry import Registry

THING: dict[str, Any] = {
    "type": "record",
    "name": "Thing",
    "namespace": "canonical.thing.v1",
    "fields": [{"name": "id", "type": "string", "doc": "The id.", "label_zh": "编号"}],
}


def with_field(**field: Any) -> dict[str, Any]:
    schema = deepcopy(THING)
    schema["fields"].append(field)
    return schema


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_registry_that_is_down_is_named_with_its_address(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    registry = Registry(url, patience=0.5)

    for ask in (
        lambda: registry.schema(1),
        lambda: registry.lookup("thing-value", THING),
        lambda: registry.register("thing-value", THING),
    ):
        with pytest.raises(ServiceUnavailable, match=f"{url} does not answer") as trouble:
            ask()
        assert "tongbu status" in trouble.value.remedy


@pytest.fixture
def subject() -> str:
    return f"test.registry.{uuid.uuid4().hex[:8]}-value"


@pytest.fixture
def registry(stack: dict[str, str]) -> Registry:
    return Registry(stack["REGISTRY_URL"])


def test_a_registered_schema_is_found_by_subject_and_by_id(
    registry: Registry, stack: dict[str, str], subject: str
) -> None:
    assert registry.lookup(subject, THING) is None

    schema_id = registry.register(subject, THING)

    assert registry.lookup(subject, THING) == schema_id
    assert Registry(stack["REGISTRY_URL"]).schema(schema_id) == THING


def test_registering_again_gives_the_same_id(registry: Registry, subject: str) -> None:
    assert registry.register(subject, THING) == registry.register(subject, THING)


def test_a_compatible_minor_is_taken_and_an_incompatible_one_refused(
    registry: Registry, subject: str
) -> None:
    first = registry.register(subject, THING)
    registry.set_compatibility(subject, "FULL_TRANSITIVE")

    optional = with_field(name="note", type=["null", "string"], default=None)
    assert registry.register(subject, optional) != first

    with pytest.raises(TongbuError, match="refuses it") as refusal:
        registry.register(subject, with_field(name="code", type="string"))
    assert "new major" in refusal.value.remedy


def test_an_unknown_id_is_no_trouble_of_the_service(registry: Registry) -> None:
    with pytest.raises(TongbuError, match="does not know it") as refusal:
        registry.schema(2_000_000_000)
    assert not isinstance(refusal.value, ServiceUnavailable)

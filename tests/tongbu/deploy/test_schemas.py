"""Schemas in the registry."""

from __future__ import annotations

import secrets
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.catalog import Catalog
from schemas.errors import TongbuError
from schemas.registry import Registry
from tongbu.deploy import schemas


class _Ended(Registry):
    """The registry, of which a command ends as soon as a schema is registered."""

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        super().register(subject, schema)
        raise KeyboardInterrupt


def test_a_subject_is_guarded_also_where_the_command_was_ended_after_its_first_schema(
    stack: dict[str, str],
) -> None:
    known = Catalog.load().entities["customer"]
    schema = replace(known, topic=f"probe.{secrets.token_hex(4)}")
    subject: Any = SimpleNamespace(
        registry=_Ended(stack["REGISTRY_URL"]), catalog=SimpleNamespace(all=lambda: [schema])
    )
    (change,) = schemas.plan(subject)
    with pytest.raises(KeyboardInterrupt):
        change.perform()

    assert list(schemas.plan(subject)) == []
    with pytest.raises(TongbuError, match="refuses it"):
        Registry(stack["REGISTRY_URL"]).register(
            schema.subject, schema.schema | {"fields": schema.schema["fields"][:1]}
        )

"""A reader has its source's settings, but for its log."""

from __future__ import annotations

import orjson
import pytest

from tongbu.deploy import readers
from tongbu.deploy.connectors import common_settings
from tongbu.deploy.deployment import CONNECTORS


@pytest.mark.parametrize("connector", ["erp.json", "oa.json", "mysql-example.json"])
def test_a_reader_touches_neither_slot_nor_history_nor_heartbeat_of_its_source(
    connector: str,
) -> None:
    own = common_settings() | orjson.loads((CONNECTORS / "sources" / connector).read_bytes())

    found = readers.settings(own, "erp-snapshot-1", ["public.a.b", "public.c"])

    assert found["slot.name"] != own.get("slot.name")
    assert not [key for key in found if key.startswith(("heartbeat", "schema.history.internal."))]
    assert found.get("database.server.id") != own.get("database.server.id") or (
        "database.server.id" not in own
    )
    assert found["topic.prefix"] == "erp-snapshot-1"
    assert found["table.include.list"] == r"public\.a\.b,public\.c"
    assert found["snapshot.mode"] == "initial_only"
    assert found["decimal.handling.mode"] == own["decimal.handling.mode"]

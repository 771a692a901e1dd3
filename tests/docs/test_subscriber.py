"""The subscriber of the docs, run as it stands there."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import fastavro
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.codec import encode
from schemas.registry import Registry

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = {
    "type": "record",
    "name": "Thing",
    "fields": [
        {
            "name": "meta",
            "type": {
                "type": "record",
                "name": "Meta",
                "fields": [
                    {"name": "operation", "type": "string"},
                    {"name": "version", "type": "long"},
                ],
            },
        },
        {"name": "id", "type": "string"},
    ],
}


def test_a_subscriber_keeps_the_highest_version_and_ignores_repeats_and_tombstones(
    stack: dict[str, str],
) -> None:
    topic = f"test.subscriber.{uuid.uuid4().hex[:8]}"
    bootstrap = stack["KAFKA_BOOTSTRAP"]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    schema_id = Registry(stack["REGISTRY_URL"]).register(f"{topic}-value", SCHEMA)
    producer = Producer({"bootstrap.servers": bootstrap})
    for operation, version in [
        ("create", 1),
        ("update", 5),
        ("create", 1),
        ("update", 5),
        ("delete", 9),
    ]:
        value = {"meta": {"operation": operation, "version": version}, "id": "erp:C1"}
        producer.produce(topic, encode(schema_id, fastavro.parse_schema(SCHEMA), value), b"erp:C1")
    producer.produce(topic, None, b"erp:C1")
    producer.produce(
        topic,
        encode(
            schema_id,
            fastavro.parse_schema(SCHEMA),
            {"meta": {"operation": "create", "version": 2}, "id": "erp:C2"},
        ),
        b"erp:C2",
    )
    producer.flush()

    command = [sys.executable, str(DOCS / "subscriber.py"), topic, topic]
    with subprocess.Popen(
        command, env={**os.environ, **stack}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(4)]
        process.terminate()

    assert lines == ["create erp:C1 1", "update erp:C1 5", "delete erp:C1 9", "create erp:C2 2"]


def test_the_subscriber_has_at_most_twenty_lines_of_code() -> None:
    lines = (DOCS / "subscriber.py").read_text().splitlines()[1:]  # the first one is its docstring

    assert len([line for line in lines if line.strip()]) <= 20


def test_the_page_shows_the_code_that_is_tested() -> None:
    code = (DOCS / "subscriber.py").read_text()

    assert f"```python\n{code}```" in (DOCS / "subscribers.md").read_text(encoding="utf-8")

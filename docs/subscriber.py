"""A subscriber of a canonical topic: keeps the newest version of every customer, and shows each change."""

import os
import sys

from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

topic, group = sys.argv[1], sys.argv[2]
decode = AvroDeserializer(SchemaRegistryClient({"url": os.environ["REGISTRY_URL"]}))
consumer = Consumer(
    {
        "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"],
        "group.id": group,
        "auto.offset.reset": "earliest",
    }
)
consumer.subscribe([topic])
versions: dict[str, int] = {}
while True:
    message = consumer.poll(1.0)
    if message is None or message.error() or message.value() is None:
        continue  # nothing yet, or the tombstone behind a delete
    record = decode(message.value(), SerializationContext(topic, MessageField.VALUE))
    if record["meta"]["version"] > versions.get(record["id"], -1):
        versions[record["id"]] = record["meta"]["version"]
        print(record["meta"]["operation"], record["id"], record["meta"]["version"], flush=True)

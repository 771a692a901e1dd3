"""A subscriber of a canonical topic: shows each new version of each record, once."""

import os
import sys

from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

topic, group = sys.argv[1:]
broker = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"], "auto.offset.reset": "earliest"}
decode = AvroDeserializer(SchemaRegistryClient({"url": os.environ["REGISTRY_URL"]}))
versions: dict[str, int] = {}  # id -> the highest version seen; a real one keeps it with its data
consumer = Consumer(broker | {"group.id": group})
consumer.subscribe([topic])
while True:
    message = consumer.poll(1.0)
    if message and not message.error() and message.value():  # without value: a delete's tombstone
        record = decode(message.value(), None)
        meta = record["meta"]
        if meta["version"] > versions.get(record["id"], -1):
            versions[record["id"]] = meta["version"]
            print(meta["operation"], record["id"], meta["version"], flush=True)

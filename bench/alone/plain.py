"""
What a plain confluent-kafka loop takes for the same work: the same lane, state, outputs and order of writing, no Faust.

It reads one partition without a group, waits for the delivery of every batch, and never has to give it up: less than a
processor may do.
"""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition

from schemas.declarations import load_sources
from streams.flight import lane_record
from streams.opening import Opener
from streams.outputs import Batch, Outputs
from streams.settings import Settings
from streams.terms import Committed

_BATCH = 500


def run() -> None:
    """Read the ERP's lane until the process is ended."""
    settings = Settings()
    topic = f"{settings.tongbu_namespace}cdc.erp"
    owned = Opener(settings, load_sources(settings.tongbu_sources)).open((topic, 0), Committed())
    outputs = Outputs(
        settings.kafka_bootstrap, settings.tongbu_namespace, settings.delivery_seconds
    )
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": "plain",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, 0, owned.next)])
    while True:
        first = consumer.poll(1.0)
        if first is None:
            continue
        batch = Batch()
        for message in (first, *consumer.consume(_BATCH - 1, 0)):
            record = lane_record("cdc.erp", message)
            for output in owned.lane.process(record):
                if output is not None:
                    outputs.produce(output, batch)
            owned.next = record.offset + 1
        owned.lane.end_batch()
        outputs.flush()
        owned.state.commit(owned.next)


if __name__ == "__main__":
    run()

"""The least that a sink can do: a bare consumer, one prepared upsert of one row and a commit per message."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psycopg
from confluent_kafka import Consumer

_SETTINGS = {
    "group.id": "bench-floor",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    # As the sink writer's: the time to ask again is not what is compared.
    "fetch.queue.backoff.ms": 1,
    "socket.nagle.disable": True,
}


def run(topic: str, file: Path) -> None:
    """Work until killed; append a line `<offset> <microseconds since 1970>` per commit to the file."""
    consumer = Consumer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"], **_SETTINGS})
    consumer.subscribe([topic])
    with psycopg.connect(os.environ["WAREHOUSE_DSN"]) as target, file.open("w") as out:
        target.execute(
            "create table if not exists bench_floor (id bigint primary key, size bigint)"
        )
        target.commit()
        while True:
            message = consumer.poll(1.0)
            if message is None or message.error():
                continue
            target.execute(
                "insert into bench_floor values (%s, %s) on conflict (id) do update set size = excluded.size",
                [message.offset(), len(message.value())],
                prepare=True,
            )
            target.commit()
            out.write(f"{message.offset()} {time.time_ns() // 1000}\n")
            out.flush()


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))

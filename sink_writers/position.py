"""Ownership and position of a place in a PostgreSQL database: targets and the effects ledger share it."""

from __future__ import annotations

from typing import Any

import psycopg

from sink_writers.sink import OtherTopic, Place, Position


def claim(connection: psycopg.Connection[Any], table: str, place: Place) -> Position:
    """Raise the epoch in a transaction of its own and read the position; raise OtherTopic."""
    with connection.transaction():
        row = connection.execute(
            f"""insert into {table} as p
                  (binding, topic, partition_no, topic_id, epoch, next_offset, lane_offset)
                values (%s, %s, %s, %s, 1, 0, 0)
                on conflict (binding, topic, partition_no) do update set epoch = p.epoch + 1
                returning p.topic_id, p.next_offset, p.lane_offset, p.epoch""",
            [place.binding, place.topic, place.partition, place.topic_id],
        ).fetchone()
        assert row is not None
        topic_id, next_offset, lane_offset, epoch = row
        if topic_id != place.topic_id:
            raise OtherTopic(place, topic_id)
    return Position(next_offset, lane_offset, epoch)

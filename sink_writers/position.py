"""Ownership and position of a place in a PostgreSQL database: targets and the effects ledger share it."""

from __future__ import annotations

from typing import Any

import psycopg

from sink_writers.sink import Fenced, OtherTopic, Place, Position


def claim(cursor: psycopg.Cursor[Any], table: str, place: Place) -> Position:
    """Raise the epoch and read the position, in a transaction that the caller ends; raise OtherTopic."""
    row = cursor.execute(
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


def move(
    connection: psycopg.Connection[Any], table: str, place: Place, at: Position, to: Position
) -> None:
    """Move the position if it is where we left it and the epoch is still ours; raise Fenced. Repeating is harmless."""
    moved = connection.execute(
        f"""update {table} set next_offset = %s, lane_offset = %s, moved_at = now()
             where {_MINE} and next_offset in (%s, %s)""",
        [to.next_offset, to.lane_offset, *_key(place, at), at.next_offset, to.next_offset],
    )
    if not moved.rowcount:
        raise Fenced(place)


def check(connection: psycopg.Connection[Any], table: str, place: Place, at: Position) -> None:
    """Hold on to ownership until the transaction ends; raise Fenced where it is another's."""
    found = connection.execute(
        f"select 1 from {table} where {_MINE} for share", _key(place, at)
    ).fetchone()
    if found is None:
        raise Fenced(place)


_MINE = "binding = %s and topic = %s and partition_no = %s and epoch = %s"


def _key(place: Place, at: Position) -> list[Any]:
    return [place.binding, place.topic, place.partition, at.epoch]

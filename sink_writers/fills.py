"""
Filling a target by `republish`: how far each fill is, and what its chunks find left over.

A fill is announced in the target (`begin`) before its first `republish` is appended to the lane log. A chunk counts
if it has the announced id and continues at the progress; it is then the whole truth of its range (after, to] of its
source and entity: what the target has there and the chunk neither brings nor names as withheld, is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sink_writers.messages import Message
from sink_writers.tables import TargetTable

if TYPE_CHECKING:
    from sink_writers.sinks.relational import Database

_MINE = "binding = %s and source = %s and entity = %s"


@dataclass(frozen=True, slots=True)
class Fill:
    """How far a fill is. `reached` is the last id that was filled."""

    binding: str
    source: str
    entity: str
    id: str
    reached: str
    records: int
    deleted: int
    is_done: bool
    started_at: datetime
    moved_at: datetime


def is_fill(message: Message) -> bool:
    """Tell whether a message is a chunk of a fill, which is made for named bindings only."""
    return message.fill is not None and bool(message.only_bindings)


def begin(cursor: Any, table: str, binding: str, source: str, entity: str, fill_id: str) -> None:
    """Announce a fill; one that goes on is given up."""
    key = [binding, source, entity]
    cursor.execute(f"delete from {table} where {_MINE}", key)
    cursor.execute(
        f"insert into {table} (binding, source, entity, fill_id) values (%s, %s, %s, %s)",
        [*key, fill_id],
    )


def read(cursor: Any, table: str, binding: str) -> list[Fill]:
    """Give the fills of a binding, finished ones too."""
    cursor.execute(
        "select binding, source, entity, fill_id, reached, records, deleted, is_done, started_at, moved_at "
        f"from {table} where binding = %s order by started_at, source, entity",
        [binding],
    )
    found = [Fill(*row) for row in cursor.fetchall()]
    return [replace(each, is_done=bool(each.is_done)) for each in found]


def advance(
    database: Database, cursor: Any, binding: str, message: Message, table: TargetTable
) -> list[str]:
    """Note a chunk as progress if it is one, and give the ids that it finds left over."""
    chunk = message.fill
    assert chunk is not None
    name = database.table("tongbu_fill")
    key = [binding, message.source, chunk.entity]
    cursor.execute(
        f"select 1 from {name} where {_MINE} and fill_id = %s and reached = %s and is_done = 0 for update",
        [*key, chunk.id, chunk.after],
    )
    if not cursor.fetchall():
        return []
    brought = {record.key for record in message.records if record.topic == table.topic}
    named = {id_ for entity, id_ in message.withheld if entity == chunk.entity}
    left = sorted(_in_range(database, cursor, message, table) - brought - named)
    cursor.execute(
        f"update {name} set reached = %s, records = records + %s, deleted = deleted + %s, is_done = %s, "
        f"moved_at = current_timestamp(6) where {_MINE}",
        [chunk.to, len(brought), len(left), int(chunk.last), *key],
    )
    return left


def _in_range(database: Database, cursor: Any, message: Message, table: TargetTable) -> set[str]:
    """Give the ids of the chunk's range that the target has, or has set aside."""
    chunk = message.fill
    assert chunk is not None
    found: set[str] = set()
    for column, source, where in (
        ("id", database.table(table.name), ""),
        ("record_key", database.table("tongbu_set_aside"), " and table_name = %s"),
    ):
        bytewise = database.bytewise(column)
        # ";" follows ":", so this is the range of the ids that begin with "<source>:".
        bounds = [f"{message.source}:", f"{message.source};", chunk.after]
        query = f"select {column} from {source} where {bytewise} > %s and {bytewise} < %s and {bytewise} > %s"
        if not chunk.last:
            query, bounds = f"{query} and {bytewise} <= %s", [*bounds, chunk.to]
        cursor.execute(query + where, [*bounds, table.name] if where else bounds)
        found |= {row[0] for row in cursor.fetchall()}
    return found

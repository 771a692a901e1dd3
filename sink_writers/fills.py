"""
Filling a target by `republish`: how far each fill is, and what its chunks find left over.

A fill is announced in the target (`begin`) before its first `republish` is appended to the lane log. A chunk counts
if it has the announced id and continues at the progress; it is then the whole truth of its range (after, to] of its
source and entity: what the target has there and the chunk neither brings nor names as withheld, is deleted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sink_writers.messages import Message
from sink_writers.tables import TargetTable

if TYPE_CHECKING:
    from sink_writers.sinks.relational import Database

_LONGEST_ID = 255
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
    if not continues(database, cursor, binding, message):
        return []
    brought = {record.key for record in message.records if record.topic == table.topic}
    named = {id_ for entity, id_ in message.withheld if entity == chunk.entity}
    left = sorted(_in_range(database, cursor, message, table) - brought - named)
    note(database, cursor, binding, message, len(brought), len(left))
    return left


def continues(database: Database, cursor: Any, binding: str, message: Message) -> bool:
    """Tell whether a chunk is the next one of the announced fill."""
    chunk = message.fill
    assert chunk is not None
    cursor.execute(
        f"select 1 from {database.table('tongbu_fill')} "
        f"where {_MINE} and fill_id = %s and reached = %s and is_done = 0 for update",
        [binding, message.source, chunk.entity, chunk.id, database.letter_key(short(chunk.after))],
    )
    return bool(cursor.fetchall())


def note(
    database: Database, cursor: Any, binding: str, message: Message, brought: int, deleted: int
) -> None:
    """Note how far a chunk has brought a fill."""
    chunk = message.fill
    assert chunk is not None
    cursor.execute(
        f"update {database.table('tongbu_fill')} set reached = %s, records = records + %s, "
        f"deleted = deleted + %s, is_done = %s, moved_at = current_timestamp(6) where {_MINE}",
        [
            database.letter_key(short(chunk.to)), brought, deleted, int(chunk.last),
            binding, message.source, chunk.entity,
        ],
    )  # fmt: skip


def short(id_: str) -> str:
    """Give an id as long as the columns of MariaDB and MySQL allow; the key of a mirrored row may be longer."""
    return id_ if len(id_) <= _LONGEST_ID else digest(id_)


def digest(id_: str) -> str:
    """Give what stands for an id that a column can't hold."""
    return hashlib.sha256(id_.encode()).hexdigest()


def _in_range(database: Database, cursor: Any, message: Message, table: TargetTable) -> set[str]:
    """Give the ids of the chunk's range that the target has, or has set aside."""
    chunk = message.fill
    assert chunk is not None
    found: set[str] = set()
    for column, source, where in (
        (database.column(table.id), database.table(table.name), ""),
        ("record_key", database.table("tongbu_set_aside"), " and table_name = %s"),
    ):
        bytewise = database.bytewise(column)
        # ";" follows ":", so this is the range of the ids that begin with "<source>:".
        bounds = [f"{message.source}:", f"{message.source};", database.comparable(chunk.after)]
        query = f"select {column} from {source} where {bytewise} > %s and {bytewise} < %s and {bytewise} > %s"
        if not chunk.last:
            query, bounds = (
                f"{query} and {bytewise} <= %s",
                [*bounds, database.comparable(chunk.to)],
            )
        cursor.execute(query + where, [*bounds, table.name] if where else bounds)
        found |= {row[0] for row in cursor.fetchall()}
    return found

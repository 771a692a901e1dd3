"""
Mirror: rows of tables that are copied as they are, without a canonical model, every value as text.

A value's text is what its own type's spelling reads back without loss, so a target of the same family needs nothing
but a cast. What Debezium can't bring without loss is refused as for mappings (streams/stages/source_types.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from schemas.captured import Table
from schemas.catalog import MIRROR_ROW, MIRROR_TABLE
from schemas.control import Mirrored
from streams.errors import RecordError
from streams.records import Row, RowChange
from streams.stages.image import Store, image_key
from streams.stages.map import BROKEN, INCOMPLETE
from streams.stages.size import fitting
from streams.stages.source_types import family, reader

if TYPE_CHECKING:
    from streams.stages.encode import Message, Moment
    from streams.withheld import Withheld

Text = Callable[[Any], str]
Encode = Callable[[dict[str, Any]], bytes]

#: Families of types to which targets round, or from which they leave out the time of day.
_ROUNDED = {"int", "decimal", "float", "date", "timestamp", "timestamptz", "time", "interval"}

_EPOCH = datetime(1970, 1, 1)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class MirrorPlan:
    """A mirrored table in force. `entity` is its name, by which it is republished and its rows are withheld."""

    entity: str
    columns: tuple[tuple[str, Text], ...]
    key: tuple[tuple[str, Text], ...]
    description: bytes
    encode: Encode

    def id(self, source: str, key: bytes) -> str:
        """Give the id of a row by the bytes of its key (see image.row_key)."""
        return f"{source}:{self.entity}{key.decode()}"

    def key_of(self, source: str, id_: str) -> bytes:
        """Give the key bytes of an id; nothing for another table's."""
        prefix = f"{source}:{self.entity}"
        return id_.removeprefix(prefix).encode() if id_.startswith(prefix) else b""

    def row_of(self, key: bytes) -> Row:
        """Give the columns of a key; nothing for one that rows had when the table had another."""
        names = [name for name, _ in self.key]
        values = orjson.loads(key) if key.startswith(b"[") else []
        return dict(zip(names, values, strict=True)) if len(values) == len(names) else {}


def can_be_mirrored(table: Table) -> bool:
    """Tell whether a table's rows can be told apart at a mirror: it has a key, whose values come without loss."""
    key = [table.column(name) for name in table.key]
    readable = all(each is not None and text_of(each.type) is not None for each in key)
    return bool(key) and readable and not table.keyless


def rounds(before: str, now: str) -> bool:
    """Tell whether a column of a former type takes values of the present one rounded, without a word; others it refuses."""
    old, new = family(before), family(now)
    if old is None or old.name not in _ROUNDED:
        return False
    if new is not None and new.name == old.name == "decimal":
        return before.partition(",")[2] != now.partition(",")[2]
    return not (new is not None and new.name == old.name == "int")


def compile_mirror(
    declared: Mirrored, source: str, database: str, table: Table, describe: Encode, encode: Encode
) -> MirrorPlan:
    """Compile a mirrored table; columns whose values can't be had without loss are left out."""
    texts = {
        column.name: text
        for column in table.columns
        if column.name not in declared.without and (text := text_of(column.type)) is not None
    }
    value = {
        "source": source,
        "table": declared.table,
        "database": database,
        "targets": declared.targets,
        "columns": [
            {"name": each.name, "type": each.type} for each in table.columns if each.name in texts
        ],
        "key": list(table.key),
    }
    key = tuple((name, texts[name]) for name in table.key)
    return MirrorPlan(declared.table, tuple(texts.items()), key, describe(value), encode)


def rows_after(
    plan: MirrorPlan, source: str, after: str, limit: int, store: Store
) -> list[tuple[bytes, Row]]:
    """Give the next rows of a table with their key bytes, in the order of those."""
    prefix = image_key(plan.entity, b"")
    found = store.scan(prefix, plan.key_of(source, after), limit)
    return [(key.removeprefix(prefix), row) for key, row in found]


class MirrorRows:
    """Adds rows of mirrored tables to the message of one lane offset, each table's description before its first row."""

    def __init__(self, moment: Moment, message: Message, withheld: Withheld) -> None:
        self._moment, self._message, self._withheld = moment, message, withheld
        self._described: set[str] = set()

    def describe(self, plan: MirrorPlan) -> None:
        """Say what the table's rows mean, once."""
        if plan.entity not in self._described:
            self._described.add(plan.entity)
            self._append(MIRROR_TABLE, plan.entity, "update", plan.description)

    def add(self, plan: MirrorPlan, change: RowChange) -> None:
        """Take a change of a row; one whose key changed is a delete and a new row."""
        if change.before_key is not None and change.before is not None:
            self.put(plan, change.before_key, change.before, "delete")
        if change.after is not None:
            self.put(
                plan, change.key, change.after, "create" if change.before is None else "update"
            )
        elif change.before is not None:
            self.put(plan, change.key, change.before, "delete")

    def put(self, plan: MirrorPlan, key: bytes, row: Row, operation: str) -> bool:
        """Add a row as it is now, or that it is gone; one that can't be brought without loss is withheld. Tell whether it is not."""
        id_ = plan.id(self._moment.source, key)
        try:
            self._row(
                plan, id_, operation, row, [] if operation == "delete" else _values(plan, row)
            )
        except RecordError as error:
            self._withheld.withhold(plan, id_, error, orjson.dumps(row))
            return False
        self._withheld.release(plan, id_)
        return True

    def chunk(self, plan: MirrorPlan, rows: Iterable[tuple[bytes, Row]]) -> None:
        """
        Add rows of a chunk of a republish.

        Targets know rows by their key alone and delete what a fill does not bring, so of a withheld one its key says that it
        is there. No target has a row whose key has no text.
        """
        for key, row in rows:
            if not self.put(plan, key, row, "snapshot"):
                with suppress(RecordError):
                    self._row(plan, plan.id(self._moment.source, key), "snapshot", row, [])

    def truncate(self, plan: MirrorPlan) -> None:
        """The table was emptied, also of the rows that are withheld."""
        for id_ in self._withheld.ids(plan):
            self._withheld.release(plan, id_)
        self.describe(plan)
        value = plan.encode({"table": plan.entity, "key": [], "values": []})
        self._append(MIRROR_ROW, f"{self._moment.source}:{plan.entity}", "truncate", value)

    def current(self, plan: MirrorPlan, ids: Iterable[str], store: Store) -> Iterator[None]:
        """Bring rows as they are now; of one that is gone there is nothing to bring but a delete that was withheld."""
        for id_ in ids:
            key = plan.key_of(self._moment.source, id_)
            row = store.get(image_key(plan.entity, key))
            if row is not None:
                self.put(plan, key, row, "snapshot")
            elif self._withheld.holds(plan, id_) and (last := plan.row_of(key)):
                self.put(plan, key, last, "delete")
            else:
                self._withheld.release(plan, id_)
            yield

    def _row(
        self, plan: MirrorPlan, id_: str, operation: str, row: Row, values: list[str | None]
    ) -> None:
        key = [_key_text(name, text, row) for name, text in plan.key]
        value = fitting(plan.encode({"table": plan.entity, "key": key, "values": values}))
        self.describe(plan)
        self._append(MIRROR_ROW, id_, operation, value)

    def _append(self, topic: str, key: str, operation: str, value: bytes) -> None:
        self._message.add(
            {
                "topic": topic,
                "key": key,
                "operation": operation,
                "version": self._moment.lane_offset,
                "value": value,
            }
        )


def _values(plan: MirrorPlan, row: Row) -> list[str | None]:
    if BROKEN in row:
        raise RecordError("image", row[BROKEN], "a row could not be completed")
    return [
        None if (value := row.get(name)) is None else _text(name, text, value)
        for name, text in plan.columns
    ]


def _key_text(name: str, text: Text, row: Row) -> str:
    if name not in row:
        raise RecordError("image", "incomplete", INCOMPLETE.format(name))
    return _text(name, text, row[name])


def _text(name: str, text: Text, value: Any) -> str:
    try:
        return text(value)
    except Exception as error:  # also where the image has the value of another type: whatever the reader makes of it
        message = f"column `{name}` has a value that did not come as it was stored"
        raise RecordError("mirror", "not-exact", message) from error


def text_of(column_type: str) -> Text | None:
    """Give the function from a value's JSON form to its text; None for types that are refused."""
    read = reader(column_type)
    if read is None:
        return None
    spell = _spelling(column_type)
    return lambda value: spell(read(value))


def _spelling(column_type: str) -> Text:
    if column_type.endswith("[]"):
        return _array(_spelling(column_type.removesuffix("[]")))
    if column_type == "hstore":
        return _hstore
    found = family(column_type)
    assert found is not None
    if found.name == "bits":
        width = int(column_type.partition("(")[2].rstrip(")"))
        return lambda value: format(value, f"0{width}b")
    return _SPELLED[found.name]


def _array(element: Text) -> Text:
    def spell(values: list[Any]) -> str:
        return (
            "{"
            + ",".join("NULL" if each is None else _quoted(element(each)) for each in values)
            + "}"
        )

    return spell


def _hstore(value: str) -> str:
    pairs: dict[str, str | None] = orjson.loads(value)
    return ",".join(
        f"{_quoted(key)}=>{'NULL' if each is None else _quoted(each)}"
        for key, each in pairs.items()
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _day(value: int) -> str:
    return date.fromordinal(value + _EPOCH_DAY).isoformat()


def _moment(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(" ")


def _time(micros: int) -> str:
    """Spell a time of day or, of MariaDB and MySQL, a span of hours that may be negative."""
    seconds, rest = divmod(abs(micros), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{'-' if micros < 0 else ''}{hour:02}:{minute:02}:{second:02}.{rest:06}"


#: Family of source_types -> the text of a value that its reader gave.
_SPELLED: dict[str, Text] = {
    "boolean": lambda value: "1" if value else "0",
    "int": str,
    "decimal": str,
    "float": repr,
    "date": _day,
    "timestamp": _moment,
    "timestamptz": _moment,
    "time": _time,
    "interval": str,
    "json": str,
    "text": str,
    "binary": lambda value: "\\x" + value.hex(),
    "geometry": lambda value: f"{value[0]};{value[1].hex()}",
}

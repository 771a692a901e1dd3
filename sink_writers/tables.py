"""Target tables: what columns there are, where their values come from, and what refers to what."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from schemas.errors import TongbuError

#: Name of the version in the rows of a table, and of its column where a binding does not name it otherwise.
VERSION = "version"

_LONGEST_NAME = 63


class Unfit(TongbuError):
    """A binding asks for what can't be; `path` leads to the place in its file."""

    def __init__(self, path: tuple[str, ...], message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.path = path


class Column(NamedTuple):
    """A column: its name, the path of its value in the Avro record, its SQL type, and the kind of value."""

    name: str
    path: tuple[str, ...]
    sql_type: str
    kind: str


class Reference(NamedTuple):
    """A column whose value is the id of a row of another root table (or of the same), in that table's column `id`."""

    column: str
    table: str
    id: str = "id"

    def name(self, table: TargetTable) -> str:
        """Give the name of its foreign key, within what all databases allow (63 bytes)."""
        full = f"{table.name}_{self.column}_fk"
        if len(full.encode()) <= _LONGEST_NAME:
            return full
        return f"fk_{hashlib.sha256(full.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class TargetTable:
    """
    A table. `parent` is the table its rows belong to, `array` the field that holds them; both None for a root.

    `where` gives, by path in the record, the values (as text) of the records that it has; other records it has not.
    """

    entity: str
    topic: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    parent: str | None = None
    array: str | None = None
    references: tuple[Reference, ...] = ()
    where: tuple[tuple[tuple[str, ...], frozenset[str]], ...] = ()
    #: Name of the version in the rows of a root. Where it is no column, the version stands in `tongbu_fence`.
    version: str = VERSION
    keeps_version: bool = True
    #: Of a child: the column of its parent that its own `id` refers to.
    parent_id: str = "id"

    @property
    def id(self) -> str:
        """The column of the canonical id: a root's own, a child's owner."""
        return self.key[0]

    @property
    def to_itself(self) -> tuple[str, ...]:
        """The columns that refer to another row of the same table."""
        return tuple(each.column for each in self.references if each.table == self.name)

    @property
    def values(self) -> tuple[Column, ...]:
        """The columns outside the key."""
        return tuple(column for column in self.columns if column.name not in self.key)

    @cached_property
    def _plain(self) -> list[tuple[str, str]]:
        return [(column.name, column.path[0]) for column in self.columns if len(column.path) == 1]

    @cached_property
    def _nested(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(column.name, column.path) for column in self.columns if len(column.path) > 1]

    def has(self, value: dict[str, Any]) -> bool:
        """Tell whether a decoded record belongs here."""
        for path, wanted in self.where:
            found: Any = value
            for step in path:
                found = found.get(step) if isinstance(found, dict) else None
            text = str(found).lower() if isinstance(found, bool) else str(found)
            if found is None or text not in wanted:
                return False
        return True

    def row(self, value: dict[str, Any]) -> dict[str, Any]:
        """Take the columns' values out of a decoded record (or array item); None where a part of a path is missing."""
        row = {name: value.get(field) for name, field in self._plain}
        for name, path in self._nested:
            inner: Any = value
            for step in path:
                inner = inner.get(step)
                if inner is None:
                    break
            row[name] = inner
        if not self.keeps_version:
            row[self.version] = value["meta"]["version"]
        return row

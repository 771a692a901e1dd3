"""
Map: an aggregate (root row, part rows, looked-up rows) becomes the fields of a canonical record.

A mapping becomes a tree of nodes when its declarations come into force (streams/stages/map_code.py, map_nodes.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas import expressions as form
from schemas.captured import Column, Table
from schemas.declarations import Mapping
from schemas.errors import TongbuError
from schemas.expressions import Lookup, Part
from streams.errors import RecordError
from streams.records import Row
from streams.stages.map_code import Reads, Scope, fields_of
from streams.stages.map_nodes import ROOT, Fields, Rows
from streams.stages.source_types import Read, family

#: A row image that could not be completed carries the error's code under this name, which no column can have.
BROKEN = "\0broken"
#: What is said of a row image that lacks a column.
INCOMPLETE = (
    "a row that was read before its table had the column `{}`: "
    "its next change brings it, `tongbu snapshot` that of all rows"
)


class Aggregate:
    """What a mapping reads, and in `record` what it made: rules decide on that."""

    def __init__(
        self,
        root: Row,
        singles: dict[str, Row | None] | None = None,
        record: dict[str, Any] | None = None,
    ) -> None:
        self.root = root
        self.singles: dict[str, Row | None] = {} if singles is None else singles
        self.parts: dict[str, list[Row]] = {}
        self.record: dict[str, Any] = {} if record is None else record

    def broken(self) -> str | None:
        """Give the error code of a row that could not be completed; None where all rows are whole."""
        rows = [self.root, *[row for row in self.singles.values() if row]]
        rows += [row for part in self.parts.values() for row in part]
        return next((row[BROKEN] for row in rows if BROKEN in row), None)


@dataclass(frozen=True)
class CompiledMapping:
    """
    A mapping in force; with misfits it can't be evaluated, and its tables are quarantined.

    `orders` read the columns that the rows of parts are ordered by, by the alias of the part.
    """

    mapping: Mapping
    reads: Reads
    fields: Fields
    orders: dict[str, Read]

    def __call__(self, aggregate: Aggregate) -> dict[str, Any]:
        """Give the mapped fields; raise RecordError where a value does not fit, or a required one is missing."""
        try:
            rows = Rows(aggregate.root, aggregate.singles, aggregate.parts)
            aggregate.record = self.fields.value(rows)
        except KeyError as error:
            raise RecordError("image", "incomplete", INCOMPLETE.format(error.args[0])) from error
        return aggregate.record


def compile_mapping(
    mapping: Mapping, source: str, zone: str, tables: dict[str, Table], avro_fields: dict[str, Any]
) -> CompiledMapping:
    """
    Compile a mapping for the captured tables and the entity's Avro fields.

    Columns that the tables don't have, or not in a form that can be used, are its misfits. Raise TongbuError where
    it names a table that is not captured, or a field that the entity does not have.
    """
    root = _table(mapping.mapping, tables, mapping.from_)
    parts = {
        name: _table(mapping.mapping, tables, part.from_) for name, part in mapping.parts.items()
    }
    singles = {
        name: _table(mapping.mapping, tables, each.from_) for name, each in mapping.lookups.items()
    }
    singles |= {name: parts[name] for name, part in mapping.parts.items() if part.one}
    unknown = [name for name in mapping.fields if name not in avro_fields]
    if unknown:
        raise TongbuError(f"{mapping.mapping}: the entity has no field `{unknown[0]}`")
    reads = Reads()
    _structure(mapping, root, parts, singles, reads)
    orders = {
        alias: _order(parts[alias].column(part.order_by))
        for alias, part in mapping.parts.items()
        if part.order_by is not None
    }
    scope = Scope(source, zone, reads, root, {**singles, ROOT: root}, parts)
    sums_last = sorted(mapping.fields.items(), key=lambda each: isinstance(each[1], form.Sum))
    return CompiledMapping(mapping, reads, fields_of(dict(sums_last), avro_fields, scope), orders)


def _structure(
    mapping: Mapping, root: Table, parts: dict[str, Table], singles: dict[str, Table], reads: Reads
) -> None:
    """Note the columns that tell which rows belong together: keys, scope, ids, joins."""
    for table in (root, *parts.values(), *singles.values()):
        if not table.key:
            reads.refuse(table, "", f"table `{table.qualified}` has no primary key")
        for name in table.key:
            reads.column(table, name)
    for name in (*mapping.id_columns, *mapping.where):
        reads.column(root, name)
    for alias, part in mapping.parts.items():
        _part(part, parts[alias], root, reads)
    for alias, lookup in mapping.lookups.items():
        _lookup(lookup, singles[alias], root, singles, reads)


def _part(part: Part, table: Table, root: Table, reads: Reads) -> None:
    for name in (*part.join, *filter(None, [part.order_by])):
        reads.column(table, name)
    if set(part.join.values()) != set(root.key):
        joined = f"a part joins {sorted(part.join.values())}, but the key of {root.qualified} is {sorted(root.key)}"
        reads.refuse(root, ", ".join(root.key), joined)


def _order(column: Column | None) -> Read:
    """Give how a column is read to order by it: as it comes where its type is not known, or infinity is a number, too."""
    found = None if column is None else family(column.type)
    return _as_it_comes if found is None or found.name in ("date", "timestamp") else found.read


def _as_it_comes(value: Any) -> Any:
    return value


def _lookup(
    lookup: Lookup, table: Table, root: Table, singles: dict[str, Table], reads: Reads
) -> None:
    if set(lookup.key) != set(table.key):
        named = f"a lookup names {sorted(lookup.key)}, but the key of {table.qualified} is {sorted(table.key)}"
        reads.refuse(table, ", ".join(table.key), named)
    for path in lookup.key.values():
        alias, dot, name = path.partition(".")
        if not dot or alias in singles:
            reads.column(singles[alias] if dot else root, name if dot else path)


def _table(mapping: str, tables: dict[str, Table], name: str) -> Table:
    if name not in tables:
        raise TongbuError(f"{mapping}: table `{name}` is not captured", "Run `tongbu apply`.")
    return tables[name]

"""
Map: an aggregate (root row, part rows, looked-up rows) becomes the fields of a canonical record.

A mapping becomes the source of one straight function when its declarations come into force: a statement or two
per field, no calls in between (streams/stages/map_code.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from schemas import expressions as form
from schemas.captured import Table
from schemas.declarations import Mapping
from schemas.errors import TongbuError
from schemas.source_code import SourceCode
from streams.records import Row
from streams.stages.map_code import ROOT, Place, Scope, fields_of

#: A row image that could not be completed carries the error's code under this name, which no column can have.
BROKEN = "\0broken"


@dataclass(slots=True)
class Aggregate:
    """What a mapping reads, and in `record` what it made: rules decide on that."""

    root: Row
    singles: dict[str, Row | None] = field(default_factory=dict)
    parts: dict[str, list[Row]] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    def broken(self) -> str | None:
        """Give the error code of a row that could not be completed; None where all rows are whole."""
        rows = [self.root, *(row for row in self.singles.values() if row)]
        rows += [row for part in self.parts.values() for row in part]
        return next((row[BROKEN] for row in rows if BROKEN in row), None)


@dataclass(frozen=True, slots=True)
class CompiledMapping:
    """A mapping in force."""

    mapping: Mapping
    evaluate: Callable[[Row, dict[str, Row | None], dict[str, list[Row]]], dict[str, Any]]

    def __call__(self, aggregate: Aggregate) -> dict[str, Any]:
        """Give the mapped fields; raise RecordError where a value does not fit, or a required one is missing."""
        aggregate.record = self.evaluate(aggregate.root, aggregate.singles, aggregate.parts)
        return aggregate.record


def compile_mapping(
    mapping: Mapping, source: str, zone: str, tables: dict[str, Table], avro_fields: dict[str, Any]
) -> CompiledMapping:
    """
    Compile a mapping for the captured tables and the entity's Avro fields.

    Raise TongbuError where it names a table, column or field that is not there: `tongbu plan` finds that
    before it reaches a lane.
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
    code = SourceCode("evaluate", "root", "singles", "parts")
    places = {ROOT: Place("root", root)}
    for alias, table in singles.items():
        places[alias] = Place(code.variable(), table, optional=True)
        code.line(f"{places[alias].variable} = singles[{alias!r}]")
    scope = Scope(source, zone, places[ROOT], places, parts)
    sums_last = sorted(mapping.fields.items(), key=lambda each: isinstance(each[1], form.Sum))
    code.line(f"return {fields_of(code, dict(sums_last), avro_fields, scope)}")
    return CompiledMapping(mapping, code.function())


def _table(mapping: str, tables: dict[str, Table], name: str) -> Table:
    if name not in tables:
        raise TongbuError(f"{mapping}: table `{name}` is not captured", "Run `tongbu apply`.")
    return tables[name]

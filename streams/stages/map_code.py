"""
The mapping language: each form of expression becomes a node of `streams.stages.map_nodes`.

What it reads is checked against the captured tables: columns that are not there, or not in a form that can be used, are misfits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from schemas import expressions as form
from schemas.captured import Column, Table
from schemas.errors import TongbuError
from schemas.expressions import Expression
from streams.stages.convert import avro_kind, converter, family, optional
from streams.stages.map_nodes import (
    Case,
    Cell,
    CodeOf,
    Condition,
    Constant,
    Converted,
    CountOf,
    EachOf,
    Field,
    Fields,
    FirstCase,
    IdOf,
    LocalTime,
    Node,
    Pair,
    SumOf,
    Text,
)

_DECIMAL = {"type": "bytes", "logicalType": "decimal"}


@dataclass(frozen=True, slots=True)
class Misfit:
    """A column that a mapping reads and that its table does not have in a form that the mapping can use."""

    table: str
    column: str
    why: str


@dataclass(frozen=True, slots=True)
class Reads:
    """What a mapping reads: the columns of each table, and which of them it can't use."""

    columns: dict[str, set[str]] = field(default_factory=dict)
    misfits: list[Misfit] = field(default_factory=list)

    def column(self, table: Table, name: str) -> Column | None:
        """Note that a column is read, and give it; a missing one is a misfit."""
        self.columns.setdefault(table.qualified, set()).add(name)
        found = table.column(name)
        if found is None:
            self.refuse(table, name, f"table `{table.qualified}` has no column `{name}`")
        return found

    def refuse(self, table: Table, name: str, why: str) -> None:
        """Note that a column can't be used, and why."""
        self.misfits.append(Misfit(table.qualified, name, why))


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands: the tables behind plain names and aliases, the arrays mapped so far, and the source's surroundings."""

    source: str
    zone: str
    reads: Reads
    table: Table
    aliases: dict[str, Table]
    parts: dict[str, Table]
    arrays: set[str] = field(default_factory=set)


def fields_of(fields: dict[str, Expression], avro_types: dict[str, Any], scope: Scope) -> Fields:
    """Compile the fields of a record."""
    made = []
    for name, expression in fields.items():
        avro_type = avro_types[name]
        node = _compile(expression, avro_type, scope)
        made.append(Field(name, node, not optional(avro_type), symbols_of(avro_type)))
        if isinstance(expression, form.Each):
            scope.arrays.add(name)
    return Fields(made)


def symbols_of(avro_type: Any) -> frozenset[str] | None:
    """Give the symbols of an enum; None for other types."""
    if isinstance(avro_type, list):
        return next((found for each in avro_type if (found := symbols_of(each))), None)
    is_enum = isinstance(avro_type, dict) and avro_type["type"] == "enum"
    return frozenset(avro_type["symbols"]) if is_enum else None


def _compile(expression: Expression, avro_type: Any, scope: Scope) -> Node:
    if isinstance(expression, str):
        return _column(expression, avro_type, scope)
    return _COMPILERS[type(expression)](expression, avro_type, scope)


def _cell(path: str, scope: Scope) -> tuple[Cell, Column | None, Table]:
    """Read a column as it is; give the node, the column (None: a misfit) and its table."""
    alias, dot, name = path.partition(".")
    if dot and alias not in scope.aliases:
        raise TongbuError(f"`{path}`: there is no lookup or single part `{alias}`")
    table = scope.aliases[alias] if dot else scope.table
    cell = Cell(alias, name) if dot else Cell(None, path)
    return cell, scope.reads.column(table, cell.name), table


def _column(path: str, avro_type: Any, scope: Scope) -> Node:
    kind = avro_kind(avro_type)
    cell, column, table = _cell(path, scope)
    if column is None:
        return cell
    where = f"column `{path}` ({column.type})"
    try:
        convert = converter(column.type, avro_type)
    except KeyError:
        scope.reads.refuse(table, column.name, f"{where} can't become {kind}")
        return cell
    return Converted(cell, convert, where, table.qualified)


def _as_text(expression: Expression, scope: Scope) -> Node:
    """Read a code as text, whatever its column's type."""
    if not isinstance(expression, str):
        return _compile(expression, "string", scope)
    cell, column, _ = _cell(expression, scope)
    return cell if column is None or family(column.type) == "text" else Text(cell)


def _const(expression: form.Const, avro_type: Any, scope: Scope) -> Node:
    del avro_type, scope
    return Constant(expression.const)


def _codes(expression: form.Codes, avro_type: Any, scope: Scope) -> Node:
    symbols = symbols_of(avro_type) or frozenset()
    default = expression.default or ("unknown" if "unknown" in symbols else None)
    return CodeOf(_as_text(expression.of, scope), expression.codes, default, str(expression.of))


def _cases(expression: form.Cases, avro_type: Any, scope: Scope) -> Node:
    del avro_type
    cases = [
        Case([_condition(path, wanted, scope) for path, wanted in case.when.items()], case.then)
        for case in expression.cases
    ]
    return FirstCase(cases, expression.default)


def _condition(path: str, wanted: Any, scope: Scope) -> Condition:
    read = _as_text(path, scope)
    if wanted in ("present", "absent"):
        return Condition(read, None, wanted == "present")
    listed = wanted if isinstance(wanted, list) else [wanted]
    texts = [str(int(each) if isinstance(each, bool) else each) for each in listed]
    return Condition(read, frozenset(texts), True)


def _reference(expression: form.Reference, avro_type: Any, scope: Scope) -> Node:
    del avro_type
    paths = [expression.to] if isinstance(expression.to, str) else expression.to
    prefix = f"{expression.source or scope.source}:"
    return IdOf(prefix, [_as_text(path, scope) for path in paths])


def _money(expression: form.MoneyOf, avro_type: Any, scope: Scope) -> Node:
    del avro_type
    number = _compile(expression.money, _DECIMAL, scope)
    currency = _compile(expression.currency, "string", scope)
    return Pair(("amount", "currency"), number, currency, str(expression.money))


def _quantity(expression: form.QuantityOf, avro_type: Any, scope: Scope) -> Node:
    del avro_type
    number = _compile(expression.quantity, _DECIMAL, scope)
    unit = _compile(expression.unit, "string", scope)
    return Pair(("value", "unit"), number, unit, str(expression.quantity))


def _local_time(expression: form.LocalTimeOf, avro_type: Any, scope: Scope) -> Node:
    del avro_type
    paths = expression.local_time
    listed = [paths] if isinstance(paths, str) else paths
    return LocalTime([_column(path, "local", scope) for path in listed], scope.zone, str(paths))


def _count(expression: form.Count, avro_type: Any, scope: Scope) -> Node:
    del avro_type, scope
    return CountOf(expression.count)


def _sum(expression: form.Sum, avro_type: Any, scope: Scope) -> Node:
    array, _, name = expression.sum.partition(".")
    if array not in scope.arrays:
        raise TongbuError(f"`{expression.sum}`: there is no mapped array `{array}`")
    nothing = None if optional(avro_type) else {"amount": Decimal(0), "currency": "XXX"}
    return SumOf(array, name, nothing)


def _each(expression: form.Each, avro_type: Any, scope: Scope) -> Node:
    item = {each["name"]: each["type"] for each in _items(avro_type)["fields"]}
    unknown = set(expression.fields) - set(item)
    if unknown:
        raise TongbuError(f"`{expression.each}`: the array has no field `{min(unknown)}`")
    inner = replace(scope, table=scope.parts[expression.each], arrays=set())
    return EachOf(expression.each, fields_of(expression.fields, item, inner))


def _items(avro_type: Any) -> Any:
    if isinstance(avro_type, list):
        return _items(next(each for each in avro_type if each != "null"))
    return avro_type["items"]


_COMPILERS: dict[type, Callable[[Any, Any, Scope], Node]] = {
    form.Const: _const,
    form.Codes: _codes,
    form.Cases: _cases,
    form.Reference: _reference,
    form.MoneyOf: _money,
    form.QuantityOf: _quantity,
    form.LocalTimeOf: _local_time,
    form.Count: _count,
    form.Sum: _sum,
    form.Each: _each,
}

"""
Map: an aggregate (root row, part rows, looked-up rows) becomes the fields of a canonical record.

A mapping is compiled once, when its declarations come into force, into plain closures: one per field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce
from typing import Any

from schemas import expressions as form
from schemas.captured import Table
from schemas.declarations import Mapping
from schemas.errors import TongbuError
from schemas.expressions import Expression
from streams.errors import RecordError
from streams.records import Row
from streams.stages.convert import (
    EXACT,
    avro_kind,
    converter,
    family,
    local_time,
    optional,
    to_decimal,
)

Evaluate = Callable[["Aggregate"], Any]

ROOT = "root"

#: A row image that could not be completed carries the error's code under this name, which no column can have.
BROKEN = "\0broken"


@dataclass(slots=True)
class Aggregate:
    """What a mapping reads: `row` is the row that plain column names mean at the moment."""

    root: Row
    row: Row
    singles: dict[str, Row | None] = field(default_factory=dict)
    parts: dict[str, list[Row]] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    def broken(self) -> str | None:
        """Give the error code of a row that could not be completed; None where all rows are whole."""
        rows = [self.root, *(row for row in self.singles.values() if row)]
        rows += [row for part in self.parts.values() for row in part]
        return next((row[BROKEN] for row in rows if BROKEN in row), None)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands: tables behind plain names and aliases, and the source's surroundings."""

    source: str
    zone: str
    row: Table
    aliases: dict[str, Table]
    parts: dict[str, Table]


@dataclass(frozen=True, slots=True)
class Field:
    """A compiled field."""

    name: str
    required: bool
    symbols: frozenset[str] | None
    evaluate: Evaluate


@dataclass(frozen=True, slots=True)
class CompiledMapping:
    """A mapping in force."""

    mapping: Mapping
    fields: tuple[Field, ...]
    last: tuple[Field, ...]

    def __call__(self, aggregate: Aggregate) -> dict[str, Any]:
        """Give the mapped fields; raise RecordError where a value does not fit, or a required one is missing."""
        record = aggregate.record
        for each in self.fields:
            record[each.name] = _evaluate(each, aggregate)
        for each in self.last:
            record[each.name] = _evaluate(each, aggregate)
        return record


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
    aliases = {ROOT: root}
    aliases |= {
        name: _table(mapping.mapping, tables, each.from_) for name, each in mapping.lookups.items()
    }
    aliases |= {name: parts[name] for name, part in mapping.parts.items() if part.one}
    scope = Scope(source, zone, root, aliases, parts)
    fields: list[Field] = []
    last: list[Field] = []
    for name, expression in mapping.fields.items():
        if name not in avro_fields:
            raise TongbuError(f"{mapping.mapping}: the entity has no field `{name}`")
        compiled = _field(name, expression, avro_fields[name], scope)
        (last if isinstance(expression, form.Sum) else fields).append(compiled)
    return CompiledMapping(mapping, tuple(fields), tuple(last))


def _table(mapping: str, tables: dict[str, Table], name: str) -> Table:
    if name not in tables:
        raise TongbuError(f"{mapping}: table `{name}` is not captured", "Run `tongbu apply`.")
    return tables[name]


def _field(name: str, expression: Expression, avro_type: Any, scope: Scope) -> Field:
    return Field(
        name=name,
        required=not optional(avro_type),
        symbols=_symbols(avro_type),
        evaluate=_compile(expression, avro_type, scope),
    )


def _symbols(avro_type: Any) -> frozenset[str] | None:
    if isinstance(avro_type, list):
        return next((found for each in avro_type if (found := _symbols(each))), None)
    is_enum = isinstance(avro_type, dict) and avro_type["type"] == "enum"
    return frozenset(avro_type["symbols"]) if is_enum else None


def _evaluate(field_: Field, aggregate: Aggregate) -> Any:
    value = field_.evaluate(aggregate)
    if value is None:
        if field_.required:
            raise RecordError(
                "map", "required", f"field `{field_.name}` is required, but it is null"
            )
    elif field_.symbols is not None and value not in field_.symbols:
        raise RecordError(
            "map", "unmapped-code", f"field `{field_.name}`: a code that is not mapped"
        )
    return value


def _compile(expression: Expression, avro_type: Any, scope: Scope) -> Evaluate:
    if isinstance(expression, str):
        return _column(expression, avro_type, scope)
    return _COMPILERS[type(expression)](expression, avro_type, scope)


def _locate(path: str, scope: Scope) -> tuple[Callable[[Aggregate], Row | None], Table, str]:
    """Find the row that a column path means: how to get it, its table, and the column's name."""
    alias, dot, name = path.partition(".")
    if not dot:
        return (lambda aggregate: aggregate.row), scope.row, path
    if alias not in scope.aliases:
        raise TongbuError(f"`{path}`: there is no lookup or single part `{alias}`")
    if alias == ROOT:
        return (lambda aggregate: aggregate.root), scope.aliases[alias], name
    return (lambda aggregate: aggregate.singles[alias]), scope.aliases[alias], name


def raw_column(path: str, scope: Scope) -> tuple[Evaluate, str]:
    """Compile the reading of a column as it is; give its type too."""
    row_of, table, name = _locate(path, scope)
    column = table.column(name)
    if column is None:
        raise TongbuError(f"table `{table.qualified}` has no column `{name}`")

    def read(aggregate: Aggregate) -> Any:
        row = row_of(aggregate)
        return None if row is None else row.get(name)

    return read, column.type


def _column(path: str, avro_type: Any, scope: Scope) -> Evaluate:
    kind = avro_kind(avro_type)
    read, column_type = raw_column(path, scope)
    try:
        convert = converter(column_type, avro_type)
    except KeyError:
        raise TongbuError(f"column `{path}` ({column_type}) can't become {kind}") from None

    def evaluate(aggregate: Aggregate) -> Any:
        value = read(aggregate)
        if value is None:
            return None
        try:
            return convert(value)
        except (ValueError, TypeError) as error:
            raise RecordError(
                "map", "conversion", f"column `{path}` ({column_type}): {_calm(error)}"
            ) from error

    return evaluate


def _calm(error: Exception) -> str:
    """Say what is wrong without the value: messages of the standard library quote it."""
    text = str(error)
    return text.partition(":")[0] if "'" in text or '"' in text else text


def _const(expression: form.Const, avro_type: Any, scope: Scope) -> Evaluate:
    del avro_type, scope
    return lambda _: expression.const


def _codes(expression: form.Codes, avro_type: Any, scope: Scope) -> Evaluate:
    read = _as_text(expression.of, scope)
    codes = expression.codes
    symbols = _symbols(avro_type) or frozenset()
    default = expression.default or ("unknown" if "unknown" in symbols else None)

    def evaluate(aggregate: Aggregate) -> Any:
        code = read(aggregate)
        if code is None or code == "":
            return default
        if code in codes:
            return codes[code]
        if default is None:
            raise RecordError("map", "unmapped-code", f"a code of `{expression.of}` is not mapped")
        return default

    return evaluate


def _as_text(expression: Expression, scope: Scope) -> Evaluate:
    """Read a code as text, whatever its column's type."""
    if not isinstance(expression, str):
        return _compile(expression, "string", scope)
    read, column_type = raw_column(expression, scope)
    if family(column_type) == "text":
        return read

    def evaluate(aggregate: Aggregate) -> Any:
        value = read(aggregate)
        return None if value is None else str(int(value) if isinstance(value, bool) else value)

    return evaluate


def _cases(expression: form.Cases, avro_type: Any, scope: Scope) -> Evaluate:
    del avro_type
    cases = [
        ([_condition(path, wanted, scope) for path, wanted in case.when.items()], case.then)
        for case in expression.cases
    ]

    def evaluate(aggregate: Aggregate) -> Any:
        for conditions, then in cases:
            if all(holds(aggregate) for holds in conditions):
                return then
        return expression.default

    return evaluate


def _condition(path: str, wanted: Any, scope: Scope) -> Callable[[Aggregate], bool]:
    read = _as_text(path, scope)
    if wanted == "present":
        return lambda aggregate: read(aggregate) not in (None, "")
    if wanted == "absent":
        return lambda aggregate: read(aggregate) in (None, "")
    listed = wanted if isinstance(wanted, list) else [wanted]
    texts = {str(int(each) if isinstance(each, bool) else each) for each in listed}
    return lambda aggregate: read(aggregate) in texts


def _reference(expression: form.Reference, avro_type: Any, scope: Scope) -> Evaluate:
    del avro_type
    paths = [expression.to] if isinstance(expression.to, str) else expression.to
    readers = [_as_text(path, scope) for path in paths]
    prefix = f"{expression.source or scope.source}:"

    def evaluate(aggregate: Aggregate) -> str | None:
        parts = [read(aggregate) for read in readers]
        if any(part is None or part == "" for part in parts):
            return None
        return prefix + "|".join(parts)

    return evaluate


_DECIMAL = {"type": "bytes", "logicalType": "decimal"}


def _pair(amount: str, unit: str) -> Callable[[Any, Any, Scope], Evaluate]:
    """Compile Money and Quantity: a decimal with its currency or unit; null where the decimal is null."""
    names = {"money": ("amount", "currency"), "quantity": ("value", "unit")}[amount]

    def compile_pair(expression: Any, avro_type: Any, scope: Scope) -> Evaluate:
        del avro_type
        read_amount = _compile(getattr(expression, amount), _DECIMAL, scope)
        read_unit = _compile(getattr(expression, unit), "string", scope)

        def evaluate(aggregate: Aggregate) -> dict[str, Any] | None:
            value = read_amount(aggregate)
            if value is None:
                return None
            counted_in = read_unit(aggregate)
            if counted_in is None:
                raise RecordError(
                    "map", "required", f"{names[1]} of `{getattr(expression, amount)}` is null"
                )
            return {names[0]: value, names[1]: counted_in}

        return evaluate

    return compile_pair


def _local_time(expression: form.LocalTimeOf, avro_type: Any, scope: Scope) -> Evaluate:
    del avro_type
    paths = expression.local_time
    readers = [
        _column(path, "local", scope) for path in ([paths] if isinstance(paths, str) else paths)
    ]

    def evaluate(aggregate: Aggregate) -> dict[str, Any] | None:
        texts = [read(aggregate) for read in readers]
        if not texts[0]:
            return None
        try:
            return local_time(" ".join(text for text in texts if text), scope.zone)
        except ValueError as error:
            raise RecordError("map", "conversion", f"`{paths}` is not a date and time") from error

    return evaluate


def _count(expression: form.Count, avro_type: Any, scope: Scope) -> Evaluate:
    del avro_type, scope
    return lambda aggregate: len(aggregate.parts[expression.count])


def _sum(expression: form.Sum, avro_type: Any, scope: Scope) -> Evaluate:
    del scope
    array, _, name = expression.sum.partition(".")
    nothing = None if optional(avro_type) else {"amount": Decimal(0), "currency": "XXX"}

    def evaluate(aggregate: Aggregate) -> Any:
        values = [row[name] for row in aggregate.record[array] if row[name] is not None]
        if not values:
            return nothing
        if not isinstance(values[0], dict):
            return _total(expression, values)
        if len({value["currency"] for value in values}) > 1:
            raise RecordError(
                "map", "mixed-currencies", f"the lines of `{expression.sum}` differ in currency"
            )
        total = _total(expression, [value["amount"] for value in values])
        return {"amount": total, "currency": values[0]["currency"]}

    return evaluate


def _total(expression: form.Sum, values: list[Decimal]) -> Decimal:
    try:
        return to_decimal(str(reduce(EXACT.add, values, Decimal(0))))
    except ValueError as error:
        raise RecordError("map", "conversion", f"sum of `{expression.sum}`: {error}") from error


def _each(expression: form.Each, avro_type: Any, scope: Scope) -> Evaluate:
    inner = Scope(
        scope.source, scope.zone, scope.parts[expression.each], scope.aliases, scope.parts
    )
    item = {each["name"]: each["type"] for each in _items(avro_type)["fields"]}
    unknown = set(expression.fields) - set(item)
    if unknown:
        raise TongbuError(f"`{expression.each}`: the array has no field `{min(unknown)}`")
    fields = [_field(name, each, item[name], inner) for name, each in expression.fields.items()]

    def evaluate(aggregate: Aggregate) -> list[dict[str, Any]]:
        rows = []
        for row in aggregate.parts[expression.each]:
            aggregate.row = row
            rows.append({each.name: _evaluate(each, aggregate) for each in fields})
        aggregate.row = aggregate.root
        return rows

    return evaluate


def _items(avro_type: Any) -> Any:
    if isinstance(avro_type, list):
        return _items(next(each for each in avro_type if each != "null"))
    return avro_type["items"]


_COMPILERS: dict[type, Callable[[Any, Any, Scope], Evaluate]] = {
    form.Const: _const,
    form.Codes: _codes,
    form.Cases: _cases,
    form.Reference: _reference,
    form.MoneyOf: _pair("money", "currency"),
    form.QuantityOf: _pair("quantity", "unit"),
    form.LocalTimeOf: _local_time,
    form.Count: _count,
    form.Sum: _sum,
    form.Each: _each,
}

"""
The mapping language as Python: each form of expression adds the statements that evaluate it.

A compiler adds lines to the code and gives the name of the variable that then holds the value, null as None. What is
evaluated only on a condition is added inside its block, so that nothing fails that is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial, reduce
from typing import Any

from schemas import expressions as form
from schemas.captured import Column, Table
from schemas.errors import TongbuError
from schemas.expressions import Expression
from streams.errors import RecordError
from streams.stages.convert import (
    EXACT,
    INTEGER_DIGITS,
    avro_kind,
    converter,
    family,
    local_time,
    optional,
)
from streams.stages.source_code import SourceCode

ROOT = "root"
_DECIMAL = {"type": "bytes", "logicalType": "decimal"}


@dataclass(frozen=True, slots=True)
class Place:
    """A row that columns are read from: the variable that holds it, its table, and whether it may be missing."""

    variable: str
    table: Table
    optional: bool = False


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
    """Where an expression stands: rows behind plain names and aliases, mapped arrays, and the source's surroundings."""

    source: str
    zone: str
    reads: Reads
    row: Place
    aliases: dict[str, Place]
    parts: dict[str, Table]
    #: Columns that were read before in this block or one around it: (row's variable, column) -> variable.
    read: dict[tuple[str, str], str] = field(default_factory=dict)
    #: Arrays that were mapped before: field -> variable.
    arrays: dict[str, str] = field(default_factory=dict)

    def inner(self) -> Scope:
        """Give the scope of a block: what is read there is not known after it."""
        return replace(self, read=dict(self.read))


def fields_of(
    code: SourceCode, fields: dict[str, Expression], avro_types: dict[str, Any], scope: Scope
) -> str:
    """Evaluate fields and check them; give the expression of the dict that holds them."""
    made = []
    for name, expression in fields.items():
        value = _compile(code, expression, avro_types[name], scope)
        _check(code, name, value, avro_types[name])
        if isinstance(expression, form.Each):
            scope.arrays[name] = value
        made.append(f"{name!r}: {value}")
    return "{" + ", ".join(made) + "}"


def _check(code: SourceCode, name: str, value: str, avro_type: Any) -> None:
    symbols = symbols_of(avro_type)
    if not optional(avro_type):
        error = partial(
            RecordError, "map", "required", f"field `{name}` is required, but it is null"
        )
        _refuse(code, f"{value} is None", error)
    if symbols is not None:
        error = partial(
            RecordError, "map", "unmapped-code", f"field `{name}`: a code that is not mapped"
        )
        _refuse(code, f"{value} is not None and {value} not in {code.name(symbols)}", error)


def _refuse(code: SourceCode, condition: str, error: Callable[[], RecordError]) -> None:
    with code.block(f"if {condition}:"):
        code.line(f"raise {code.name(error)}()")


def symbols_of(avro_type: Any) -> frozenset[str] | None:
    """Give the symbols of an enum; None for other types."""
    if isinstance(avro_type, list):
        return next((found for each in avro_type if (found := symbols_of(each))), None)
    is_enum = isinstance(avro_type, dict) and avro_type["type"] == "enum"
    return frozenset(avro_type["symbols"]) if is_enum else None


def _compile(code: SourceCode, expression: Expression, avro_type: Any, scope: Scope) -> str:
    if isinstance(expression, str):
        return _column(code, expression, avro_type, scope)
    return _COMPILERS[type(expression)](code, expression, avro_type, scope)


def _raw(code: SourceCode, path: str, scope: Scope) -> tuple[str, Column | None, Table]:
    """Read a column as it is, once per block; give the variable, the column (None: a misfit) and its table."""
    alias, dot, name = path.partition(".")
    if dot and alias not in scope.aliases:
        raise TongbuError(f"`{path}`: there is no lookup or single part `{alias}`")
    place, name = (scope.aliases[alias], name) if dot else (scope.row, path)
    column = scope.reads.column(place.table, name)
    known = scope.read.get((place.variable, name))
    if known is None:
        known = scope.read[place.variable, name] = code.variable()
        present = f"None if {place.variable} is None else " if place.optional else ""
        code.line(f"{known} = {present}{place.variable}[{name!r}]")
    return known, column, place.table


def _column(code: SourceCode, path: str, avro_type: Any, scope: Scope) -> str:
    kind = avro_kind(avro_type)
    raw, column, table = _raw(code, path, scope)
    if column is None:
        return raw
    where = f"column `{path}` ({column.type})"
    try:
        convert = converter(column.type, avro_type)
    except KeyError:
        scope.reads.refuse(table, column.name, f"{where} can't become {kind}")
        return raw
    value, unfit = code.variable(), partial(_unfit, where, table.qualified)
    with code.block("try:"):
        code.line(f"{value} = None if {raw} is None else {code.name(convert)}({raw})")
    with code.block("except (ValueError, TypeError) as error:"):
        code.line(f"raise {code.name(unfit)}(error) from error")
    return value


def _unfit(where: str, table: str, error: Exception) -> RecordError:
    """Say what is wrong without the value: messages of the standard library quote it."""
    text = str(error)
    calm = text.partition(":")[0] if "'" in text or '"' in text else text
    return RecordError("map", "conversion", f"{where}: {calm}", table)


def _as_text(code: SourceCode, expression: Expression, scope: Scope) -> str:
    """Read a code as text, whatever its column's type."""
    if not isinstance(expression, str):
        return _compile(code, expression, "string", scope)
    raw, column, _ = _raw(code, expression, scope)
    if column is None or family(column.type) == "text":
        return raw
    value = code.variable()
    code.line(
        f"{value} = None if {raw} is None else str(int({raw}) if isinstance({raw}, bool) else {raw})"
    )
    return value


def _const(code: SourceCode, expression: form.Const, avro_type: Any, scope: Scope) -> str:
    del avro_type, scope
    value = code.variable()
    code.line(f"{value} = {expression.const!r}")
    return value


def _codes(code: SourceCode, expression: form.Codes, avro_type: Any, scope: Scope) -> str:
    read, value = _as_text(code, expression.of, scope), code.variable()
    codes, symbols = code.name(expression.codes), symbols_of(avro_type) or frozenset()
    default = expression.default or ("unknown" if "unknown" in symbols else None)
    empty = f"{read} is None or {read} == ''"
    code.line(f"{value} = {default!r} if {empty} else {codes}.get({read}, {default!r})")
    if default is None:
        message = f"a code of `{expression.of}` is not mapped"
        error = partial(RecordError, "map", "unmapped-code", message)
        _refuse(code, f"{value} is None and not ({empty})", error)
    return value


def _cases(code: SourceCode, expression: form.Cases, avro_type: Any, scope: Scope) -> str:
    del avro_type
    value = code.variable()
    conditions = [
        " and ".join(_condition(code, path, wanted, scope) for path, wanted in case.when.items())
        for case in expression.cases
    ]
    code.line(f"{value} = {expression.default!r}")
    for place, (condition, case) in enumerate(zip(conditions, expression.cases, strict=True)):
        with code.block(f"{'elif' if place else 'if'} {condition or 'True'}:"):
            code.line(f"{value} = {case.then!r}")
    return value


def _condition(code: SourceCode, path: str, wanted: Any, scope: Scope) -> str:
    read = _as_text(code, path, scope)
    if wanted == "present":
        return f"({read} is not None and {read} != '')"
    if wanted == "absent":
        return f"({read} is None or {read} == '')"
    listed = wanted if isinstance(wanted, list) else [wanted]
    texts = frozenset(str(int(each) if isinstance(each, bool) else each) for each in listed)
    return f"{read} in {code.name(texts)}"


def _reference(code: SourceCode, expression: form.Reference, avro_type: Any, scope: Scope) -> str:
    del avro_type
    paths = [expression.to] if isinstance(expression.to, str) else expression.to
    parts, value = [_as_text(code, path, scope) for path in paths], code.variable()
    empty = " or ".join(f"{part} is None or {part} == ''" for part in parts)
    prefix = f"{expression.source or scope.source}:"
    key = " + '|' + ".join(parts)
    code.line(f"{value} = None if {empty} else {prefix!r} + {key}")
    return value


def _pair(amount: str, unit: str) -> Callable[[SourceCode, Any, Any, Scope], str]:
    """Compile Money and Quantity: a decimal with its currency or unit; null where the decimal is null."""
    names = {"money": ("amount", "currency"), "quantity": ("value", "unit")}[amount]

    def compile_pair(code: SourceCode, expression: Any, avro_type: Any, scope: Scope) -> str:
        del avro_type
        value = code.variable()
        counted = _compile(code, getattr(expression, amount), _DECIMAL, scope)
        code.line(f"{value} = None")
        with code.block(f"if {counted} is not None:"):
            counted_in = _compile(code, getattr(expression, unit), "string", scope.inner())
            message = f"{names[1]} of `{getattr(expression, amount)}` is null"
            error = partial(RecordError, "map", "required", message)
            _refuse(code, f"{counted_in} is None", error)
            code.line(f"{value} = {{{names[0]!r}: {counted}, {names[1]!r}: {counted_in}}}")
        return value

    return compile_pair


def _local_time(
    code: SourceCode, expression: form.LocalTimeOf, avro_type: Any, scope: Scope
) -> str:
    del avro_type
    paths = expression.local_time
    texts = [
        _column(code, path, "local", scope)
        for path in ([paths] if isinstance(paths, str) else paths)
    ]
    value, text = code.variable(), texts[0]
    if len(texts) > 1:
        text = f"' '.join(text for text in ({', '.join(texts)}) if text)"
    error = partial(RecordError, "map", "conversion", f"`{paths}` is not a date and time")
    with code.block("try:"):
        code.line(
            f"{value} = {code.name(local_time)}({text}, {scope.zone!r}) if {texts[0]} else None"
        )
    with code.block("except ValueError as error:"):
        code.line(f"raise {code.name(error)}() from error")
    return value


def _count(code: SourceCode, expression: form.Count, avro_type: Any, scope: Scope) -> str:
    del avro_type, scope
    value = code.variable()
    code.line(f"{value} = len(parts[{expression.count!r}])")
    return value


def _sum(code: SourceCode, expression: form.Sum, avro_type: Any, scope: Scope) -> str:
    array, _, name = expression.sum.partition(".")
    nothing = None if optional(avro_type) else {"amount": Decimal(0), "currency": "XXX"}
    value, add_up = code.variable(), partial(_add_up, expression.sum, name, nothing)
    code.line(f"{value} = {code.name(add_up)}({scope.arrays[array]})")
    return value


def _add_up(expression: str, name: str, nothing: Any, rows: list[dict[str, Any]]) -> Any:
    values = [value for row in rows if (value := row[name]) is not None]
    if not values:
        return nothing
    if not isinstance(values[0], dict):
        return _total(expression, values)
    currency = values[0]["currency"]
    if any(value["currency"] != currency for value in values):
        raise RecordError(
            "map", "mixed-currencies", f"the lines of `{expression}` differ in currency"
        )
    return {
        "amount": _total(expression, [value["amount"] for value in values]),
        "currency": currency,
    }


def _total(expression: str, values: list[Decimal]) -> Decimal:
    total = reduce(EXACT.add, values, Decimal(0))
    if total.adjusted() >= INTEGER_DIGITS:
        raise RecordError(
            "map",
            "conversion",
            f"sum of `{expression}`: more than {INTEGER_DIGITS} integer digits",
        )
    return total


def _each(code: SourceCode, expression: form.Each, avro_type: Any, scope: Scope) -> str:
    item = {each["name"]: each["type"] for each in _items(avro_type)["fields"]}
    unknown = set(expression.fields) - set(item)
    if unknown:
        raise TongbuError(f"`{expression.each}`: the array has no field `{min(unknown)}`")
    rows, row = code.variable(), code.variable()
    inner = replace(scope.inner(), row=Place(row, scope.parts[expression.each]), arrays={})
    code.line(f"{rows} = []")
    with code.block(f"for {row} in parts[{expression.each!r}]:"):
        code.line(f"{rows}.append({fields_of(code, expression.fields, item, inner)})")
    return rows


def _items(avro_type: Any) -> Any:
    if isinstance(avro_type, list):
        return _items(next(each for each in avro_type if each != "null"))
    return avro_type["items"]


_COMPILERS: dict[type, Callable[[SourceCode, Any, Any, Scope], str]] = {
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

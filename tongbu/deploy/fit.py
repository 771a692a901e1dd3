"""Whether what a mapping makes, whatever the rows are like, fits the Avro types of its entity; columns are `check`'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas import expressions as form
from schemas.catalog import Catalog
from schemas.declarations import Declared, Mapping
from schemas.errors import DeclarationError
from schemas.expressions import Expression
from streams.stages.convert import avro_kind, optional

Path = tuple[str | int, ...]
Findings = Iterator[DeclarationError]

#: What a constant is in YAML, by the kind of the field's Avro type.
_CONSTANTS = {
    "string": str,
    "int": int,
    "long": int,
    "boolean": bool,
    "decimal": int,
    "date": int,
    "timestamp-micros": int,
}
#: Form -> its telling key, and the kinds of Avro types that it can become; of the others their values decide.
_MAKES: dict[type, tuple[str, tuple[str, ...]]] = {
    form.Reference: ("reference", ("string",)),
    form.MoneyOf: ("money", ("Money",)),
    form.QuantityOf: ("quantity", ("Quantity",)),
    form.LocalTimeOf: ("local_time", ("LocalTime",)),
    form.Count: ("count", ("int", "long")),
    form.Sum: ("sum", ("Money", "decimal")),
    form.Each: ("each", ("array",)),
}
_DECIMAL = {"type": "bytes", "logicalType": "decimal"}
#: What a form that translates values takes.
_TEXT = ["null", "string"]


def fields_of(schema: Any) -> dict[str, Any]:
    """Give the fields of a record type with their types."""
    return {field["name"]: field["type"] for field in schema["fields"]}


def plain(type_: Any) -> Any:
    """Give a type without null."""
    return next(each for each in type_ if each != "null") if isinstance(type_, list) else type_


def references(
    fields: dict[str, Expression], path: Path = ("fields",)
) -> Iterator[tuple[Path, form.Reference]]:
    """Give all references of a mapping, those of its arrays included, each with its place."""
    for name, expression in fields.items():
        if isinstance(expression, form.Reference):
            yield (*path, name), expression
        elif isinstance(expression, form.Each):
            yield from references(expression.fields, (*path, name, "fields"))


class Fit:
    """Walks the expressions of a mapping with the Avro types of `fields`; `known` are the mappings it may refer to."""

    def __init__(
        self,
        catalog: Catalog,
        mapping: Declared[Mapping],
        fields: dict[str, Any],
        known: list[Mapping],
    ) -> None:
        self._catalog = catalog
        self._mapping = mapping
        self._fields = fields
        self._known = {(each.source, each.entity): each for each in known}

    def findings(self) -> Findings:
        """Give all that does not fit."""
        value = self._mapping.value
        if not value.id_columns:
            yield self._mapping.error(("id",), "`id` names no column", "Name those of the key.")
        for name, expression in value.fields.items():
            yield from self._walk(("fields", name), expression, self._fields[name], inside=False)

    def _walk(self, path: Path, expression: Expression, type_: Any, *, inside: bool) -> Findings:
        """`inside` an array there are no sums."""
        if isinstance(expression, str):
            return
        key, kinds = _MAKES.get(type(expression), ("", ()))
        kind = avro_kind(type_)
        if kinds and kind not in kinds:
            remedy = f"`{key}` fills a field of type {' or '.join(kinds)}."
            yield self._mapping.error(
                (*path, key), f"`{key}` can't become {kind}, as `{path[-1]}` is", remedy
            )
            return
        for place, value in _values(expression):
            yield from self._constant((*path, *place), path[-1], value, type_)
        if isinstance(expression, form.Each):
            yield from self._part((*path, key), expression.each)
            yield from self._items(path, expression, plain(plain(type_)["items"]))
        elif isinstance(expression, form.Count):
            yield from self._part((*path, key), expression.count)
        elif isinstance(expression, form.Sum):
            yield from self._sum((*path, key), expression.sum, kind, inside=inside)
        elif isinstance(expression, form.Reference):
            yield from self._reference(path, expression)
        elif isinstance(expression, form.LocalTimeOf) and not expression.local_time:
            yield self._mapping.error((*path, key), f"`{key}` names no column", "Name one.")
        for inner_key, inner, inner_type in inner_of(expression):
            yield from self._walk((*path, inner_key), inner, inner_type or _TEXT, inside=inside)

    def _constant(self, path: Path, field: str | int, value: Any, type_: Any) -> Findings:
        symbols = symbols_of(type_)
        if value is None and optional(type_):
            return
        if symbols:
            if value not in symbols:
                remedy = f"Use one of {', '.join(symbols)}."
                yield self._mapping.error(path, f"`{value}` is no value of `{field}`", remedy)
        elif type(value) is not _CONSTANTS.get(kind := avro_kind(type_)):
            remedy = "Quote it, or unquote it." if kind in _CONSTANTS else "Map a column."
            yield self._mapping.error(path, f"`{value}` is no {kind}", remedy)

    def _part(self, path: Path, name: str) -> Findings:
        parts = self._mapping.value.parts
        if name not in parts:
            remedy = f"Parts: {', '.join(parts)}."
            yield self._mapping.error(path, f"there is no part `{name}`", remedy)
        elif parts[name].one:
            remedy = f"Read its columns as `{name}.column`, or take `one` away."
            yield self._mapping.error(path, f"the part `{name}` is one row", remedy)

    def _items(self, path: Path, each: form.Each, item: Any) -> Findings:
        types = fields_of(item)
        for name, inner in each.fields.items():
            here = (*path, "fields", name)
            if name in types:
                yield from self._walk(here, inner, types[name], inside=True)
            else:
                remedy = f"Fields: {', '.join(types)}."
                yield self._mapping.error(here, f"`{name}` is no field of the array", remedy)
        for field in item["fields"]:
            may_lack = optional(field["type"]) or "default" in field
            if field["name"] not in each.fields and not may_lack:
                message = f"the required field `{field['name']}` of `{path[-1]}` is not mapped"
                yield self._mapping.error((*path, "fields"), message, "Map it.")

    def _sum(self, path: Path, summed: str, kind: str, *, inside: bool) -> Findings:
        arrays = {} if inside else self._mapping.value.arrays
        array, _, name = summed.partition(".")
        if array not in arrays or name not in arrays[array].fields:
            known = [f"{each}.{field}" for each in arrays for field in arrays[each].fields]
            remedy = f"Fields of arrays: {', '.join(known)}."
            yield self._mapping.error(path, f"`{summed}` is no field of a mapped array", remedy)
            return
        items = fields_of(plain(plain(self._fields[array])["items"]))
        if name in items and avro_kind(items[name]) != kind:
            message = f"`{summed}` is {avro_kind(items[name])}, and its sum is to be {kind}"
            yield self._mapping.error(path, message, f"Sum a field of type {kind}.")

    def _reference(self, path: Path, expression: form.Reference) -> Findings:
        name, to = expression.reference, expression.to
        if name not in self._catalog.entities:
            remedy = f"Known: {', '.join(self._catalog.entities)}."
            yield self._mapping.error((*path, "reference"), f"there is no entity `{name}`", remedy)
        count = 1 if isinstance(to, str) else len(to)
        other = self._known.get((expression.source or self._mapping.value.source, name))
        wanted = max(count, 1) if other is None else len(other.id_columns)
        if count != wanted:
            what = f"{name} of {other.mapping}" if other else name
            yield self._mapping.error(
                (*path, "to"),
                f"`to` names {count} columns, but the id of {what} is made of {wanted}",
                "Name a column for each, in the same order.",
            )


def symbols_of(type_: Any) -> list[str]:
    """Give the symbols of an enum; none for other types."""
    bare = plain(type_)
    return bare.get("symbols", []) if isinstance(bare, dict) else []


def _values(expression: Expression) -> Iterator[tuple[Path, Any]]:
    """Give the values that a form says itself."""
    if isinstance(expression, form.Const):
        yield ("const",), expression.const
    elif isinstance(expression, form.Codes):
        yield from ((("codes", code), value) for code, value in expression.codes.items())
        if expression.default is not None:
            yield ("default",), expression.default
    elif isinstance(expression, form.Cases):
        yield from (
            (("cases", index, "then"), case.then) for index, case in enumerate(expression.cases)
        )
        yield ("default",), expression.default


def inner_of(expression: Expression) -> Iterator[tuple[str, Expression, Any]]:
    """Give the expressions inside a form, with the type that each must become; None where any will do."""
    if isinstance(expression, form.MoneyOf):
        yield "money", expression.money, _DECIMAL
        yield "currency", expression.currency, "string"
    elif isinstance(expression, form.QuantityOf):
        yield "quantity", expression.quantity, _DECIMAL
        yield "unit", expression.unit, "string"
    elif isinstance(expression, form.Codes):
        yield "of", expression.of, None
    elif isinstance(expression, form.Reference):
        for each in [expression.to] if isinstance(expression.to, str) else expression.to:
            yield "to", each, None
    elif isinstance(expression, form.Cases):
        for case in expression.cases:
            for name in case.when:
                yield "cases", name, None

"""
Check the declarations against the catalog and the live sources, before anything is touched.

Every finding names file and line, and what to do. Form (unknown keys, types of values) was checked when the
files were loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from schemas import expressions as form
from schemas.captured import Table
from schemas.catalog import Catalog, RecordSchema
from schemas.declarations import (
    Binding,
    DecimalInput,
    Declared,
    LookupInput,
    Mapping,
    Rule,
    WebhookBinding,
)
from schemas.errors import DeclarationError, TongbuError
from streams.in_force import expand
from streams.stages.convert import avro_kind, convertible, optional
from streams.stages.rules import compile_rule
from streams.stages.source_types import family, refusal
from tongbu.deploy.fit import Fit, fields_of, inner_of, plain, references, symbols_of

Path = tuple[str | int, ...]

#: Fields of every entity that the processor sets.
_OWN_FIELDS = {"meta", "id", "source_refs", "ext"}
#: What `where` says, by the family of the column's type.
_COMPARABLE = {"text": str, "int": int, "boolean": bool}
#: Form of a rule's input -> the kinds of fields that have such values.
_INPUTS = {"decimal": ("decimal",), "text": ("string", "enum")}
_SPELLED = {str: "a text, in quotes", int: "a whole number, without quotes", bool: "true or false"}


def check_sources(
    known: Iterable[str],
    declared: Iterable[Declared[Mapping] | Declared[Rule]],
    bindings: Iterable[Declared[Binding]],
) -> None:
    """Raise the first declaration of a source that there is not: nothing would ever come of it."""
    declared = list(declared)
    named: list[tuple[Declared[Any], Path, str]] = [
        (each, ("source",), each.value.source) for each in declared
    ]
    listed = [
        (each, ("sources", place), source)
        for each in bindings
        for place, source in enumerate(each.value.sources)
    ]
    referred = [
        (each, (*path, "source"), reference.source)
        for each in declared
        if isinstance(each.value, Mapping)
        for path, reference in references(each.value.fields)
        if reference.source is not None
    ]
    for each, path, source in [*named, *listed, *referred]:
        if source not in known:
            raise each.error(path, f"there is no source `{source}`", f"Known: {', '.join(known)}.")


def check_effects(catalog: Catalog, bindings: Iterable[Declared[Binding]]) -> None:
    """Check what webhooks watch against the catalog; raise the first finding: a misspelt value would never be reached."""
    for each in bindings:
        for finding in _effects(catalog, each):
            raise finding


def _effects(catalog: Catalog, declared: Declared[Binding]) -> Iterator[DeclarationError]:
    binding = declared.value
    if not isinstance(binding, WebhookBinding):
        return
    watched: dict[str, list[Any]] = {}
    for name, wanted in binding.entities.items():
        entity = catalog.entity(name, wanted.major)
        if entity is None:
            yield declared.error(("entities", name), *catalog.why_not(name, wanted.major))
            return
        for option in sorted(wanted.model_fields_set - {"major"}):
            message = f"`{option}` is for tables: a webhook brings whole records, chosen by `on`"
            yield declared.error(("entities", name, option), message, "Remove it.")
        for field, type_ in fields_of(expand(entity.schema)).items():
            watched.setdefault(field, []).append(type_)
    for field, values in binding.on.items():
        texts = [
            type_ for type_ in watched.get(field, ()) if avro_kind(type_) in ("string", "enum")
        ]
        if not texts or not values:
            what = "names no value" if texts else f"is no text of {', '.join(binding.entities)}"
            yield declared.error(
                ("on", field), f"`{field}` {what}", "Name a field, and its values."
            )
            continue
        symbols = [*dict.fromkeys(each for type_ in texts for each in symbols_of(type_))]
        is_free = any(avro_kind(type_) == "string" for type_ in texts)
        for place, value in enumerate(values):
            if not is_free and value not in symbols:
                message = f"`{value}` is no value of `{field}`"
                remedy = f"Use one of {', '.join(symbols)}."
                yield declared.error(("on", field, place), message, remedy)


def check_shapes(
    catalog: Catalog, mappings: list[Declared[Mapping]], rules: list[Declared[Rule]]
) -> None:
    """Check mappings and rules against the catalog; raise the first finding."""
    entities = [_entity(catalog, mapping) for mapping in mappings]
    for rule in rules:
        _rule(catalog, rule, [mapping.value for mapping in mappings])
    for finding in _set_twice(rules):
        raise finding
    for mapping, entity in zip(mappings, entities, strict=True):
        fields = fields_of(expand(entity.schema))
        for finding in _shape(mapping, entity.name, fields, [rule.value for rule in rules]):
            raise finding
        for finding in Fit(catalog, mapping, fields, [each.value for each in mappings]).findings():
            raise finding


def check_columns(
    tables: dict[str, Table],
    mapping: Declared[Mapping],
    entity: RecordSchema,
    rules: Iterable[Declared[Rule]] = (),
) -> None:
    """Check a mapping, and what rules for it look up, against the live tables of its source; raise the first finding."""
    columns = _Columns(tables, mapping, entity)
    for finding in columns.findings():
        raise finding
    for rule in rules:
        if (rule.value.source, rule.value.entity) == (mapping.value.source, mapping.value.entity):
            for finding in columns.looked_up(rule):
                raise finding


def _entity(catalog: Catalog, mapping: Declared[Mapping]) -> RecordSchema:
    """Give the entity of a mapping."""
    value = mapping.value
    entity = catalog.entity(value.entity, value.major)
    if entity is None:
        key = "major" if value.entity in catalog.entities else "entity"
        raise mapping.error((key,), *catalog.why_not(value.entity, value.major))
    return entity


def _shape(
    mapping: Declared[Mapping], entity: str, fields: dict[str, Any], rules: list[Rule]
) -> Iterator[DeclarationError]:
    value = mapping.value
    for name in value.fields:
        if name not in fields or name in _OWN_FIELDS:
            remedy = f"Fields of {entity}: {', '.join(sorted(set(fields) - _OWN_FIELDS))}."
            yield mapping.error(
                ("fields", name), f"`{name}` is no field that a mapping sets", remedy
            )
            return
    ruled = {
        name
        for rule in rules
        if rule.entity == value.entity and rule.source == value.source
        for name in rule.sets
    }
    missing = [name for name, type_ in fields.items() if not optional(type_)]
    for name in missing:
        if name not in value.fields and name not in ruled | _OWN_FIELDS:
            yield mapping.error(
                ("fields",),
                f"the required field `{name}` is not mapped",
                "Map it, or set it by a rule.",
            )


def _rule(catalog: Catalog, rule: Declared[Rule], mappings: list[Mapping]) -> None:
    value = rule.value
    entity = catalog.entities.get(value.entity)
    if entity is None:
        raise rule.error(("entity",), f"there is no entity `{value.entity}`", "Correct the name.")
    fields = fields_of(expand(entity.schema))
    for index, name in enumerate(value.sets):
        if name not in fields:
            raise rule.error(
                ("sets", index), f"`{name}` is no field of {value.entity}", "Correct the name."
            )
        symbols = symbols_of(fields[name])
        if value.otherwise.get(name) not in symbols:
            remedy = f"Say one of {', '.join(symbols)}: it is used when an input is missing."
            raise rule.error(
                ("otherwise",), f"`{name}` has no valid value for the case of doubt", remedy
            )
    for name in value.otherwise:
        if name not in value.sets:
            remedy = f"It sets {', '.join(value.sets)}."
            raise rule.error(("otherwise", name), f"the rule does not set `{name}`", remedy)
    if not any(each.entity == value.entity and each.source == value.source for each in mappings):
        raise rule.error(
            ("source",),
            f"source {value.source} maps no {value.entity}",
            "Correct source or entity.",
        )
    _decidable(rule, expand(entity.schema))


def _set_twice(rules: list[Declared[Rule]]) -> Iterator[DeclarationError]:
    """Find fields that two rules set: what the first decides would be overwritten without a word."""
    taken: dict[tuple[str, str, str], Declared[Rule]] = {}
    for rule in rules:
        value = rule.value
        for place, field in enumerate(value.sets):
            first = taken.setdefault((value.source, value.entity, field), rule)
            if first is not rule:
                message = f"`{field}` of {value.entity} is set by rule {first.value.rule}, too ({first.file})"
                remedy = "Let one of both set it: make one decision table of the two."
                yield rule.error(("sets", place), message, remedy)


def _decidable(rule: Declared[Rule], schema: Any) -> None:
    """Check that the inputs of a rule are in the entity's schema, and that the engine takes its table."""
    value = rule.value
    for name, wanted in value.inputs.items():
        if isinstance(wanted, LookupInput):
            continue  # `check_columns` knows the tables
        key, path = ("decimal", wanted.decimal) if isinstance(wanted, DecimalInput) else ("text", wanted.text)  # fmt: skip
        type_ = _led_to(schema, path.split("."))
        if type_ is None:
            remedy = f"Fields: {', '.join(sorted(fields_of(schema)))}; of a record among them, `field.name`."
            raise rule.error(
                ("inputs", name, key), f"`{path}` is no field of {value.entity}", remedy
            )
        if (kind := avro_kind(type_)) not in _INPUTS[key]:
            message = (
                f"`{path}` is {kind}, and never a {key}: every record would be a case of doubt"
            )
            remedy = f"A {key} is a field of type {' or '.join(_INPUTS[key])}."
            raise rule.error(("inputs", name, key), message, remedy)
    try:
        compile_rule(value)
    except TongbuError as error:
        raise rule.error(("table",), error.message, error.remedy) from error
    except Exception as error:
        message = f"the table is no JDM: {type(error).__name__}: {error}"
        raise rule.error(("table",), message, "Mend the table.") from error


def _led_to(type_: Any, path: list[str]) -> Any:
    """Give the type to which names lead from a record type through its fields; None where they lead nowhere."""
    for name in path:
        fields = fields_of(type_) if isinstance(type_, dict) and "fields" in type_ else {}
        if name not in fields:
            return None
        type_ = plain(fields[name])
    return type_


class _Columns:
    """Walks a mapping's expressions with the tables behind its names."""

    def __init__(
        self, tables: dict[str, Table], mapping: Declared[Mapping], entity: RecordSchema
    ) -> None:
        value = mapping.value
        self.mapping = mapping
        self.fields = fields_of(expand(entity.schema))
        self.root = tables[value.from_]
        self.parts = {name: tables[part.from_] for name, part in value.parts.items()}
        self.aliases = {"root": self.root}
        self.aliases |= {name: tables[each.from_] for name, each in value.lookups.items()}
        self.aliases |= {name: self.parts[name] for name, part in value.parts.items() if part.one}

    def findings(self) -> Iterator[DeclarationError]:
        value = self.mapping.value
        for name in (*value.id_columns, *value.where):
            if self.root.column(name) is None:
                yield self._unknown(
                    ("id",) if name in value.id_columns else ("where", name), name, self.root
                )
            elif name in value.where:
                yield from self._comparable(name, value.where[name])
        for alias, part in value.parts.items():
            table = self.parts[alias]
            yield from self._join(("parts", alias, "join"), table, part.join, self.root.key)
            if part.order_by is not None and table.column(part.order_by) is None:
                yield self._unknown(("parts", alias, "order_by"), part.order_by, table)
        for alias in value.lookups:
            yield from self._lookup(alias)
        for name, expression in value.fields.items():
            yield from self._walk(("fields", name), expression, self.fields[name], self.root)

    def _join(
        self, path: Path, table: Table, join: dict[str, str], key: tuple[str, ...]
    ) -> Iterator[DeclarationError]:
        for name in join:
            if table.column(name) is None:
                yield self._unknown((*path, name), name, table)
        if set(join.values()) != set(key):
            remedy = f"Join it to {', '.join(key)}."
            yield self.mapping.error(path, "a part joins the primary key of the root table", remedy)
            return
        for name, of_root in join.items():
            yield from self._comparable_keys((*path, name), table, name, self.root, of_root)

    def _lookup(self, alias: str) -> Iterator[DeclarationError]:
        """Find what would leave a lookup without a row for ever: it is found by its whole key, from what is known before it."""
        value, table = self.mapping.value, self.aliases[alias]
        path, key = ("lookups", alias, "key"), value.lookups[alias].key
        if set(key) != set(table.key):
            remedy = f"Name {', '.join(table.key)}."
            yield self.mapping.error(
                path, f"a lookup needs the primary key of {table.qualified}", remedy
            )
            return
        before = [*(name for name, part in value.parts.items() if part.one), *value.lookups]
        before = before[: before.index(alias)]
        for name, source in key.items():
            other, dot, column = source.rpartition(".")
            if dot and other not in before:
                remedy = (
                    f"Columns of the root stand without it. Known before it: {', '.join(before)}."
                )
                yield self.mapping.error(
                    (*path, name), f"`{source}`: there is no `{other}`", remedy
                )
                continue
            found = self.aliases[other] if dot else self.root
            if found.column(column) is None:
                yield self._unknown((*path, name), column, found)
            else:
                yield from self._comparable_keys((*path, name), table, name, found, column)

    def _comparable_keys(
        self, path: Path, one: Table, name: str, other: Table, other_name: str
    ) -> Iterator[DeclarationError]:
        """Find keys of different types: a number in a text is never equal to a number."""
        columns = one.column(name), other.column(other_name)
        families = [each and family(each.type) for each in columns]
        if None not in families and families[0] is not families[1]:
            types = " and ".join(each.type for each in columns if each)
            yield self.mapping.error(
                path,
                f"`{name}` and `{other_name}` are {types}, and never equal",
                "Name columns of one type.",
            )

    def looked_up(self, rule: Declared[Rule]) -> Iterator[DeclarationError]:
        """Find inputs of a rule that name no lookup of the mapping, or no column of its table."""
        lookups = self.mapping.value.lookups
        for name, wanted in rule.value.inputs.items():
            if not isinstance(wanted, LookupInput):
                continue
            path = ("inputs", name, "lookup")
            alias, _, column = wanted.lookup.partition(".")
            if alias not in lookups:
                known = f"Lookups of {self.mapping.value.mapping}: {', '.join(lookups)}."
                yield rule.error(path, f"there is no lookup `{alias}`", known)
            elif self.aliases[alias].column(column) is None:
                table = self.aliases[alias]
                known = f"Columns: {', '.join(each.name for each in table.columns)}."
                yield rule.error(path, f"table {table.qualified} has no column `{column}`", known)

    def _comparable(self, name: str, wanted: Any) -> Iterator[DeclarationError]:
        """Find a value that no row can have: none would belong to the entity, and all that is published would be deleted."""
        column = self.root.column(name)
        found = None if column is None else family(column.type)
        kind = None if found is None else _COMPARABLE.get(found.name)
        if column is None or wanted is None or (kind is not None and type(wanted) is kind):
            return
        remedy = (
            "Choose by a column of text, whole numbers or true and false."
            if kind is None
            else f"Write {_SPELLED[kind]}."
        )
        yield self.mapping.error(
            ("where", name), f"column `{name}` is {column.type}, and never `{wanted}`", remedy
        )

    def _unknown(self, path: Path, name: str, table: Table) -> DeclarationError:
        names = ", ".join(column.name for column in table.columns)
        return self.mapping.error(
            path, f"table {table.qualified} has no column `{name}`", f"Columns: {names}."
        )

    def _walk(
        self, path: Path, expression: Any, type_: Any, row: Table
    ) -> Iterator[DeclarationError]:
        if isinstance(expression, str):
            yield from self._column(path, expression, type_, row)
        elif isinstance(expression, form.Each):
            items = fields_of(plain(plain(type_)["items"]))
            for name, inner in expression.fields.items():
                yield from self._walk(
                    (*path, "fields", name), inner, items[name], self.parts[expression.each]
                )
        elif isinstance(expression, form.LocalTimeOf):
            paths = (
                [expression.local_time]
                if isinstance(expression.local_time, str)
                else expression.local_time
            )
            for each in paths:
                yield from self._column((*path, "local_time"), each, "local", row)
        else:
            for key, inner, inner_type in inner_of(expression):
                yield from self._walk((*path, key), inner, inner_type, row)

    def _column(self, path: Path, name: str, type_: Any, row: Table) -> Iterator[DeclarationError]:
        alias, dot, column_name = name.partition(".")
        if dot and alias not in self.aliases:
            known = ", ".join(self.aliases)
            yield self.mapping.error(
                path, f"`{name}`: there is no `{alias}`", f"Known here: {known}."
            )
            return
        table = self.aliases[alias] if dot else row
        column = table.column(column_name if dot else name)
        if column is None:
            yield self._unknown(path, column_name if dot else name, table)
        elif type_ is not None and not convertible(column.type, type_):
            why = refusal(column.type)
            message = f"column `{name}` is {column.type}" + (
                f": {why}" if why else f", which can't become {avro_kind(type_)}"
            )
            yield self.mapping.error(
                path, message, "Map another column, or translate it with `codes` or `cases`."
            )

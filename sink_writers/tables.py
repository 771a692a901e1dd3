"""
Target tables of a binding, derived from the Avro schemas: which columns there are and where their values come from.

A scalar becomes a column, a nested record one column per field (`gross` -> `gross_amount`,
`gross_currency`), an array that the binding lists under `children` a table of its own, any other array
or map a JSON column. Of `meta` only the version is kept. What refers to another entity, and says so in the
binding, gets a foreign key, and stands after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from schemas.catalog import Catalog, RecordSchema
from schemas.declarations import EntityBinding, RelationalBinding
from schemas.errors import TongbuError

#: The column of the guard; its value is the record's version.
VERSION = "version"

_LONGEST_NAME = 63

_LOGICAL = {"timestamp-micros": "timestamp", "date": "date", "uuid": "text"}
_PLAIN = {
    "string": "text",
    "enum": "text",
    "int": "integer",
    "long": "bigint",
    "double": "double",
    "boolean": "boolean",
    "array": "json",
    "map": "json",
}


class Column(NamedTuple):
    """A column: its name, the path of its value in the Avro record, its SQL type, and the kind of value."""

    name: str
    path: tuple[str, ...]
    sql_type: str
    kind: str


class Reference(NamedTuple):
    """A column whose value is the id of a row of another root table (or of the same)."""

    column: str
    table: str

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
        return row


def tables(
    binding: RelationalBinding, catalog: Catalog, sql_type: Callable[[str], str]
) -> list[TargetTable]:
    """
    Give the tables of a binding: what others refer to comes first, children follow their parents.

    `sql_type` translates a kind (text, key, integer, bigint, double, decimal(p,s), boolean, date, timestamp,
    json) to the dialect. Raise TongbuError where the binding asks for what the schemas don't have.
    """
    found: dict[str, list[TargetTable]] = {}
    for entity, wanted in binding.entities.items():
        schema = _schema(binding, catalog, entity, wanted)
        found[entity] = _EntityTables(binding.binding, schema, wanted, sql_type).all()
    if binding.reads == "entities" and any(each.references for each in binding.entities.values()):
        raise TongbuError(
            f"binding {binding.binding}: a target that reads entity by entity can't have references",
            "Records of several entities come in no order there: take `references` out, or read transactions.",
        )
    roots = {entity: made[0].name for entity, made in found.items()}
    for entity, wanted in binding.entities.items():
        found[entity] = _refer(binding.binding, found[entity], wanted.references, roots)
    return [table for entity in _ordered(found) for table in found[entity]]


def cycle(tables: list[TargetTable]) -> list[str]:
    """Give root tables that refer to each other in a circle; empty where there is none."""
    try:
        list(TopologicalSorter(_dependencies(tables)).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def _ordered(found: dict[str, list[TargetTable]]) -> list[str]:
    """Order entities, each after those that it refers to; in a circle the declared order decides."""
    owners = {made[0].name: entity for entity, made in found.items()}
    needs = _dependencies([table for made in found.values() for table in made])
    ordered: dict[str, None] = {}

    def add(entity: str, path: tuple[str, ...]) -> None:
        for other in needs[found[entity][0].name]:
            if owners[other] not in (*path, *ordered):
                add(owners[other], (*path, owners[other]))
        ordered.setdefault(entity)

    for entity in found:
        add(entity, (entity,))
    return list(ordered)


def _dependencies(tables: list[TargetTable]) -> dict[str, list[str]]:
    """Give root table -> the other root tables that it, or a child of it, refers to."""
    needs: dict[str, list[str]] = {table.name: [] for table in tables if table.parent is None}
    for table in tables:
        root = table.parent or table.name
        needs[root] += [each.table for each in table.references if each.table != root]
    return needs


def _refer(
    binding: str, made: list[TargetTable], references: dict[str, str], roots: dict[str, str]
) -> list[TargetTable]:
    """Give the tables of an entity with their references."""
    found: dict[str, list[Reference]] = {table.name: [] for table in made}
    by_array = {table.array or "": table for table in made}
    for field, entity in references.items():
        array, _, column = field.rpartition(".")
        table = by_array.get(array)
        names = {each.path[-1]: each.name for each in table.columns} if table else {}
        if table is None or column not in names:
            raise TongbuError(
                f"binding {binding}: {made[0].entity} has no column for the reference {field}",
                "Name a field that the binding keeps; `<array>.<field>` for a child table's.",
            )
        if entity not in roots:
            raise TongbuError(
                f"binding {binding}: {made[0].entity}.{field} refers to {entity}, which the binding does not have",
                f"Add the entity to the binding, or drop the reference. It has: {', '.join(roots)}.",
            )
        found[table.name].append(Reference(names[column], roots[entity]))
    return [replace(table, references=tuple(found[table.name])) for table in made]


def _schema(
    binding: RelationalBinding, catalog: Catalog, entity: str, wanted: EntityBinding
) -> RecordSchema:
    schema = catalog.entities.get(entity)
    if schema is None or schema.major != wanted.major:
        raise TongbuError(
            f"binding {binding.binding}: no schema for {entity}, major {wanted.major}",
            f"Known: {', '.join(f'{each.name} v{each.major}' for each in catalog.entities.values())}.",
        )
    return schema


class _EntityTables:
    def __init__(
        self,
        binding: str,
        schema: RecordSchema,
        wanted: EntityBinding,
        sql_type: Callable[[str], str],
    ) -> None:
        self._binding = binding
        self._schema = schema
        self._wanted = wanted
        self._sql_type = sql_type
        self._named = dict(_named(schema.schema))
        self._name = wanted.table or schema.name

    def all(self) -> list[TargetTable]:
        """The entity's own table, then one per child."""
        children = [self._child(array) for array in self._wanted.children]
        columns = [
            self._column("id", ("id",), "key"),
            *self._renamed(
                self._flat(self._fields(), (), "", keys=set(self._wanted.references)),
                self._wanted.columns,
            ),
            self._column(VERSION, ("meta", "version"), "bigint"),
        ]
        root = TargetTable(
            self._schema.name,
            self._schema.topic,
            self._name,
            tuple(columns),
            ("id",),
            where=tuple(self._where()),
        )
        return [root, *children]

    def _where(self) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
        for path, values in self._wanted.where.items():
            node: Any = self._schema.schema
            for step in path.split("."):
                inner = {each["name"]: each["type"] for each in node.get("fields", ())}
                if step not in inner:
                    raise self._error(f"has no field {path} to route by")
                node = self._resolve(inner[step])
            unknown = set(values) - set(node.get("symbols", values))
            if unknown:
                raise self._error(f"has no value {', '.join(sorted(unknown))} of {path}")
            yield tuple(path.split(".")), frozenset(values)

    def _fields(self) -> list[dict[str, Any]]:
        kept = self._wanted.fields
        fields = {field["name"]: field for field in self._schema.schema["fields"]}
        if unknown := {*(kept or ()), *self._wanted.children} - set(fields):
            raise self._error(f"has no field {', '.join(sorted(unknown))}")
        return [
            field
            for name, field in fields.items()
            if name not in ("meta", "id")
            and name not in self._wanted.children
            and (kept is None or name in kept)
        ]

    def _child(self, array: str) -> TargetTable:
        declared = self._wanted.children[array]
        items = self._items(array)
        owner = f"{self._schema.name}_id"
        referring = {field.removeprefix(f"{array}.") for field in self._wanted.references}
        columns = self._flat(items["fields"], (), "", keys={declared.key, *referring})
        if declared.key not in {column.name for column in columns}:
            raise self._error(f"has no field {array}.{declared.key} to be the key of its rows")
        return TargetTable(
            self._schema.name,
            self._schema.topic,
            declared.table,
            (self._column(owner, ("id",), "key"), *self._renamed(columns, declared.columns)),
            (owner, declared.columns.get(declared.key, declared.key)),
            self._name,
            array,
        )

    def _renamed(self, columns: list[Column], names: dict[str, str]) -> list[Column]:
        if unknown := set(names) - {column.name for column in columns}:
            raise self._error(f"has no column {', '.join(sorted(unknown))} to rename")
        return [column._replace(name=names.get(column.name, column.name)) for column in columns]

    def _items(self, array: str) -> dict[str, Any]:
        kind = self._resolve(self._schema.fields.get(array))
        items = self._resolve(kind.get("items")) if kind["type"] == "array" else {}
        if items.get("type") != "record":
            raise self._error(f"has no array of records `{array}`")
        return items

    def _flat(
        self,
        fields: list[dict[str, Any]],
        path: tuple[str, ...],
        prefix: str,
        keys: set[str] | None = None,
    ) -> list[Column]:
        columns: list[Column] = []
        for field in fields:
            kind = self._resolve(field["type"])
            name, here = prefix + field["name"], (*path, field["name"])
            if kind["type"] == "record":
                columns += self._flat(kind["fields"], here, f"{name}_")
            else:
                is_key = name in (keys or ()) or name.endswith("_id")
                columns.append(self._column(name, here, self._kind(kind, name, is_key=is_key)))
        return columns

    def _kind(self, avro: dict[str, Any], name: str, *, is_key: bool) -> str:
        logical = avro.get("logicalType")
        if logical == "decimal":
            return f"decimal({avro['precision']},{avro.get('scale', 0)})"
        kind = _LOGICAL.get(logical or "") or _PLAIN.get(avro["type"])
        if kind is None:
            raise self._error(f"{name}: no column type for {logical or avro['type']}")
        return "key" if is_key and kind == "text" else kind

    def _column(self, name: str, path: tuple[str, ...], kind: str) -> Column:
        return Column(name, path, self._sql_type(kind), kind)

    def _resolve(self, avro: Any) -> dict[str, Any]:
        """Give the type as a dict: without null, a name replaced by its definition."""
        if isinstance(avro, list):
            options = [option for option in avro if option != "null"]
            avro = options[0] if len(options) == 1 else None
        if isinstance(avro, str):
            avro = self._named.get(avro, {"type": avro})
        if not isinstance(avro, dict):
            raise self._error("has a field that is a union of several types")
        return avro

    def _error(self, what: str) -> TongbuError:
        return TongbuError(
            f"binding {self._binding}: {self._schema.name} {what}",
            f"Compare the binding with {self._schema.file}.",
        )


def _named(node: Any, namespace: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every named type of a schema, by full name."""
    if isinstance(node, list):
        for each in node:
            yield from _named(each, namespace)
    elif isinstance(node, dict):
        if "name" in node and node.get("type") in ("record", "enum", "fixed"):
            namespace = node.get("namespace", namespace)
            full = node["name"] if "." in node["name"] else f"{namespace}.{node['name']}"
            namespace = full.rpartition(".")[0]
            yield full, node
            yield node["name"], node
        for key in ("fields", "type", "items", "values"):
            yield from _named(node.get(key), namespace)

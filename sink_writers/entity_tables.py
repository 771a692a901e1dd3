"""
From an entity's Avro schema to its tables: which columns there are and where their values come from.

A scalar becomes a column, a nested record one column per field (`gross` -> `gross_amount`,
`gross_currency`), an array that the binding lists under `children` a table of its own, any other array
or map a JSON column. Of `meta` only the version is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from schemas.catalog import RecordSchema
from schemas.declarations import EntityBinding
from sink_writers.tables import VERSION, Column, TargetTable, Unfit

_LOGICAL = {"timestamp-micros": "timestamp", "date": "date", "uuid": "text"}
#: Where the version stands in a row whose table has no column for it: no column is called so.
_BESIDE = "tongbu version"
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


class EntityTables:
    """Derives the tables of an entity; see the module."""

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
        names, here = dict(self._wanted.columns), ("columns",)
        keeps_version = names.get(VERSION, VERSION) is not None
        if not keeps_version:
            del names[VERSION]
        columns = [
            self._column("id", ("id",), "key"),
            *self._flat(self._fields(), (), "", keys=set(self._wanted.references)),
            self._column(VERSION, ("meta", "version"), "bigint"),
        ]
        renamed = self._renamed(columns if keeps_version else columns[:-1], names, here)
        root = TargetTable(
            self._schema.name,
            self._schema.topic,
            self._name,
            tuple(renamed),
            (renamed[0].name,),
            where=tuple(self._where()),
            version=renamed[-1].name if keeps_version else _BESIDE,
            keeps_version=keeps_version,
        )
        return [root, *children]

    def _where(self) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
        for path, values in self._wanted.where.items():
            node: Any = self._schema.schema
            for step in path.split("."):
                inner = {each["name"]: each["type"] for each in node.get("fields", ())}
                if step not in inner:
                    raise self._error(f"has no field {path} to route by", "where", path)
                node = self._resolve(inner[step])
            unknown = set(values) - set(node.get("symbols", values))
            if unknown:
                what = f"has no value {', '.join(sorted(unknown))} of {path}"
                raise self._error(what, "where", path)
            yield tuple(path.split(".")), frozenset(values)

    def _fields(self) -> list[dict[str, Any]]:
        kept = self._wanted.fields
        fields = {field["name"]: field for field in self._schema.schema["fields"]}
        if unknown := {*(kept or ()), *self._wanted.children} - set(fields):
            raise self._error(f"has no field {', '.join(sorted(unknown))}", "fields")
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
        columns = [
            self._column(owner, ("id",), "key"),
            *self._flat(items["fields"], (), "", keys={declared.key, *referring}),
        ]
        here = ("children", array)
        if declared.key not in {column.name for column in columns[1:]}:
            what = f"has no field {array}.{declared.key} to be the key of its rows"
            raise self._error(what, *here, "key")
        renamed = self._renamed(columns, declared.columns, (*here, "columns"))
        return TargetTable(
            self._schema.name,
            self._schema.topic,
            declared.table,
            tuple(renamed),
            (renamed[0].name, declared.columns.get(declared.key, declared.key)),
            self._name,
            array,
            parent_id=self._wanted.columns.get("id") or "id",
        )

    def _renamed(
        self, columns: list[Column], names: Mapping[str, str | None], path: tuple[str, ...]
    ) -> list[Column]:
        known = {column.name for column in columns}
        for name, chosen in names.items():
            if name not in known:
                raise self._error(f"has no column {name} to rename", *path, name)
            if chosen is None:
                what = f"can't be without {name}: only of `version` null may be said"
                raise self._error(what, *path, name)
        found = [column._replace(name=names.get(column.name) or column.name) for column in columns]
        for name, count in Counter(column.name for column in found).items():
            if count > 1:
                raise self._error(f"would have {count} columns that are called {name}", *path)
        return found

    def _items(self, array: str) -> dict[str, Any]:
        kind = self._resolve(self._schema.fields.get(array))
        items = self._resolve(kind.get("items")) if kind["type"] == "array" else {}
        if items.get("type") != "record":
            raise self._error(f"has no array of records `{array}`", "children", array)
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

    def _error(self, what: str, *path: str) -> Unfit:
        """Make an error; `path` leads from the entity to the place in the binding's file."""
        return Unfit(
            ("entities", self._schema.name, *path),
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

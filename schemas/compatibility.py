"""
What may change in a schema without harm: inside a major every version reads every other, without a registry.

The registry checks less than it seems to: it accepts another decimal scale or another time unit, which would
silently change what numbers mean. So this gate also wants logical types to stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import combinations
from typing import Any

import fastavro
import orjson
from avro.compatibility import (
    ReaderWriterCompatibilityChecker,
    SchemaCompatibilityResult,
    SchemaCompatibilityType,
    type_mismatch,
)
from avro.schema import EnumSchema, Schema, parse

from schemas.catalog import RecordSchema

#: What makes numbers mean something, beside their Avro type.
_MEANING = ("logicalType", "precision", "scale")


def findings(older: dict[str, Any], newer: dict[str, Any]) -> list[str]:
    """Give what keeps one of two (inlined) schemas from reading what the other wrote; none: they are compatible."""
    found = [f"readers of the newer version: {each}" for each in _unreadable(newer, older)]
    found += [f"readers of the older version: {each}" for each in _unreadable(older, newer)]
    return found + list(_other_meanings(older, newer))


def check_versions(versions: tuple[RecordSchema, ...]) -> Iterator[tuple[RecordSchema, str]]:
    """Give (newer version, finding) over all pairs of versions of a record that share a major."""
    for older, newer in combinations(versions, 2):
        if older.major == newer.major:
            for finding in findings(older.schema, newer.schema):
                yield newer, f"against {older.major}.{older.minor}: {finding}"


def undocumented(schema: dict[str, Any]) -> list[str]:
    """Give the paths of fields without `doc`."""
    return [".".join(path) for path, field in _fields(_expanded(schema)) if not field.get("doc")]


class _Checker(ReaderWriterCompatibilityChecker):  # type: ignore[misc] # avro has no types
    """
    As Avro's specification says, a reader's enum with a default reads symbols it does not know.

    Other than there, text and bytes do not become each other: the bytes of a decimal are no text, nor its digits a number.
    """

    def calculate_compatibility(
        self, reader: Schema, writer: Schema, location: list[str]
    ) -> SchemaCompatibilityResult:
        if isinstance(reader, EnumSchema) and isinstance(writer, EnumSchema):
            known = {*reader.symbols, *writer.symbols}
            if reader.props.get("default") in reader.symbols:
                reader = EnumSchema(reader.name, reader.namespace, sorted(known))
        if {reader.type, writer.type} == {"string", "bytes"}:
            return type_mismatch(reader, writer, location)
        return super().calculate_compatibility(reader, writer, location)


def _unreadable(reader: dict[str, Any], writer: dict[str, Any]) -> list[str]:
    result = _Checker().get_compatibility(_parsed(reader), _parsed(writer))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    places = ", ".join(sorted(result.locations))
    return [f"{message} ({places})" for message in sorted(result.messages)]


def _parsed(schema: dict[str, Any]) -> Schema:
    return parse(orjson.dumps(schema).decode())


def _other_meanings(older: dict[str, Any], newer: dict[str, Any]) -> Iterator[str]:
    before, after = (dict(_meanings(_expanded(each), "")) for each in (older, newer))
    for path in before.keys() & after.keys():
        if before[path] != after[path]:
            was, now = (", ".join(map(str, each)) for each in (before[path], after[path]))
            yield f"{path}: {was} became {now}"


def _meanings(node: Any, path: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Give path -> what makes numbers mean something, for every type in a schema without named references."""
    if isinstance(node, list):
        for branch in node:
            yield from _meanings(branch, path)
    elif not isinstance(node, dict):
        yield f"{path}|{node}", (None,)
    elif node["type"] == "record":
        for field in node["fields"]:
            yield from _meanings(field["type"], f"{path}.{field['name']}".lstrip("."))
    elif node["type"] in ("array", "map"):
        yield from _meanings(node.get("items") or node["values"], f"{path}[]")
    elif isinstance(node["type"], dict | list):
        yield from _meanings(node["type"], path)
    else:
        yield (
            f"{path}|{node['type']}",
            tuple(node[key] for key in _MEANING if key in node) or (None,),
        )


def _fields(
    node: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Give every field of every record in a schema without named references."""
    if isinstance(node, list):
        for branch in node:
            yield from _fields(branch, path)
    elif isinstance(node, dict):
        for field in node.get("fields", ()):
            yield (*path, field["name"]), field
            yield from _fields(field["type"], (*path, field["name"]))
        for key in ("items", "values"):
            yield from _fields(node.get(key), path)


def _expanded(schema: dict[str, Any]) -> dict[str, Any]:
    expanded: dict[str, Any] = fastavro.schema.expand_schema(deepcopy(schema))
    return expanded

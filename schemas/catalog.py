"""The catalog of Avro schemas: entities and the records of our own topics, with shared types inlined."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastavro
import orjson

from schemas.errors import DeclarationError

#: Records of mirrored tables: they have no topic of their own, and travel in transaction messages only.
MIRROR_TABLE, MIRROR_ROW = "mirror.table.v1", "mirror.row.v1"
#: Topic of each record in schemas/records; entity topics follow from name and major.
RECORD_TOPICS = {
    "transactions": "canonical.transactions.v1",
    "dead_letter": "hub.dead-letter.v1",
    "mirror_table": MIRROR_TABLE,
    "mirror_row": MIRROR_ROW,
}
_VERSION = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class RecordSchema:
    """One version of a record: its name, the file it stands in, its topic, and the inlined Avro schema."""

    name: str
    major: int
    minor: int
    topic: str
    file: Path
    schema: dict[str, Any]

    @property
    def subject(self) -> str:
        """The registry's subject, after the TOPIC naming strategy."""
        return f"{self.topic}-value"

    @cached_property
    def parsed(self) -> Any:
        """The schema as fastavro wants it."""
        return fastavro.parse_schema(deepcopy(self.schema))

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Field name -> Avro type of the record's own fields."""
        return {field["name"]: field["type"] for field in self.schema["fields"]}


@dataclass(frozen=True)
class Catalog:
    """
    The newest version of each entity and record, by name; `versions` holds all of them, oldest first.

    So one major of an entity is in use at a time: the highest that has a file.
    """

    entities: dict[str, RecordSchema]
    records: dict[str, RecordSchema]
    versions: dict[str, tuple[RecordSchema, ...]]

    @classmethod
    def load(cls, folder: Path | None = None) -> Catalog:
        """Read every .avsc below `folder` (default: the ones shipped); raise DeclarationError on a bad one."""
        root = folder or Path(str(files("schemas")))
        common = {schema["name"]: schema for schema in _common_types(root / "common")}
        versions = {
            **_read_versions(
                root / "entities", common, lambda name, major: f"canonical.{name}.v{major}"
            ),
            **_read_versions(root / "records", common, lambda name, _: RECORD_TOPICS[name]),
        }
        newest = {name: found[-1] for name, found in versions.items()}
        return cls(
            entities={name: schema for name, schema in newest.items() if name not in RECORD_TOPICS},
            records={name: schema for name, schema in newest.items() if name in RECORD_TOPICS},
            versions=versions,
        )

    def record(self, name: str) -> RecordSchema:
        """Give a record of our own topics, e.g. `transactions`."""
        return self.records[name]

    def entity(self, name: str, major: int) -> RecordSchema | None:
        """Give an entity in the major that is in use; None for any other (`why_not`)."""
        found = self.entities.get(name)
        return found if found is not None and found.major == major else None

    def why_not(self, name: str, major: int) -> tuple[str, str]:
        """Say why there is no such entity, and what to do."""
        newest = self.entities.get(name)
        if newest is not None and any(each.major == major for each in self.versions.get(name, ())):
            file = f"schemas/entities/{name}/{newest.file.name}"
            return (
                f"`{name}` {major} is not in use any more: {file} is there, and one major of an entity is in use at a time",
                f"Write `major: {newest.major}` in every mapping and binding of it, or take {file} away.",
            )
        known = ", ".join(f"{each.name} {each.major}" for each in self.entities.values())
        return f"there is no entity `{name}` {major}", f"Known: {known}."

    def all(self) -> list[RecordSchema]:
        """Every newest schema, in a stable order."""
        return [*self.entities.values(), *self.records.values()]


def _common_types(folder: Path) -> list[dict[str, Any]]:
    return [
        schema | {"name": f"{schema['namespace']}.{schema['name']}"}
        for schema in (_read(file) for file in sorted(folder.glob("*.avsc")))
    ]


def _read_versions(
    folder: Path, common: dict[str, dict[str, Any]], topic: Any
) -> dict[str, tuple[RecordSchema, ...]]:
    found: dict[str, list[RecordSchema]] = {}
    for file in sorted(folder.glob("*/*.avsc")):
        if not _VERSION.fullmatch(file.stem):
            remedy = "Name it <major>.<minor>.avsc, e.g. 1.0.avsc."
            raise DeclarationError(file, 1, "has no version for its name", remedy)
        major, minor = (int(number) for number in file.stem.split("."))
        name = file.parent.name
        schema = _inline(_read(file), common, set())
        found.setdefault(name, []).append(
            RecordSchema(name, major, minor, topic(name, major), file, schema)
        )
    return {name: tuple(sorted(each, key=_version)) for name, each in found.items()}


def _version(schema: RecordSchema) -> tuple[int, int]:
    return schema.major, schema.minor


def _read(file: Path) -> dict[str, Any]:
    try:
        schema = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DeclarationError(
            file, error.lineno, f"is not JSON: {error.msg}", "Mend the file."
        ) from error
    if not isinstance(schema, dict):
        raise DeclarationError(file, 1, "is not an Avro record", "Write one record per file.")
    return schema


def _inline(node: Any, common: dict[str, dict[str, Any]], seen: set[str]) -> Any:
    """Replace the first mention of a shared type by its definition, as Avro wants it; later ones stay names."""
    if isinstance(node, str) and node in common and node not in seen:
        seen.add(node)
        return _inline(common[node], common, seen)
    if isinstance(node, list):
        return [_inline(each, common, seen) for each in node]
    if isinstance(node, dict):
        keys = ("type", "items", "values", "fields")
        return {
            key: _inline(value, common, seen) if key in keys else value
            for key, value in node.items()
        }
    return node

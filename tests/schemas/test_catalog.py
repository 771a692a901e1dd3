"""The shipped Avro schemas, and what the catalog makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import fastavro
import pytest

from schemas.catalog import Catalog, RecordSchema
from schemas.errors import DeclarationError

CATALOG = Catalog.load()
ENTITIES = list(CATALOG.entities.values())

each_entity = pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.name)


def fields_of(node: Any) -> Iterator[dict[str, Any]]:
    """Give every field of a schema, those of nested records too."""
    if isinstance(node, list):
        for each in node:
            yield from fields_of(each)
    elif isinstance(node, dict):
        yield from node.get("fields", ())
        for key in ("type", "items", "values", "fields"):
            yield from fields_of(node.get(key))


def without_null(type_: Any) -> Any:
    return next(each for each in type_ if each != "null") if isinstance(type_, list) else type_


def test_all_ten_entities_are_there_each_with_its_topic() -> None:
    assert {entity.name: entity.topic for entity in ENTITIES} == {
        name: f"canonical.{name}.v1"
        for name in (
            "business_trip",
            "customer",
            "employee",
            "inventory_position",
            "order_approval",
            "org_unit",
            "product",
            "purchase_request",
            "receivable",
            "sales_order",
        )
    }


def test_every_schema_is_avro_and_named_after_its_topic() -> None:
    for schema in CATALOG.all():
        assert fastavro.parse_schema(deepcopy(schema.schema))
        assert schema.subject == f"{schema.topic}-value"
    for entity in ENTITIES:
        camel = entity.name.title().replace("_", "")
        assert (entity.schema["namespace"], entity.schema["name"]) == (entity.topic, camel)


@each_entity
def test_every_field_has_an_english_doc_and_a_chinese_label(entity: RecordSchema) -> None:
    unlabelled = [
        field["name"]
        for field in fields_of(entity.schema)
        if not (field.get("doc") and field.get("label_zh"))
    ]
    assert unlabelled == []


@each_entity
def test_an_entity_begins_with_meta_and_id_and_ends_with_its_origin(entity: RecordSchema) -> None:
    names = list(entity.fields)
    assert names[:2] == ["meta", "id"]
    assert names[-2:] == ["source_refs", "ext"]


@each_entity
def test_every_optional_field_is_null_by_default(entity: RecordSchema) -> None:
    for field in fields_of(entity.schema):
        if isinstance(field["type"], list):
            assert field["type"][0] == "null", field["name"]
            assert field["default"] is None, field["name"]


@each_entity
def test_every_enum_of_an_entity_knows_unknown(entity: RecordSchema) -> None:
    for name, type_ in entity.fields.items():
        plain = without_null(type_)
        if isinstance(plain, dict) and plain["type"] == "enum":
            assert plain["default"] == "unknown", name
            assert "unknown" in plain["symbols"], name


@each_entity
def test_references_to_other_entities_are_canonical_ids(entity: RecordSchema) -> None:
    references = {
        field["name"]: without_null(field["type"])
        for field in fields_of(entity.schema)
        if field["name"].endswith("_id")
    }
    assert set(references.values()) <= {"string"}


def test_a_shared_type_is_defined_where_it_is_first_met_and_named_afterwards() -> None:
    fields = CATALOG.entities["sales_order"].fields
    assert without_null(fields["net"])["name"] == "canonical.common.Money"
    assert without_null(fields["tax"]) == "canonical.common.Money"


def test_minor_versions_of_a_major_are_ordered_as_numbers(tmp_path: Path) -> None:
    write_entity(tmp_path, "1.9")
    write_entity(tmp_path, "1.10")
    catalog = Catalog.load(tmp_path)
    assert [schema.minor for schema in catalog.versions["thing"]] == [9, 10]
    assert catalog.entities["thing"].minor == 10


def test_a_schema_that_is_not_json_is_refused_with_its_line(tmp_path: Path) -> None:
    file = write_entity(tmp_path, "1.0")
    file.write_text('{"type": "record",\n "name": }', encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"1\.0\.avsc:2.*is not JSON"):
        Catalog.load(tmp_path)


def test_a_file_that_is_not_named_after_its_version_is_refused(tmp_path: Path) -> None:
    write_entity(tmp_path, "1.0-draft")
    with pytest.raises(DeclarationError, match=r"1\.0-draft\.avsc:1.*no version"):
        Catalog.load(tmp_path)


def write_entity(folder: Path, version: str) -> Path:
    file = folder / "entities" / "thing" / f"{version}.avsc"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        '{"type": "record", "name": "Thing", "namespace": "canonical.thing.v1", "fields": []}',
        encoding="utf-8",
    )
    return file

"""The shipped mappings fit the tables they read and the entities they fill."""

from __future__ import annotations

import pytest
from demo_world import CATALOG, MAPPINGS, RULES, SOURCES, captured, in_force

from schemas.captured import Table
from schemas.declarations import Declared, Mapping
from schemas.expressions import Each, Expression, Reference
from streams.in_force import expand
from tongbu.deploy import captured as live
from tongbu.deploy.check import check_columns, check_shapes

OWN_FIELDS = {"meta", "id", "source_refs", "ext"}

each_mapping = pytest.mark.parametrize("declared", MAPPINGS, ids=lambda each: each.value.mapping)


def tables_of(source: str) -> dict[str, Table]:
    return {table.qualified: table for table in captured(source).tables}


def references(fields: dict[str, Expression]) -> dict[str, Reference]:
    found: dict[str, Reference] = {}
    for name, expression in fields.items():
        if isinstance(expression, Reference):
            found[name] = expression
        elif isinstance(expression, Each):
            found |= references(expression.fields)
    return found


def test_every_entity_has_one_mapping() -> None:
    assert sorted(each.value.entity for each in MAPPINGS) == sorted(CATALOG.entities)


@pytest.mark.parametrize("source", SOURCES)
def test_the_declarations_of_a_source_compile_over_its_tables(source: str) -> None:
    expected = {each.value.entity for each in MAPPINGS if each.value.source == source}
    assert set(in_force(source).entities) == expected


def test_plan_finds_nothing_wrong_in_the_shape_of_mappings_and_rules() -> None:
    check_shapes(CATALOG, MAPPINGS, RULES)


@each_mapping
def test_plan_finds_nothing_wrong_in_the_columns_of_a_mapping(declared: Declared[Mapping]) -> None:
    mapping = declared.value
    check_columns(tables_of(mapping.source), declared, CATALOG.entities[mapping.entity])


@each_mapping
def test_no_field_of_an_entity_is_left_without_a_source(declared: Declared[Mapping]) -> None:
    mapping = declared.value
    ruled = {
        name for rule in RULES if rule.value.entity == mapping.entity for name in rule.value.sets
    }
    schema = expand(CATALOG.entities[mapping.entity].schema)
    types = {field["name"]: field["type"] for field in schema["fields"]}
    assert set(mapping.fields) | ruled | OWN_FIELDS == set(types)
    for name, array in mapping.arrays.items():
        items = {field["name"] for field in types[name]["items"]["fields"]}
        assert set(array.fields) == items


@each_mapping
def test_references_name_entities_of_the_source_they_point_to(declared: Declared[Mapping]) -> None:
    mapping = declared.value
    known = {(each.value.source, each.value.entity) for each in MAPPINGS}
    for name, reference in references(mapping.fields).items():
        assert (reference.source or mapping.source, reference.reference) in known, name


def test_parents_are_published_before_what_refers_to_them() -> None:
    order = list(in_force("erp").entities)
    assert order.index("customer") < order.index("sales_order") < order.index("receivable")


@pytest.mark.integration
@pytest.mark.parametrize("source", SOURCES)
def test_the_tables_tested_here_are_those_of_the_live_catalog(
    source: str, stack: dict[str, str]
) -> None:
    expected = captured(source)
    names = [table.qualified for table in expected.tables]
    dsn = stack[f"{source.upper()}_CAPTURE_DSN"]
    assert live.read(source, SOURCES[source], dsn, names) == expected

"""What is in force in a lane: declarations and captured schema, compiled together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import fastavro

from schemas.captured import Table
from schemas.catalog import MIRROR_ROW, MIRROR_TABLE
from schemas.control import CapturedSchema, Declarations, OutputSchema
from schemas.declarations import LookupInput, Mapping, mapping_from_bundle, rule_from_bundle
from schemas.encoder import compile_encoder
from schemas.expressions import Each, Expression, Reference
from streams.stages.image import Placeholders
from streams.stages.map import CompiledMapping, compile_mapping
from streams.stages.map_code import Misfit
from streams.stages.mirror import MirrorPlan, can_be_mirrored, compile_mirror
from streams.stages.repair import Repairs, repairs
from streams.stages.rules import CompiledRule, compile_rule


@dataclass(frozen=True)
class Writer:
    """
    An output topic with the schema that its records are written with.

    `schema` is as registered, `expanded` without named references, `encode` gives the bytes of a record.
    """

    topic: str
    schema_id: int
    encode: Callable[[dict[str, Any]], bytes]
    schema: dict[str, Any]
    expanded: dict[str, Any]


@dataclass(frozen=True)
class PartPlan:
    """A part of an aggregate: its table, and the columns that hold the root's key, in the key's order."""

    alias: str
    table: str
    parent_key: tuple[str, ...]
    order_by: str | None
    one: bool


@dataclass(frozen=True)
class LookupPlan:
    """A lookup: its table, and where each of its key columns comes from."""

    alias: str
    table: str
    key: tuple[str, ...]


@dataclass
class EntityPlan:
    """Everything that one entity of a lane needs; `waits_for` is a table it reads that is quarantined."""

    entity: str
    root: str
    mapping: CompiledMapping
    parts: tuple[PartPlan, ...]
    lookups: tuple[LookupPlan, ...]
    rules: tuple[CompiledRule, ...]
    writer: Writer
    waits_for: str | None = None

    @property
    def declared(self) -> Mapping:
        """The mapping as it was declared."""
        return self.mapping.mapping

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the indexes of the entity depend on, and which tables it reads."""
        declared = self.declared
        return self.root, declared.parts, declared.id_columns, declared.where, declared.tables


@dataclass(frozen=True)
class Role:
    """What a table is to an entity: its root (`part` None) or one of its parts."""

    entity: EntityPlan
    part: PartPlan | None


@dataclass(frozen=True)
class InForce:
    """
    Declarations and captured schema of a lane, ready for use.

    `tables` are the captured ones: their rows are kept as images, `placeholders` stand in them for values that were not
    sent, `repairs` is what their values need, `needed` the columns that their rows must bring. `entities` stand parents
    first, `misfits` say why a mapping can't use a table as it is, `mirrors` are the tables that are copied as they are.
    """

    hash: str
    placeholders: dict[str, Placeholders]
    tables: dict[str, Table]
    entities: dict[str, EntityPlan]
    roles: dict[str, tuple[Role, ...]]
    transactions: Writer
    dead_letters: Writer
    repairs: dict[str, Repairs]
    needed: dict[str, tuple[str, ...]]
    misfits: dict[str, Misfit]
    mirrors: dict[str, MirrorPlan]

    def published(self, name: str) -> EntityPlan | MirrorPlan | None:
        """Give an entity, or a mirrored table, by its name."""
        return self.entities.get(name) or self.mirrors.get(name)


def compile_in_force(declared: Declarations, captured: CapturedSchema) -> InForce:
    """
    Compile; tables that mappings can't use as they are now are the misfits.

    Raise TongbuError where declarations can't be used whatever the tables are like.
    """
    tables = {table.qualified: table for table in captured.tables}
    writers = {schema.topic: _writer(schema) for schema in declared.schemas}
    rules = [rule_from_bundle(bundled) for bundled in declared.rules]
    compiled = [compile_rule(rule) for rule in rules]
    plans = {}
    for bundled in declared.mappings:
        mapping = mapping_from_bundle(bundled)
        own = tuple(each for each in compiled if each.rule.entity == mapping.entity)
        plans[mapping.entity] = _plan(mapping, declared, tables, writers, own)
    ordered = {name: plans[name] for name in _parents_first(plans)}
    mirrors = _mirrors(declared, captured, tables, writers)
    return InForce(
        hash=declared.hash,
        placeholders={
            name: Placeholders(table, declared.unavailable_placeholder)
            for name, table in tables.items()
        },
        tables=tables,
        entities=ordered,
        roles=_roles(ordered),
        transactions=writers["canonical.transactions.v1"],
        dead_letters=writers["hub.dead-letter.v1"],
        repairs={name: repairs(table) for name, table in tables.items()},
        needed={name: _needed(name, plans.values()) for name in tables},
        misfits={
            each.table: each
            for plan in reversed(plans.values())
            for each in reversed(plan.mapping.reads.misfits)
        },
        mirrors=mirrors,
    )


def _needed(table: str, plans: Iterable[EntityPlan]) -> tuple[str, ...]:
    found = [plan.mapping.reads.columns.get(table, set()) for plan in plans]
    return tuple(sorted(set[str]().union(*found)))


def _mirrors(
    declared: Declarations,
    captured: CapturedSchema,
    tables: dict[str, Table],
    writers: dict[str, Writer],
) -> dict[str, MirrorPlan]:
    """Compile the mirrored tables that are captured and have a key."""
    return {
        each.table: compile_mirror(
            each,
            declared.source,
            captured.database,
            tables[each.table],
            writers[MIRROR_TABLE].encode,
            writers[MIRROR_ROW].encode,
        )
        for each in declared.mirrors
        if each.table in tables and can_be_mirrored(tables[each.table])
    }


def expand(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace every named reference in an Avro schema by what it names."""
    expanded: dict[str, Any] = fastavro.schema.expand_schema(deepcopy(schema))
    return expanded


def _writer(schema: OutputSchema) -> Writer:
    encode = compile_encoder(schema.id, schema.schema)
    return Writer(schema.topic, schema.id, encode, schema.schema, expand(schema.schema))


def _plan(
    mapping: Mapping,
    declared: Declarations,
    tables: dict[str, Table],
    writers: dict[str, Writer],
    rules: tuple[CompiledRule, ...],
) -> EntityPlan:
    writer = writers[f"canonical.{mapping.entity}.v{mapping.major}"]
    avro_fields = {field["name"]: field["type"] for field in writer.expanded["fields"]}
    compiled = compile_mapping(mapping, declared.source, declared.zone, tables, avro_fields)
    by_alias = {alias: each.from_ for alias, each in mapping.lookups.items()}
    for name in [
        each.lookup
        for rule in rules
        for each in rule.rule.inputs.values()
        if isinstance(each, LookupInput)
    ]:
        alias, _, column = name.partition(".")
        compiled.reads.column(tables[by_alias[alias]], column)
    root_key = tables[mapping.from_].key
    parts = tuple(
        PartPlan(alias, part.from_, _joined(part.join, root_key), part.order_by, part.one)
        for alias, part in mapping.parts.items()
    )
    lookups = tuple(
        LookupPlan(
            alias, each.from_, tuple(each.key.get(name, "") for name in tables[each.from_].key)
        )
        for alias, each in mapping.lookups.items()
    )
    return EntityPlan(mapping.entity, mapping.from_, compiled, parts, lookups, rules, writer)


def _joined(join: dict[str, str], root_key: tuple[str, ...]) -> tuple[str, ...]:
    """Order the part's join columns as the root's primary key is; where they don't fit, the root is a misfit."""
    by_root = {root: part for part, root in join.items()}
    return tuple(by_root.get(name, "") for name in root_key)


def _roles(plans: dict[str, EntityPlan]) -> dict[str, tuple[Role, ...]]:
    roles: dict[str, list[Role]] = {}
    for plan in plans.values():
        roles.setdefault(plan.root, []).append(Role(plan, None))
        for part in plan.parts:
            roles.setdefault(part.table, []).append(Role(plan, part))
    return {table: tuple(found) for table, found in roles.items()}


def _parents_first(plans: dict[str, EntityPlan]) -> list[str]:
    """Order entities so that what others refer to comes first; a cycle keeps the declared order."""
    graph = {
        name: {
            other for other in _references(plan.declared.fields) if other in plans and other != name
        }
        for name, plan in plans.items()
    }
    try:
        return list(TopologicalSorter(graph).static_order())
    except ValueError:
        return list(plans)


def _references(fields: dict[str, Expression]) -> set[str]:
    found: set[str] = set()
    for expression in fields.values():
        if isinstance(expression, Reference) and expression.source is None:
            found.add(expression.reference)
        elif isinstance(expression, Each):
            found |= _references(expression.fields)
    return found

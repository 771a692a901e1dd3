"""The target tables of a binding: those of its entities, with what refers to what, in the order of writing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from schemas.catalog import Catalog, RecordSchema
from schemas.declarations import EntityBinding, RelationalBinding
from sink_writers.entity_tables import EntityTables
from sink_writers.tables import Reference, TargetTable, Unfit


def tables(
    binding: RelationalBinding, catalog: Catalog, sql_type: Callable[[str], str]
) -> list[TargetTable]:
    """
    Give the tables of a binding: what others refer to comes first, children follow their parents.

    `sql_type` translates a kind (text, key, integer, bigint, double, decimal(p,s), boolean, date, timestamp,
    json) to the dialect. Raise Unfit where the binding asks for what the schemas don't have.
    """
    found: dict[str, list[TargetTable]] = {}
    for entity, wanted in binding.entities.items():
        schema = _schema(binding, catalog, entity, wanted)
        found[entity] = EntityTables(binding.binding, schema, wanted, sql_type).all()
    if binding.reads == "entities" and any(each.references for each in binding.entities.values()):
        raise Unfit(
            ("reads",),
            f"binding {binding.binding}: a target that reads entity by entity can't have references",
            "Records of several entities come in no order there: take `references` out, or read transactions.",
        )
    _refuse_twice(binding.binding, found)
    roots = {entity: made[0] for entity, made in found.items()}
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


def _refuse_twice(binding: str, found: dict[str, list[TargetTable]]) -> None:
    """Raise Unfit where two tables have one name: each would take the other's rows for its own."""
    taken: dict[str, str] = {}
    for table in (table for made in found.values() for table in made):
        what = f"{table.entity}.{table.array}" if table.array else table.entity
        if other := taken.get(table.name):
            raise Unfit(
                ("entities", table.entity),
                f"binding {binding}: {other} and {what} have one table, {table.name}",
                "Give one another name: `table`.",
            )
        taken[table.name] = what


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
    binding: str, made: list[TargetTable], references: dict[str, str], roots: dict[str, TargetTable]
) -> list[TargetTable]:
    """Give the tables of an entity with their references."""
    found: dict[str, list[Reference]] = {table.name: [] for table in made}
    by_array = {table.array or "": table for table in made}
    for field, entity in references.items():
        array, _, column = field.rpartition(".")
        table = by_array.get(array)
        names = {each.path[-1]: each.name for each in table.columns} if table else {}
        if table is None or column not in names:
            raise Unfit(
                ("entities", made[0].entity, "references", field),
                f"binding {binding}: {made[0].entity} has no column for the reference {field}",
                "Name a field that the binding keeps; `<array>.<field>` for a child table's.",
            )
        if entity not in roots:
            raise Unfit(
                ("entities", made[0].entity, "references", field),
                f"binding {binding}: {made[0].entity}.{field} refers to {entity}, which the binding does not have",
                f"Add the entity to the binding, or drop the reference. It has: {', '.join(roots)}.",
            )
        found[table.name].append(Reference(names[column], roots[entity].name, roots[entity].id))
    return [replace(table, references=tuple(found[table.name])) for table in made]


def _schema(
    binding: RelationalBinding, catalog: Catalog, entity: str, wanted: EntityBinding
) -> RecordSchema:
    schema = catalog.entity(entity, wanted.major)
    if schema is None:
        why, remedy = catalog.why_not(entity, wanted.major)
        raise Unfit(("entities", entity), f"binding {binding.binding}: {why}", remedy)
    return schema

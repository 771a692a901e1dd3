"""
Reconciliation: every mapped row of the sources against every relational target, through the same mapping, and every
mirrored table against its source as it is.

It reads the sources as they are now, so it is meant for a quiet moment: what is still on its way is told as a
difference. Ids with an open dead letter, rows that can't be mapped, and
records that a target has set aside, are set apart and named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import RelationalBinding, load_bindings
from schemas.errors import TongbuError
from sink_writers import bindings, targets
from sink_writers.changes import Rows, merge
from sink_writers.messages import Record
from streams.in_force import InForce, compile_in_force
from tongbu import mirrored, source_rows
from tongbu.dead_letters import open_letters
from tongbu.deploy import captured, lanes
from tongbu.deploy.deployment import Deployment
from tongbu.expected import ExpectedSource, FieldPath, Unmappable
from tongbu.parity import Parity, compare
from tongbu.progress import Steps


@dataclass(slots=True)
class Report:
    """
    What came of a reconciliation; `set_apart` is entity -> id -> why, `late` the fields not compared, `undeclared`
    target -> mirrored tables that no declaration names, so that nothing of them is compared.
    """

    targets: dict[str, Parity] = field(default_factory=dict)
    set_apart: dict[str, dict[str, str]] = field(default_factory=dict)
    late: dict[str, list[str]] = field(default_factory=dict)
    undeclared: dict[str, list[str]] = field(default_factory=dict)

    def apart(self, entity: str, id_: str, why: str) -> None:
        """Set an id apart."""
        self.set_apart.setdefault(entity, {})[id_] = why

    @property
    def holds(self) -> bool:
        """Tell whether all targets are as they should be."""
        return not any(parity.mismatches for parity in self.targets.values())

    def as_json(self) -> dict[str, Any]:
        """Give it as programs want it."""
        return {
            "targets": {name: parity.as_json() for name, parity in self.targets.items()},
            "set_apart": self.set_apart,
            "not_compared": self.late,
            "not_declared": self.undeclared,
        }


def relational_bindings() -> list[RelationalBinding]:
    """Give the shipped bindings that have tables."""
    loaded = [declared.value for declared in load_bindings(bindings.FOLDER)]
    return [binding for binding in loaded if isinstance(binding, RelationalBinding)]


def in_force(deployment: Deployment) -> dict[str, InForce]:
    """Give what is declared on disk, by source, compiled for the tables as they are live; raise TongbuError."""
    found = {}
    for name, source in deployment.sources.items():
        declared = lanes.declarations(deployment, name)
        if declared is None:
            raise TongbuError(
                f"source {name}: its schemas are not registered", "Run `tongbu apply`."
            )
        dsn = deployment.environment[f"{name.upper()}_DSN"]
        live = captured.read(name, source, dsn, deployment.tables_of(name))
        found[name] = compile_in_force(declared, live)
        for misfit in found[name].misfits.values():
            raise TongbuError(f"source {name}: {misfit.why}", "`tongbu drift` says more.")
    return found


def reconcile(deployment: Deployment, declared: Mapping[str, InForce], steps: Steps) -> Report:
    """Compare all; `declared` as `in_force` gives it. Raise ServiceUnavailable where a database is down."""
    report, stored = Report(), Decoder(deployment.registry.schema)
    letters = open_letters(deployment.bootstrap, deployment.registry)
    for letter in letters:
        if letter["entity"] is not None and letter["entity_id"] is not None:
            report.apart(letter["entity"], letter["entity_id"], f"dead letter: {letter['code']}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tongbu-reconcile-")))
        sources = []
        for name, each in declared.items():
            source = ExpectedSource(name, each, folder / name)
            stack.callback(source.close)
            _fill(source, deployment.environment[f"{name.upper()}_DSN"], steps)
            sources.append(source)
        _Comparison(sources, report, steps, stored).run(relational_bindings(), Catalog.load())
    mirrored.compare(deployment, relational_bindings(), report, steps, stored)
    return report


def _fill(source: ExpectedSource, dsn: str, steps: Steps) -> None:
    plans = source.in_force.entities.values()
    read = {table for plan in plans for table in plan.declared.tables}
    tables = [table for name, table in source.in_force.tables.items() if name in read]
    with steps.step(f"reading {source.source}") as advance:
        for count in source.fill(source_rows.read(dsn, tables)):
            advance(count)


class _Comparison:
    def __init__(
        self, sources: Sequence[ExpectedSource], report: Report, steps: Steps, stored: Decoder
    ) -> None:
        """Take the sources; `stored` reads the records that targets have set aside."""
        self._stored = stored
        self._sources = sources
        self._report = report
        self._steps = steps
        self._decoder = Decoder(self._schema)

    def _schema(self, schema_id: int) -> dict[str, Any]:
        """Give a schema that the expected records were just written with."""
        return next(
            plan.writer.schema
            for source in self._sources
            for plan in source.in_force.entities.values()
            if plan.writer.schema_id == schema_id
        )

    def run(self, found: Sequence[RelationalBinding], catalog: Catalog) -> None:
        """Compare entity by entity, so that only one entity's rows are in memory."""
        entities = dict.fromkeys(entity for binding in found for entity in binding.entities)
        self._report.targets = {binding.binding: Parity() for binding in found}
        for entity in entities:
            late = self._late(entity)
            with self._steps.step(f"comparing {entity}") as advance:
                records = self._records(entity)
                common = frozenset(self._report.set_apart.get(entity, ()))
                for binding in found:
                    if entity in binding.entities:
                        advance(self._compare(binding, catalog, entity, records, late, common))

    def _late(self, entity: str) -> frozenset[FieldPath]:
        late = frozenset[FieldPath]().union(*(each.late_paths(entity) for each in self._sources))
        if late:
            self._report.late[entity] = sorted(".".join(path) for path in late)
        return late

    def _records(self, entity: str) -> dict[str, list[Record]]:
        """Give the records of an entity by source; name what can't be mapped."""
        found: dict[str, list[Record]] = {}
        for source in self._sources:
            found[source.source] = list(self._mappable(source, entity))
        return found

    def _mappable(self, source: ExpectedSource, entity: str) -> Iterator[Record]:
        for record in source.records(entity):
            if isinstance(record, Unmappable):
                self._report.apart(entity, record.id, f"can't be mapped: {record.code}")
            else:
                yield record

    def _compare(
        self,
        binding: RelationalBinding,
        catalog: Catalog,
        entity: str,
        records: Mapping[str, list[Record]],
        late: frozenset[FieldPath],
        common: frozenset[str],
    ) -> int:
        """Compare an entity's tables but for ids set apart for all targets, `common`, and those this one set aside."""
        tables = [table for table in targets.tables(binding, catalog) if table.entity == entity]
        wanted = [
            each for name, found in records.items() if name in binding.sources for each in found
        ]
        changes = merge(map(Rows(tables, self._decoder).entry, wanted))
        parity = self._report.targets[binding.binding]
        own = targets.set_aside(binding, self._stored).get(tables[0].name, {})
        for id_, reason in own.items():
            self._report.apart(entity, id_, f"set aside by {binding.binding}: {reason}")
        apart = common | own.keys()
        before = parity.rows
        for table in tables:
            actual = targets.read_rows(binding, catalog, table.name)
            expected = changes.puts.get(table.name, [])
            compare(table, expected, actual, late, apart, parity)
        return parity.rows - before

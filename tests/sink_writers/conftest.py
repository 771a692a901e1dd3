"""Messages made of two small entities, and targets of each relational kind to apply them to."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pymysql
import pytest

from schemas.catalog import MIRROR_ROW, MIRROR_TABLE, Catalog, RecordSchema
from schemas.codec import Decoder, encode
from schemas.declarations import RelationalBinding
from sink_writers import fills, targets
from sink_writers.messages import Chunk, Message, Raw, Record
from sink_writers.parts import Parts
from sink_writers.sink import Place, Position, Sink
from sink_writers.sinks import make_sink, postgresql
from sink_writers.sinks.memory import MemorySink
from tongbu.deploy.captured import mysql_arguments
from tongbu.replay_targets import rename

MICROS = {"type": "long", "logicalType": "timestamp-micros"}
MONEY = {
    "type": "record",
    "name": "canonical.common.Money",
    "fields": [
        {
            "name": "amount",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 10},
        },
        {"name": "currency", "type": "string"},
    ],
}


def optional(kind: Any) -> list[Any]:
    return ["null", kind]


def entity(name: str, *fields: tuple[str, Any]) -> RecordSchema:
    """An entity's schema with `meta` as far as sinks read it."""
    meta = {
        "type": "record",
        "name": "canonical.common.Meta",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "operation", "type": "string"},
            {"name": "version", "type": "long"},
            {"name": "occurred_at", "type": optional(MICROS), "default": None},
            {"name": "changed", "type": {"type": "array", "items": "string"}},
            {"name": "previous_id", "type": optional("string"), "default": None},
        ],
    }
    all_fields = [("meta", meta), ("id", "string"), *fields]
    schema = {
        "type": "record",
        "name": f"canonical.{name}.v1.{name.title().replace('_', '')}",
        "fields": [{"name": field, "type": kind} for field, kind in all_fields],
    }
    return RecordSchema(name, 1, 0, f"canonical.{name}.v1", Path(f"{name}.avsc"), schema)


LINE = {
    "type": "record",
    "name": "Line",
    "fields": [
        {"name": "line_no", "type": "int"},
        {"name": "product_id", "type": "string"},
        {"name": "net", "type": optional("canonical.common.Money")},
    ],
}
STATUS = {"type": "enum", "name": "Status", "symbols": ["unknown", "draft", "approved"]}
ENTITIES = {
    schema.name: schema
    for schema in (
        entity("org_unit", ("name", optional("string")), ("parent_id", optional("string"))),
        entity(
            "customer",
            ("name", optional("string")),
            ("since", optional({"type": "int", "logicalType": "date"})),
        ),
        entity(
            "sales_order",
            ("code", "string"),
            ("customer_id", optional("string")),
            ("status", STATUS),
            ("gross", optional(MONEY)),
            ("seen_at", optional(MICROS)),
            ("closed", "boolean"),
            ("lines", {"type": "array", "items": LINE}),
            ("ext", {"type": "map", "values": "string"}),
        ),
        entity("receivable", ("sales_order_id", optional("string")), ("due", optional(MONEY))),
    )
}
SCHEMA_IDS = {schema.topic: number for number, schema in enumerate(ENTITIES.values(), start=1)}

#: The same of the records of mirrored tables.
MIRROR_IDS = {MIRROR_TABLE: 97, MIRROR_ROW: 98}

#: When a message's row was captured, received and produced, in microseconds.
CLOCK = {"captured": 1, "received": 2, "produced": 3}


class World:
    """Makes records and messages as the processor would."""

    def __init__(self) -> None:
        shipped = Catalog.load()
        self.catalog = Catalog(ENTITIES, shipped.records, {})
        self.transaction_schema = shipped.record("transactions")
        by_id = {SCHEMA_IDS[each.topic]: each.schema for each in ENTITIES.values()}
        by_id[99] = self.transaction_schema.schema
        self.mirror_schemas = {
            MIRROR_TABLE: shipped.record("mirror_table"),
            MIRROR_ROW: shipped.record("mirror_row"),
        }
        by_id |= {MIRROR_IDS[topic]: each.schema for topic, each in self.mirror_schemas.items()}
        self.decoder = Decoder(by_id.__getitem__)

    def customer(self, key: str, version: int, operation: str = "update", **values: Any) -> Record:
        return self._record(
            "customer", key, version, operation, {"name": None, "since": None} | values
        )

    def unit(self, key: str, version: int, operation: str = "update", **values: Any) -> Record:
        """An organisational unit; `parent_id` is another one."""
        values = {"name": None, "parent_id": None} | values
        return self._record("org_unit", key, version, operation, values)

    def order(
        self,
        key: str,
        version: int,
        operation: str = "update",
        lines: dict[int, str] | list[tuple[int, str]] | None = None,
        **values: Any,
    ) -> Record:
        """An order; `lines` gives line number -> product, or pairs of these where a number repeats."""
        money = {"amount": Decimal("12.3456"), "currency": "CNY"}
        state: dict[str, Any] = {
            "code": key,
            "customer_id": None,
            "status": "draft",
            "gross": money,
            "seen_at": None,
            "closed": False,
            "ext": {},
            "lines": [
                {"line_no": number, "product_id": product, "net": money}
                for number, product in (lines.items() if isinstance(lines, dict) else lines or ())
            ],
        }
        return self._record("sales_order", key, version, operation, state | values)

    def receivable(
        self, key: str, version: int, operation: str = "update", **values: Any
    ) -> Record:
        """What is due of an order."""
        values = {"sales_order_id": None, "due": None} | values
        return self._record("receivable", key, version, operation, values)

    def message(self, *records: Record, source: str = "erp", kind: str = "transaction") -> Message:
        """One message; the records' version is its lane offset."""
        version = records[0].version if records else 0
        return Message(source, version, kind, f"tx{version}", None, records)

    def raw(
        self, offset: int, lane_offset: int, *, records: Iterable[Record] = (), **values: Any
    ) -> Raw:
        """A Kafka record of the transactions topic: one message, or a part of one."""
        value = {
            "source": "erp",
            "lane_offset": lane_offset,
            "part": 1,
            "parts": 1,
            "kind": "transaction",
            "transaction": str(lane_offset),
            "committed_at": None,
            "only_bindings": [],
            "fill": None,
            "withheld": [],
            "records": [asdict(each) for each in records],
        } | values
        encoded = encode(99, self.transaction_schema.parsed, value)
        return Raw(0, offset, encoded, {"stage-clock": orjson.dumps(CLOCK)})

    def giant(self, *parts: list[Record]) -> Message:
        """A message in several parts, as the assembler makes it."""
        version = parts[0][0].version
        kept = Parts(pickle.loads)
        for part in parts:
            kept.add(pickle.dumps(tuple(part)), len(part))
        return Message("erp", version, "transaction", f"tx{version}", None, kept)

    def chunk(
        self,
        fill: str,
        version: int,
        *records: Record,
        after: str = "",
        to: str = "",
        last: bool = False,
        withheld: tuple[str, ...] = (),
    ) -> Message:
        """A chunk of a fill of customers for the binding `b`."""
        chunk = Chunk(fill, "customer", after, to, last)
        named = tuple(("customer", id_) for id_ in withheld)
        return Message(
            "erp", version, "republish", None, None, records, ("b",), fill=chunk, withheld=named
        )

    def _record(
        self, name: str, key: str, version: int, operation: str, values: dict[str, Any]
    ) -> Record:
        schema = ENTITIES[name]
        changed, previous_id = values.pop("changed", []), values.pop("previous_id", None)
        meta = {
            "event_id": f"{name}/{key}/{version}",
            "operation": operation,
            "version": version,
            "occurred_at": None,
            "changed": changed,
            "previous_id": previous_id,
        }
        value = encode(SCHEMA_IDS[schema.topic], schema.parsed, {"meta": meta, "id": key, **values})
        return Record(schema.topic, key, operation, version, value)


@pytest.fixture(scope="session")
def world() -> World:
    return World()


#: Entity -> names of columns in tables as a customer may have them: other keys, two without a place for the version.
THEIRS: dict[str, dict[str, str | None]] = {
    "sales_order": {"id": "nr", "version": None, "code": "order code"},
    "customer": {"id": "customer_no", "version": None},
    "org_unit": {"id": "unit_no", "version": "revision"},
    "receivable": {"id": "nr", "version": "revision"},
}
THEIR_LINES = {"sales_order_id": "order_nr", "line_no": "position"}


def binding(kind: str, name: str, **options: Any) -> RelationalBinding:
    """A binding of all entities; `prefix` sets its tables apart in a shared database, `theirs` names columns otherwise."""
    spec = _binding_spec(kind, name, options)
    return RelationalBinding.model_validate(spec)


def _binding_spec(kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    theirs = options.pop("theirs", False)
    spec = _plain_spec(kind, name, options)
    if theirs:
        for entity, wanted in spec["entities"].items():
            wanted["columns"] = THEIRS[entity]
        spec["entities"]["sales_order"]["children"]["lines"]["columns"] = THEIR_LINES
    return spec


def _plain_spec(kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    prefix, more = options.pop("prefix", ""), {}
    if options.pop("with_receivables", False):
        reference = {"sales_order_id": "sales_order"}
        more["receivable"] = {"table": f"{prefix}receivable", "references": reference}
    return {
        "binding": name,
        "kind": kind,
        "sources": ["erp"],
        "entities": {
            "sales_order": {
                "table": f"{prefix}sales_order",
                "references": {"customer_id": "customer"},
                "children": {"lines": {"table": f"{prefix}sales_order_line", "key": "line_no"}},
            },
            "customer": {"table": f"{prefix}customer"},
            **more,
            "org_unit": {
                "table": f"{prefix}org_unit",
                "references": {"parent_id": "org_unit"},
            },
        },
        **options,
    }


def plain(binding: RelationalBinding, table: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table with its columns called as if the binding named none."""
    names: dict[str, str | None] = {}
    for entity in binding.entities.values():
        children = {each.table: each.columns for each in entity.children.values()}
        names |= entity.columns if entity.table == table else children.get(table, {})
    back = {theirs: ours for ours, theirs in names.items()}
    return {back.get(name, name): value for name, value in row.items()}


@dataclass
class Target:
    """A target to test: sinks on it, what it holds, and a text that it refuses in a customer's name."""

    world: World
    place: Place
    poison: str
    prefix: str = ""
    spec: RelationalBinding = None  # type: ignore[assignment]
    sinks: list[Sink] = field(default_factory=list)

    def sink(self) -> Sink:
        """A new copy of the sink, as another process would have it."""
        raise NotImplementedError

    def rows(self, table: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    def set_aside(self) -> dict[str, int]:
        """Key -> version of what was refused."""
        raise NotImplementedError

    def begin_fill(self, fill: str) -> None:
        """Announce a fill of the customers of `erp`."""
        raise NotImplementedError

    def fill(self) -> tuple[str, str, bool]:
        """Id of the fill of customers, the id that it has reached, whether it is done."""
        raise NotImplementedError

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()

    def tend(self) -> None:
        sink = self.sinks[0]
        sink.tend(self.place, sink.claim(self.place))

    def apply(self, *messages: Message) -> None:
        """Apply messages as the owner that goes on where the last one stopped."""
        sink = self.sinks[0] if self.sinks else self.sink()
        at = sink.claim(self.place)
        sink.apply(self.place, at, messages, Position(at.next_offset + len(messages), 0, at.epoch))


class MemoryTarget(Target):
    def sink(self) -> Sink:
        if not self.sinks:
            from sink_writers.binding_tables import tables
            from sink_writers.dialects.postgresql import sql_type

            found = tables(self.spec, self.world.catalog, sql_type)
            self.sinks.append(
                MemorySink(found, self.world.decoder, lambda row: row.get("name") == self.poison)
            )
        return self.sinks[0]

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows = self.sink().tables[table]  # type: ignore[attr-defined]
        beside = "tongbu version"
        return [
            plain(
                self.spec,
                table,
                {name.replace(beside, "version"): rows[key][name] for name in rows[key]},
            )
            for key in sorted(rows)
        ]

    def set_aside(self) -> dict[str, int]:
        letters = self.sink().set_aside  # type: ignore[attr-defined]
        return {key: record.version for (_, key), (record, _) in letters.items()}

    def begin_fill(self, fill: str) -> None:
        self.sink().fills["erp", "customer"] = fill, ""  # type: ignore[attr-defined]

    def fill(self) -> tuple[str, str, bool]:
        fill, reached = self.sink().fills["erp", "customer"]  # type: ignore[attr-defined]
        return fill, reached or "", reached is None


@dataclass
class DatabaseTarget(Target):
    def sink(self) -> Sink:
        self.sinks.append(make_sink(self.spec, self.world.catalog, self.world.decoder))
        return self.sinks[-1]

    def rows(self, table: str) -> list[dict[str, Any]]:
        name = self.prefix + table
        rows = [
            plain(self.spec, name, row)
            for row in targets.read_rows(self.spec, self.world.catalog, name)
        ]
        entity = self.spec.entities.get(table)
        if entity and "version" in entity.columns and entity.columns["version"] is None:
            fences = dict(
                self.query(
                    f"select record_key, version from {self.own('tongbu_fence')} where table_name = '{name}'"
                )
            )
            rows = [row | {"version": fences[row["id"]]} for row in rows]
        return rows

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with (
            closing(targets.dialect(self.spec).connect()) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def own(self, name: str) -> str:
        return targets.dialect(self.spec).table(name)

    def set_aside(self) -> dict[str, int]:
        table = self.own("tongbu_set_aside")
        where = f"where binding = '{self.spec.binding}'"
        return dict(self.query(f"select record_key, version from {table} {where}"))

    def begin_fill(self, fill: str) -> None:
        with targets.opened(self.spec) as (target, cursor):
            name = target.table("tongbu_fill")
            fills.begin(cursor, name, self.spec.binding, "erp", "customer", fill)

    def fill(self) -> tuple[str, str, bool]:
        with targets.opened(self.spec) as (target, cursor):
            (found,) = fills.read(cursor, target.table("tongbu_fill"), self.spec.binding)
            return found.id, "" if found.is_done else found.reached, found.is_done

    def close(self) -> None:
        super().close()
        if self.spec.kind == "postgresql":
            self.query(f'drop schema "{self.spec.schema_}" cascade')
            return
        if self.spec.kind == "mysql":
            self.query(f"drop database {self.place.binding}")
            return
        for name in ("receivable", "sales_order_line", "sales_order", "customer", "org_unit"):
            self.query(f"drop table if exists {self.prefix}{name}")


def make_target(kind: str, world: World, environment: dict[str, str], **options: Any) -> Target:
    """A fresh target of a kind, its tables made."""
    name = f"t{uuid.uuid4().hex[:8]}"
    place = Place(name, "canonical.transactions.v1", "topic-a", 0)
    if kind == "memory":
        spec = binding("postgresql", name, dsn="", schema="x", **options)
        return MemoryTarget(world, place, "poison", spec=spec)
    if kind == "postgresql":
        spec = binding(kind, name, dsn=environment["WAREHOUSE_DSN"], schema=name, **options)
        target: Target = DatabaseTarget(world, place, "a\0b", spec=spec)
    elif kind == "mysql":
        with pymysql.connect(**mysql_arguments(environment["MYSQL_DSN"])) as admin:
            admin.cursor().execute(f"create database {name}")
        spec = binding(kind, name, dsn=rename(environment["MYSQL_DSN"], name), **options)
        target = DatabaseTarget(world, place, "长" * 30_000, spec=spec)
    else:
        spec = binding(kind, name, dsn=environment["OA_HUB_DSN"], prefix=f"{name}_", **options)
        target = DatabaseTarget(world, place, "长" * 30_000, prefix=f"{name}_", spec=spec)
    targets.apply(spec, targets.plan(spec, world.catalog))
    return target


INTEGRATION = pytest.mark.integration
DATABASES = ("postgresql", "mariadb", "mysql")
KINDS = ["memory", *(pytest.param(kind, marks=INTEGRATION) for kind in DATABASES)]


def environment_of(kind: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """What is needed to reach a kind of target; a server starts when the first test asks for it."""
    if kind == "memory":
        return {}
    found: dict[str, str] = dict(request.getfixturevalue("stack"))
    if kind == "mysql":
        found["MYSQL_DSN"] = request.getfixturevalue("mysql_dsn")
    return found


VARIANTS = ["postgresql-copy", *(f"{kind}-theirs" for kind in DATABASES)]


@pytest.fixture(
    params=[*KINDS, "memory-theirs", *(pytest.param(each, marks=INTEGRATION) for each in VARIANTS)]
)
def target(
    request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Target]:
    """
    A fresh target of every relational kind, and with tables in which id and version are called or stand elsewhere.

    PostgreSQL also with COPY, which else only large batches see.
    """
    kind, _, variant = request.param.partition("-")
    if variant == "copy" or request.param == "postgresql-theirs":
        monkeypatch.setattr(postgresql, "COPY_ROWS", 1 if variant == "copy" else 2)
    made = make_target(kind, world, environment_of(kind, request), theirs=variant == "theirs")
    yield made
    made.close()


@pytest.fixture(params=DATABASES)
def server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, str]]]:
    """A kind of database and the environment that leads to it, which is the test's, too; MySQL with a database of its own."""
    kind, environment = request.param, environment_of(request.param, request)
    with ExitStack() as cleanup:
        if kind == "mysql":
            name, dsn = f"d{uuid.uuid4().hex[:8]}", environment["MYSQL_DSN"]
            admin = cleanup.enter_context(closing(pymysql.connect(**mysql_arguments(dsn))))
            admin.cursor().execute(f"create database {name}")
            cleanup.callback(admin.cursor().execute, f"drop database {name}")
            environment["MYSQL_DSN"] = rename(dsn, name)
        for name in ("WAREHOUSE_DSN", "HUB_DSN", "OA_HUB_DSN", "MYSQL_DSN"):
            if name in environment:
                monkeypatch.setenv(name, environment[name])
        yield kind, environment


@pytest.fixture(params=KINDS[1:])
def database(request: pytest.FixtureRequest, world: World) -> Iterator[Target]:
    """A fresh target of every kind that is a database."""
    made = make_target(request.param, world, environment_of(request.param, request))
    yield made
    made.close()


@pytest.fixture(scope="session", name="binding")
def _binding() -> RelationalBinding:
    """A relational binding that no database stands behind."""
    return binding("postgresql", "b", dsn="")

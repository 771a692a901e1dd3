"""A captured source's log through a lane and a sink of this process: its tables as they are, in a real target."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from capturing import Captured

from schemas import control
from schemas.captured import Table
from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import RelationalBinding
from sink_writers import targets
from sink_writers.messages import Assembler, Raw
from sink_writers.sink import Place, Position
from sink_writers.sinks import make_sink
from streams.lane import Lane
from streams.records import LaneRecord, Output
from streams.seal import Seal, new_key
from streams.state import State

TOPIC = "canonical.transactions.v1"
CATALOG = Catalog.load()
SOURCES = ["test-postgresql", "test-mariadb", "test-mysql"]
#: Registered ids of the schemas that a lane of mirrored tables writes.
SCHEMAS = dict(enumerate(CATALOG.records.values(), 1))


@dataclass
class Target:
    """A schema (PostgreSQL) or database (MariaDB, MySQL) of its own on a server that an administrator may use."""

    kind: str
    admin: str
    name: str = field(default_factory=lambda: f"m{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        if self.kind != "postgresql":
            self.dsn = self.admin
            self.run(f"create database {self.name} character set utf8mb4")
        self.dsn = (
            self.admin
            if self.kind == "postgresql"
            else urlunsplit(urlsplit(self.admin)._replace(path=f"/{self.name}"))
        )
        spec = {"binding": self.name, "kind": self.kind, "dsn": self.dsn, "schema": self.name}
        self.binding = RelationalBinding.model_validate({**spec, "sources": SOURCES})
        targets.apply(self.binding, targets.plan(self.binding, CATALOG))

    @contextmanager
    def _cursor(self) -> Any:
        spec = {"binding": "x", "kind": self.kind, "dsn": self.dsn, "sources": SOURCES}
        dialect = targets.dialect(RelationalBinding.model_validate(spec))
        with closing(dialect.connect()) as connection, connection.cursor() as cursor:
            yield cursor

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        with self._cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def refused(self) -> list[tuple[Any, ...]]:
        """What was set aside, and why."""
        return self.run(f"select record_key, reason from {self.table('tongbu_set_aside')}")

    def table(self, name: str) -> str:
        return targets.dialect(self.binding).table(name)

    def close(self) -> None:
        if self.kind == "postgresql":
            self.run(f"drop schema {self.name} cascade")
        else:
            self.run(f"drop database {self.name}")


class Mirrored:
    """Runs lane records through a lane, and what it makes into the targets."""

    def __init__(self, folder: Path, captured: Captured, tables: list[Table], *to: Target) -> None:
        key = folder / "key"
        key.write_bytes(new_key())
        self.source, self.topic = captured.name, captured.topic
        self.lane = Lane(self.source, 0, State(folder / "state"), Seal(key), None)
        self.decoder = Decoder(lambda id_: deepcopy(SCHEMAS[id_].schema))
        self.letters: list[dict[str, Any]] = []
        self.offset = 0
        self.sinks = []
        for each in to:
            sink = make_sink(each.binding, CATALOG, self.decoder)
            place = Place(each.name, TOPIC, "t", 0)
            self.sinks.append((sink, place, Assembler(self.decoder, 0, 0)))
        self.positions = [sink.claim(place) for sink, place, _ in self.sinks]
        self.kafka = 0
        self.database = captured.database
        self.control(control.Lane(source=self.source, epoch=1, topic_id="t"))
        self.capture(tables)
        self.declare({each.qualified: {target.name: each.name for target in to} for each in tables})

    def capture(self, tables: list[Table]) -> None:
        self.control(
            control.CapturedSchema(source=self.source, database=self.database, tables=tuple(tables))
        )

    def declare(self, mirrored: dict[str, dict[str, str]]) -> None:
        self.control(
            control.Declarations(
                source=self.source,
                hash="x",
                zone="UTC",
                unavailable_placeholder="__tongbu_unavailable_7f3c9a__",
                mappings=(),
                rules=(),
                schemas=tuple(
                    control.OutputSchema(topic=each.topic, id=id_, schema=each.schema)
                    for id_, each in SCHEMAS.items()
                ),
                mirrors=tuple(
                    control.Mirrored(table=table, targets=found)
                    for table, found in mirrored.items()
                ),
            )
        )

    def control(self, record: control.ControlRecord) -> None:
        key, value = control.encode(record)
        self.run([LaneRecord(self.topic, 0, 0, key, value)])

    def run(self, records: Iterable[LaneRecord]) -> None:
        """Process records, and those that the lane itself asks for after them."""
        waiting = list(records)
        while waiting:
            outputs: list[Output] = []
            for each in waiting:
                record = LaneRecord(
                    self.topic, self.offset, each.timestamp, each.key, each.value, each.headers
                )
                outputs += [made for made in self.lane.process(record) if made is not None]
                self.offset += 1
                self.lane.end_batch()
                self.lane.state.commit(self.offset)
            self._apply([each for each in outputs if each.topic == TOPIC])
            for output in outputs:
                if output.topic == "hub.dead-letter.v1" and output.value:
                    self.letters.append(self.decoder.decode(output.value))
            waiting = [
                LaneRecord(self.topic, 0, 0, each.key, each.value)
                for each in outputs
                if each.topic == self.topic
            ]

    def _apply(self, outputs: list[Output]) -> None:
        raws = [
            Raw(0, self.kafka + number, each.value or b"", {})
            for number, each in enumerate(outputs)
        ]
        self.kafka += len(raws)
        for number, (sink, place, assembler) in enumerate(self.sinks):
            messages = [message for raw in raws if (message := assembler.add(raw)) is not None]
            at = self.positions[number]
            to = Position(assembler.next_offset, assembler.lane_offset, at.epoch)
            if messages:
                sink.apply(place, at, messages, to)
                self.positions[number] = to

    def close(self) -> None:
        for sink, *_ in self.sinks:
            sink.close()
        self.lane.state.close()

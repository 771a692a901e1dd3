"""A real lane over what capture sends: two tables of a real server, each mapped to an entity of its own."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from capturing import SCHEMA, Captured
from types_on_servers import live_table

from bench.lane_log import DECIMAL, META
from schemas import control
from schemas.catalog import Catalog
from schemas.codec import Decoder
from streams.lane import Lane
from streams.records import LaneRecord, Output
from streams.seal import Seal, new_key
from streams.state import State

COLUMNS = "id int PRIMARY KEY, code varchar(20) NOT NULL, amount int, note varchar(40), spare int"
FIELDS = {"code": "code", "amount": "amount", "note": "note"}
PLACEHOLDER = "__tongbu_unavailable_7f3c9a__"


def _entity(name: str) -> dict[str, Any]:
    ref = {
        "type": "record",
        "name": "Ref",
        "fields": [{"name": each, "type": "string"} for each in ("source", "table", "key")],
    }
    fields: list[dict[str, Any]] = [
        {"name": "meta", "type": META},
        {"name": "id", "type": "string"},
        {"name": "code", "type": "string"},
        {"name": "amount", "type": ["null", DECIMAL], "default": None},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "source_refs", "type": {"type": "array", "items": ref}},
        {"name": "ext", "type": {"type": "map", "values": "string"}},
    ]  # fmt: skip
    return {
        "type": "record",
        "name": name.capitalize(),
        "namespace": f"canonical.{name}.v1",
        "fields": fields,
    }


_RECORDS = Catalog.load().record
SCHEMAS = {
    1: _entity("thing"),
    2: _entity("neighbour"),
    3: _RECORDS("transactions").schema,
    4: _RECORDS("dead_letter").schema,
}
_TOPICS = ("canonical.thing.v1", "canonical.neighbour.v1", "canonical.transactions.v1", "hub.dead-letter.v1")  # fmt: skip


class Followed:
    """The tables `NAME` and `NAME_neighbour`, what their lane has published, and what it withholds."""

    def __init__(self, captured: Captured, name: str, folder: Path, columns: str = COLUMNS) -> None:
        self.captured, self.name = captured, name
        self.table, self.neighbour = f"{SCHEMA}.{name}", f"{SCHEMA}.{name}_neighbour"
        captured.run(
            f"CREATE TABLE {self.table} ({columns})", f"CREATE TABLE {self.neighbour} ({columns})"
        )
        (folder / "key").write_bytes(new_key())
        self.lane = Lane("x", 0, State(folder / "state"), Seal(folder / "key"), None)
        self.decode = Decoder(lambda id_: deepcopy(SCHEMAS[id_])).decode
        self.published: dict[str, dict[str, Any]] = {}
        self.letters: list[dict[str, Any]] = []
        #: Published records; `keep` their values, too.
        self.count, self.keep = 0, True
        self.offset = self.since = captured.end
        self.control(control.Lane(source="x", epoch=1, topic_id="t"))
        self.look()
        self.declare()

    def declare(self, **fields: str | None) -> None:
        """Put the mapping in force, some fields from other columns or (None) not mapped."""
        mapped = {name: each for name, each in (FIELDS | fields).items() if each}
        mappings = tuple(
            {"file": "t.yaml", "declaration": _mapping(entity, table, own)}
            for entity, table, own in (("thing", self.table, mapped), ("neighbour", self.neighbour, FIELDS))
        )  # fmt: skip
        schemas = tuple(
            control.OutputSchema(topic=topic, id=number, schema=SCHEMAS[number])
            for number, topic in enumerate(_TOPICS, 1)
        )
        self.control(
            control.Declarations(
                source="x", hash=str(mapped), zone="UTC", unavailable_placeholder=PLACEHOLDER,
                mappings=mappings, rules=(), schemas=schemas,
            )
        )  # fmt: skip

    def look(self) -> None:
        """Look at the live catalog, as `tongbu apply` and the catalog watch do."""
        tables = (live_table(self.captured, self.name), live_table(self.captured, f"{self.name}_neighbour"))  # fmt: skip
        self.control(
            control.CapturedSchema(source="x", database=self.captured.database, tables=tables)
        )

    def control(self, record: control.ControlRecord) -> None:
        """Let the lane read a control record now; test logs have them between the records of capture."""
        key, value = control.encode(record)
        self._take(LaneRecord(self.captured.topic, self.offset, 0, key, value))

    def follow(self) -> None:
        """Let the lane read all that was captured since."""
        records = self.captured.until_now(self.since)
        self.since = self.captured.end
        for record in records:
            self._take(record)

    def follow_in_batches(self, size: int) -> Iterator[int]:
        """Let the lane read what was captured in batches, as the processor does; give how many records were read so far."""
        mark = self.captured.mark()
        self.keep = False
        for number, record in enumerate(self.captured.records(self.since, mark), 1):
            self._take(record, commit=number % size == 0)
            yield number
        self.lane.end_batch()
        self.lane.state.commit(self.offset)

    def _take(self, record: LaneRecord, commit: bool = True) -> None:
        placed = LaneRecord(record.topic, self.offset, 0, record.key, record.value, record.headers)
        self.offset += 1
        for output in self.lane.process(placed):
            if output is not None:
                self._note(output)
        if commit:
            self.lane.end_batch()
            self.lane.state.commit(self.offset)

    def _note(self, output: Output) -> None:
        if output.topic == "canonical.transactions.v1":
            records = self.decode(output.value)["records"]
            self.count += len(records)
            for record in records if self.keep else ():
                if record["operation"] == "delete":
                    self.published.pop(record["key"], None)
                else:
                    self.published[record["key"]] = self.decode(record["value"])
        elif output.topic == "hub.dead-letter.v1":
            self.letters.append(self.decode(output.value))

    # -- what is there

    @property
    def quarantined(self) -> dict[str, str]:
        """Give quarantined table -> code."""
        return {table: ward.code for table, ward in self.lane.quarantine.tables.items()}

    def equal(self, **columns: str) -> bool:
        """Tell that what is published is what SELECT says now; `columns` names those that are called otherwise."""
        asked = FIELDS | columns
        for table, prefix, names in ((self.table, "thing", asked), (self.neighbour, "neighbour", FIELDS)):  # fmt: skip
            rows = self.captured.select(f"SELECT {', '.join(names.values())} FROM {table}")
            expected = sorted(tuple(row) for row in rows)
            found = sorted(
                tuple(record[field] for field in names)
                for id_, record in self.published.items()
                if id_.startswith(f"x:{prefix}")
            )
            assert found == expected, (table, found, expected)
        return True

    def write(self, number: int, **more: Any) -> None:
        """Write a row to both tables, in two transactions."""
        for table, prefix, extra in ((self.table, "thing", more), (self.neighbour, "neighbour", {})):  # fmt: skip
            values = {"id": number, "code": f"'{prefix}{number}'", "amount": number * 10, "note": "'n'"} | extra  # fmt: skip
            kept = {name: value for name, value in values.items() if value is not None}
            self.captured.run(
                f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({', '.join(map(str, kept.values()))})"
            )


def _mapping(entity: str, table: str, fields: dict[str, str]) -> dict[str, Any]:
    return {
        "mapping": f"t.{entity}", "version": 1, "source": "x", "entity": entity, "major": 1,
        "from": table, "id": "code", "fields": fields,
    }  # fmt: skip

"""A small world without databases: one order entity with lines, and lane logs as Debezium writes them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import fastavro
import msgspec
import orjson

from schemas import control
from schemas.captured import Column, Table
from schemas.catalog import Catalog
from streams.records import LaneRecord

PLACEHOLDER = "__unavailable__"
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 10}
MONEY = {
    "type": "record",
    "name": "Money",
    "namespace": "canonical.common",
    "fields": [{"name": "amount", "type": DECIMAL}, {"name": "currency", "type": "string"}],
}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
META = {
    "type": "record",
    "name": "Meta",
    "namespace": "canonical.common",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "source", "type": "string"},
        {"name": "operation", "type": "string"},
        {"name": "version", "type": "long"},
        {"name": "transaction", "type": ["null", "string"]},
        {"name": "transaction_index", "type": "int"},
        {"name": "transaction_count", "type": "int"},
        {"name": "occurred_at", "type": ["null", MICROS]},
        {"name": "changed", "type": {"type": "array", "items": "string"}},
        {"name": "previous", "type": {"type": "map", "values": ["null", "string"]}},
        {"name": "previous_id", "type": ["null", "string"]},
        {"name": "correlation_id", "type": ["null", "string"]},
        {"name": "causation_id", "type": ["null", "string"]},
        {"name": "mapping", "type": "string"},
        {"name": "rules", "type": {"type": "array", "items": "string"}},
    ],
}
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "canonical.order.v1",
    "fields": [
        {"name": "meta", "type": META},
        {"name": "id", "type": "string"},
        {"name": "code", "type": "string"},
        {
            "name": "status",
            "type": {
                "type": "enum",
                "name": "Status",
                "symbols": ["draft", "approved", "unknown"],
                "default": "unknown",
            },
        },
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "gross", "type": ["null", MONEY], "default": None},
        {"name": "line_count", "type": "int"},
        {
            "name": "lines",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Line",
                    "fields": [
                        {"name": "line_no", "type": "int"},
                        {"name": "gross", "type": "canonical.common.Money"},
                    ],
                },
            },
        },
        {
            "name": "source_refs",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "SourceRef",
                    "namespace": "canonical.common",
                    "fields": [
                        {"name": "source", "type": "string"},
                        {"name": "table", "type": "string"},
                        {"name": "key", "type": "string"},
                    ],
                },
            },
        },
        {"name": "ext", "type": {"type": "map", "values": "string"}},
    ],
}
MAPPING = {
    "mapping": "t.order",
    "version": 1,
    "source": "erp",
    "entity": "order",
    "major": 1,
    "from": "public.head",
    "where": {"returned": False},
    "id": "code",
    "parts": {"lines": {"from": "public.line", "join": {"head_id": "id"}, "order_by": "no"}},
    "fields": {
        "code": "code",
        "note": "note",
        "status": {"codes": {"0": "draft", "1": "approved"}, "of": "state"},
        "gross": {"sum": "lines.gross"},
        "line_count": {"count": "lines"},
        "lines": {
            "each": "lines",
            "fields": {"line_no": "no", "gross": {"money": "amount", "currency": {"const": "CNY"}}},
        },
    },
}


def _columns(**types: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=type_) for name, type_ in types.items())


CAPTURED = control.CapturedSchema(
    source="erp",
    database="postgresql",
    tables=(
        Table(
            schema="public",
            name="head",
            key=("id",),
            columns=_columns(
                id="integer", code="text", state="integer", note="text", returned="boolean"
            ),
        ),
        Table(
            schema="public",
            name="line",
            key=("id",),
            columns=_columns(id="integer", head_id="integer", no="integer", amount="numeric(20,4)"),
        ),
    ),
)


def captured(source: str, extra: tuple[Column, ...] = ()) -> control.CapturedSchema:
    """Give the tables of a source; all sources have the same, their heads with `extra` columns."""
    head, *others = CAPTURED.tables
    head = msgspec.structs.replace(head, columns=head.columns + extra)
    return msgspec.structs.replace(CAPTURED, source=source, tables=(head, *others))


def declarations(
    mapping: dict[str, Any] = MAPPING, source: str = "erp", name: str = "h1"
) -> control.Declarations:
    """Give a bundle with one mapping; `name` stands for its hash."""
    catalog = Catalog.load()
    schemas = [
        control.OutputSchema(topic="canonical.order.v1", id=1, schema=ORDER),
        control.OutputSchema(
            topic="canonical.transactions.v1", id=2, schema=catalog.record("transactions").schema
        ),
        control.OutputSchema(
            topic="hub.dead-letter.v1", id=3, schema=catalog.record("dead_letter").schema
        ),
    ]
    return control.Declarations(
        source=source,
        hash=name,
        zone="Asia/Shanghai",
        unavailable_placeholder=PLACEHOLDER,
        mappings=({"file": "t/order.yaml", "declaration": mapping | {"source": source}},),
        rules=(),
        schemas=tuple(schemas),
    )


class Log:
    """Writes the lane log of a source, PostgreSQL's way, in memory."""

    def __init__(self, source: str = "erp") -> None:
        self.source = source
        self.records: list[LaneRecord] = []
        self.xid = 100
        self.lsn = 1000

    def add(
        self, value: Any, key: bytes | None = None, headers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        data = value if isinstance(value, bytes) or value is None else orjson.dumps(value)
        offset = len(self.records)
        self.records.append(
            LaneRecord(
                f"cdc.{self.source}",
                offset,
                1_700_000_000_000_000 + offset * 1000,
                key,
                data,
                headers,
            )
        )

    def control(self, record: control.ControlRecord) -> None:
        key, value = control.encode(record)
        self.add(value, key)

    def start(self, mapping: dict[str, Any] = MAPPING) -> Log:
        """Write the records that every lane log begins with."""
        self.control(control.Lane(source=self.source, epoch=1, topic_id="t1"))
        self.control(captured(self.source))
        self.control(declarations(mapping, self.source))
        return self

    def row(
        self,
        operation: str,
        table: str,
        after: dict[str, Any] | None,
        before: dict[str, Any] | None = None,
        xid: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> None:
        self.lsn += 8
        self.add(
            {
                "op": operation,
                "before": before,
                "after": after,
                "source": {
                    "schema": "public",
                    "table": table,
                    "ts_us": 1_700_000_000_000_000,
                    "lsn": self.lsn,
                },
                "transaction": {"id": f"{xid}:{self.lsn}", "total_order": 1} if xid else None,
            },
            b"{}",
            headers,
        )

    def begin(self, xid: int) -> None:
        self.add({"status": "BEGIN", "id": f"{xid}:{self.lsn}"})

    def end(self, xid: int) -> None:
        self.lsn += 8
        self.add({"status": "END", "id": f"{xid}:{self.lsn}", "event_count": 1})

    def transaction(self, *rows: tuple[Any, ...]) -> None:
        self.xid += 1
        self.begin(self.xid)
        for row in rows:
            self.row(*row, xid=self.xid)  # type: ignore[misc]
        self.end(self.xid)

    def read(self, table: str, row: dict[str, Any], connector: str) -> None:
        """Write a row that a connector has read in its initial snapshot."""
        self.row("r", table, row)
        value = orjson.loads(self.records[-1].value or b"")
        value["source"] |= {"name": connector, "snapshot": "true"}
        self.records[-1] = msgspec.structs.replace(self.records[-1], value=orjson.dumps(value))

    def notice(self, what: str, connector: str, table: str | None = None, **data: str) -> None:
        """Write a connector's notice about its initial snapshot."""
        data = data | {"connector_name": connector}
        if table is not None:
            data |= {"scanned_collection": f"public.{table}", "status": "SUCCEEDED"} | data
        self.add(
            {"aggregate_type": "Initial Snapshot", "type": what, "id": "x", "additional_data": data}
        )

    def snapshot_completed(self) -> None:
        self.add({"aggregate_type": "Initial Snapshot", "type": "COMPLETED", "id": "x"})


def head(
    id_: int = 1,
    state: int = 0,
    note: str | None = "n",
    code: str | None = None,
    returned: bool = False,
) -> dict[str, Any]:
    return {
        "id": id_,
        "code": code or f"SO{id_}",
        "state": state,
        "note": note,
        "returned": returned,
    }


def line(id_: int, head_id: int = 1, no: int = 1, amount: str = "10.0000") -> dict[str, Any]:
    return {"id": id_, "head_id": head_id, "no": no, "amount": amount}


SCHEMAS = {
    1: ORDER,
    2: Catalog.load().record("transactions").schema,
    3: Catalog.load().record("dead_letter").schema,
}

fastavro.parse_schema(deepcopy(ORDER))

"""`tongbu tail`: which topic is meant, and what a person sees of a record."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.catalog import Catalog
from schemas.codec import encode
from schemas.control import Republish
from schemas.control import encode as encode_control
from schemas.errors import TongbuError
from schemas.registry import Registry
from tongbu import tail, tail_view

EXISTING = {
    "canonical.sales_order.v1",
    "canonical.transactions.v1",
    "cdc.erp",
    "__consumer_offsets",
}


@pytest.mark.parametrize(
    ("wanted", "topic"),
    [
        ("sales_order", "canonical.sales_order.v1"),
        ("transactions", "canonical.transactions.v1"),
        ("erp", "cdc.erp"),
        ("cdc.erp", "cdc.erp"),
    ],
)
def test_a_topic_is_found_by_the_name_of_topic_entity_or_source(wanted: str, topic: str) -> None:
    assert tail.find(wanted, EXISTING) == topic


def test_an_unknown_name_is_refused_with_what_exists() -> None:
    with pytest.raises(TongbuError) as refusal:
        tail.find("sales_oder", EXISTING)

    assert "`sales_oder`" in str(refusal.value)
    assert (
        refusal.value.remedy
        == "Topics: canonical.sales_order.v1, canonical.transactions.v1, cdc.erp."
    )


def said(value: Any, key: str | None = "k", kind: str = "record") -> str:
    record = {"partition": 2, "offset": 7, "key": key, "kind": kind, "value": value}
    return tail_view.line(record).plain


def order(operation: str, **more: Any) -> dict[str, Any]:
    meta = {"operation": operation, "version": 9, "changed": [], "previous": {}}
    money = {"amount": Decimal("12.5000000000"), "currency": "CNY"}
    value = {"meta": meta, "id": "erp:SO1", "gross": money, "note": None, "lines": [{"line_no": 1}]}
    return {**value, **more}


def test_a_created_record_is_shown_whole_without_what_is_empty() -> None:
    assert said(order("create")) == "2/7 create erp:SO1 v9 gross=12.5_CNY lines=[1]"


def test_an_update_shows_what_changed_and_what_it_was() -> None:
    value = order("update", status="approved")
    value["meta"] |= {"changed": ["status", "note"], "previous": {"status": "draft"}}

    assert said(value) == "2/7 update erp:SO1 v9 status=approved (was draft) note=null"


def test_a_tombstone_and_a_control_record_are_marked() -> None:
    assert said(None, "erp:SO1", "tombstone") == "2/7 tombstone erp:SO1"
    control = {"kind": "republish", "source": "erp", "entity": "customer", "bindings": []}
    assert (
        said(control, "tongbu:republish", "control")
        == "2/7 control republish source=erp entity=customer"
    )


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (
            {"op": "c", "before": None, "after": {"ID": 1, "cMemo": None}},
            'create public.T {"ID":1} ID=1',
        ),
        (
            {"op": "u", "before": {"ID": 1, "a": "x y"}, "after": {"ID": 1, "a": None}},
            'update public.T {"ID":1} a=null (was "x y")',
        ),
        (
            {"op": "u", "before": None, "after": {"ID": 1, "a": 0}},
            'update public.T {"ID":1} ID=1 a=0',
        ),
        ({"op": "d", "before": {"ID": 1}, "after": None}, 'delete public.T {"ID":1} ID=1'),
        (
            {"op": "t", "before": None, "after": None},
            'truncate public.T {"ID":1}',
        ),
    ],
    ids=["create", "update", "update without before", "delete", "truncate"],
)
def test_a_row_change_shows_operation_table_key_and_values(
    value: dict[str, Any], line: str
) -> None:
    source = {"db": "erp", "schema": "public", "table": "T"}

    assert said({**value, "source": source}, '{"ID":1}') == f"2/7 {line}"


def test_a_table_of_mariadb_is_named_with_its_database() -> None:
    value = {"op": "d", "before": {"id": 1}, "after": None, "source": {"db": "oa", "table": "t"}}

    assert said(value, None) == "2/7 delete oa.t id=1"


def test_begin_and_end_of_a_source_transaction_are_short() -> None:
    assert said({"status": "BEGIN", "id": "0-1-32", "event_count": None}) == "2/7 BEGIN 0-1-32"
    assert said({"status": "END", "id": "0-1-32", "event_count": 2}) == "2/7 END 0-1-32 changes=2"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"op": "m", "message": {"prefix": "heartbeat", "content": "eA=="}}, "message heartbeat"),
        (
            {"databaseName": "oa", "ddl": "ALTER TABLE t ADD c INT"},
            "ddl oa ALTER TABLE t ADD c INT",
        ),
        (
            {
                "aggregate_type": "Initial Snapshot",
                "type": "STARTED",
                "additional_data": {"a": "b"},
            },
            "notification Initial Snapshot STARTED a=b",
        ),
        ({"ts_ms": 5, "flag": False}, "k ts_ms=5 flag=false"),
    ],
)
def test_what_else_stands_in_a_lane_log_is_named(value: dict[str, Any], line: str) -> None:
    assert said(value) == f"2/7 {line}"


def test_a_transaction_shows_its_records_and_what_it_withholds_below_it() -> None:
    nested = {
        "topic": "canonical.sales_order.v1",
        "key": "erp:SO1",
        "value": order("delete", lines=[]),
    }
    value = {
        "source": "erp",
        "lane_offset": 9,
        "part": 1,
        "parts": 1,
        "kind": "transaction",
        "transaction": "803",
        "fill": None,
        "records": [nested],
        "withheld": [{"entity": "customer", "id": "erp:C1", "reason": "map.decimal"}],
    }

    assert said(value).splitlines() == [
        "2/7 transaction erp 803 v9 part=1/1 records=1",
        "    sales_order delete erp:SO1 v9 gross=12.5_CNY",
        "    withheld customer erp:C1 map.decimal",
    ]


@pytest.fixture
def topic(stack: dict[str, str]) -> str:
    """A topic with a transaction that holds a record, a control record, bytes of no format, and a tombstone."""
    name = f"test.tail.{uuid.uuid4().hex[:8]}"
    bootstrap = stack["KAFKA_BOOTSTRAP"]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(
        name, transaction(Registry(stack["REGISTRY_URL"])), b"erp", headers={"h": b"1"}
    )
    key, value = encode_control(Republish(source="erp", entity="customer", fill="f1"))
    producer.produce(name, value, key)
    producer.produce(name, b"\xff no format", b"poison")
    producer.produce(name, None, b"erp:SO1")
    producer.flush()
    return name


def transaction(registry: Registry) -> bytes:
    catalog = Catalog.load()
    schema = {
        "type": "record",
        "name": "Thing",
        "fields": [
            {
                "name": "amount",
                "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            }
        ],
    }
    inner = encode(
        registry.register("test.tail.thing-value", schema),
        fastavro.parse_schema(schema),
        {"amount": Decimal("1.50")},
    )
    record = {
        "topic": "canonical.thing.v1",
        "key": "erp:SO1",
        "operation": "create",
        "version": 1,
        "value": inner,
    }
    value = {
        "source": "erp",
        "lane_offset": 1,
        "part": 1,
        "parts": 1,
        "kind": "transaction",
        "transaction": "803",
        "committed_at": None,
        "only_bindings": [],
        "fill": None,
        "withheld": [],
        "records": [record],
    }
    own = catalog.record("transactions")
    return encode(registry.register("test.tail-value", own.schema), own.parsed, value)


def command(topic: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "tongbu.cli", "tail", topic, *options]


def test_json_has_one_object_per_record_decoded_to_the_innermost(
    stack: dict[str, str], topic: str
) -> None:
    done = subprocess.run(
        command(topic, "--from-beginning", "--limit", "4", "--json"),
        env={**os.environ, **stack},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    first, control, poison, tombstone = map(json.loads, done.stdout.splitlines())
    assert first["value"]["records"][0]["value"] == {"amount": "1.50"}
    assert (first["topic"], first["partition"], first["offset"]) == (topic, 0, 0)
    assert (first["key"], first["headers"]) == ("erp", {"h": "1"})
    assert first["timestamp"] > 0
    assert (control["kind"], control["value"]["kind"]) == ("control", "republish")
    assert poison["value"] == b"\xff no format".hex()
    assert (tombstone["kind"], tombstone["value"]) == ("tombstone", None)


def test_what_comes_from_now_on_is_shown_until_ctrl_c_without_noise(
    stack: dict[str, str], topic: str
) -> None:
    with subprocess.Popen(
        # Where the tests run in the background of a shell, children would ignore Ctrl-C.
        ["env", "--default-signal=INT", *command(topic)],
        env={**os.environ, **stack, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        producer = Producer({"bootstrap.servers": stack["KAFKA_BOOTSTRAP"]})
        stop = uuid.uuid4().hex
        for _ in range(100):  # until it has started
            producer.produce(topic, None, stop.encode())
            producer.flush()
            if _ready(process.stdout):
                break
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        process.wait(10)

    assert line.endswith(f"tombstone {stop}\n")
    assert errors == ""
    assert process.returncode == 0


def _ready(pipe: Any) -> bool:
    return bool(select.select([pipe], [], [], 0.3)[0])

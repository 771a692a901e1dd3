"""The sink writer as a process: killed in mid-load, stopped politely, started before its services are ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.catalog import Catalog
from schemas.codec import encode
from schemas.registry import Registry
from sink_writers import targets
from sink_writers.bindings import load

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BINDING = """
binding: {name}
kind: {kind}
dsn: ${{{dsn}}}
schema: {name}
sources: [erp]
entities:
  sales_order: {{table: {name}_order, children: {{lines: {{table: {name}_line, key: line_no}}}}}}
reads: {reads}
"""
#: A sink writer as the command line runs it: what a person must act on is one message.
PROCESS = """
import sys
from pathlib import Path
from schemas.errors import TongbuError
from sink_writers.runner import run
try:
    run(sys.argv[1], Path(sys.argv[2]))
except TongbuError as error:
    sys.exit(f"error: {error}")
"""


def named_types(node: Any) -> dict[str, Any]:
    """Every record and enum that a schema defines, by the name it is referred to with."""
    if isinstance(node, list):
        return {name: kind for each in node for name, kind in named_types(each).items()}
    if not isinstance(node, dict):
        return {}
    own = {node["name"]: node} if node.get("type") in ("record", "enum") else {}
    return own | named_types([node.get(key) for key in ("fields", "type", "items")])


def blank(kind: Any, named: dict[str, Any]) -> Any:
    """A value of an Avro type with nothing in it."""
    if isinstance(kind, list):
        return None
    if isinstance(kind, str):
        kind = named.get(kind, {"type": kind})
    if kind["type"] == "record":
        return {each["name"]: blank(each["type"], named) for each in kind["fields"]}
    if kind["type"] == "enum":
        return kind["symbols"][0]
    empty = {"string": "", "boolean": False, "array": [], "map": {}, "bytes": Decimal(0)}
    return empty.get(kind["type"], 0)


class Pipeline:
    """A transactions topic and a target of its own; the test is the processor."""

    def __init__(
        self,
        stack: dict[str, str],
        folder,
        reads: str = "transactions",
        kind: str = "postgresql",
    ) -> None:
        self.name = f"p{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.namespace = f"test.{self.name}."
        self.is_by_entity = reads == "entities"
        topic = "canonical.sales_order.v1" if self.is_by_entity else "canonical.transactions.v1"
        self.topic = self.namespace + topic
        self.environment = (
            os.environ | stack | {"TONGBU_NAMESPACE": self.namespace, "TONGBU_DATA": str(folder)}
        )
        dsn = {"postgresql": "WAREHOUSE_DSN", "mariadb": "OA_HUB_DSN", "mysql": "MYSQL_DSN"}[kind]
        (folder / f"{self.name}.yaml").write_text(
            BINDING.format(name=self.name, reads=reads, kind=kind, dsn=dsn)
        )
        self.binding = load(self.name, folder)
        self.catalog = Catalog.load()
        self.admin = AdminClient({"bootstrap.servers": stack["KAFKA_BOOTSTRAP"]})
        self.producer = Producer({"bootstrap.servers": stack["KAFKA_BOOTSTRAP"]})
        self.order, self.transaction = (
            self.catalog.entities["sales_order"],
            self.catalog.record("transactions"),
        )
        registry = Registry(stack["REGISTRY_URL"])
        self.order_id = registry.register(
            f"{self.namespace}{self.order.subject}", self.order.schema
        )
        self.transaction_id = registry.register(
            f"{self.namespace}{self.transaction.subject}", self.transaction.schema
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def make_topic(self) -> None:
        self.admin.create_topics([NewTopic(self.topic, 2, 1)])[self.topic].result()

    def make_tables(self) -> None:
        targets.apply(self.binding, targets.plan(self.binding, self.catalog))

    def produce(self, version: int, note: str = "") -> None:
        """A transaction that sets order (version mod 50) to have (version mod 4) lines; or just its order's record."""
        key = f"erp:SO{version % 50:03d}"
        named = named_types(self.order.schema)
        value = blank(self.order.schema, named)
        value |= {"id": key, "code": str(version), "line_count": version % 4, "note": note}
        value["meta"] |= {"version": version, "operation": "update", "source": "erp"}
        lines = next(each for each in self.order.schema["fields"] if each["name"] == "lines")
        value["lines"] = [
            blank(lines["type"]["items"], named) | {"line_no": number, "product_name": str(version)}
            for number in range(version % 4)
        ]
        record = {
            "topic": self.order.topic,
            "key": key,
            "operation": "update",
            "version": version,
            "value": encode(self.order_id, self.order.parsed, value),
        }
        if self.is_by_entity:
            self.producer.produce(self.topic, record["value"], key)
            self.producer.poll(0)
            return
        message = {
            "source": "erp",
            "lane_offset": version,
            "part": 1,
            "parts": 1,
            "kind": "transaction",
            "records": [record],
        }
        self.producer.produce(
            self.topic, encode(self.transaction_id, self.transaction.parsed, message), "erp", 0
        )
        self.producer.poll(0)

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, self.name, str(self.folder)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def state(self) -> dict[str, tuple[str, list[str]]]:
        """Order -> its code and the product names of its lines."""
        # Lines first: the two reads are two transactions, and an order may arrive between them.
        lines: dict[str, list[str]] = {}
        for row in targets.read_rows(self.binding, self.catalog, f"{self.name}_line"):
            lines.setdefault(row["sales_order_id"], []).append(row["product_name"])
        orders = targets.read_rows(self.binding, self.catalog, f"{self.name}_order")
        return {row["id"]: (row["code"], lines.get(row["id"], [])) for row in orders}

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.admin.delete_topics([self.topic])[self.topic].result()
        with targets.opened(self.binding) as (_, cursor):
            if self.binding.kind == "postgresql":
                cursor.execute(f'drop schema if exists "{self.name}" cascade')
            else:
                cursor.execute(f"drop table if exists {self.name}_line, {self.name}_order")


@pytest.fixture
def pipeline(stack, tmp_path, monkeypatch):
    for name in ("WAREHOUSE_DSN", "HUB_DSN", "OA_HUB_DSN"):
        monkeypatch.setenv(name, stack[name])
    made = Pipeline(stack, tmp_path)
    yield made
    made.close()


@pytest.fixture
def each(server, tmp_path):
    """The same for a target of each kind."""
    kind, environment = server
    made = Pipeline(environment, tmp_path, kind=kind)
    yield made
    made.close()


@pytest.fixture
def by_entity(stack, tmp_path, monkeypatch):
    """The same for a binding that reads the entity's own topic, in two partitions."""
    for name in ("WAREHOUSE_DSN", "HUB_DSN", "OA_HUB_DSN"):
        monkeypatch.setenv(name, stack[name])
    made = Pipeline(stack, tmp_path, reads="entities")
    yield made
    made.close()


def wait_for(condition, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def expected(total: int) -> dict[str, tuple[str, list[str]]]:
    """What the target holds after so many transactions."""
    return {
        f"erp:SO{version % 50:03d}": (str(version), [str(version)] * (version % 4))
        for version in range(total - 49, total + 1)
    }


def test_killed_in_mid_load_it_goes_on_without_loss_or_repeat(each):
    each.make_topic()
    each.make_tables()
    process = each.start()
    total = 1500
    for version in range(1, total + 1):
        each.produce(version)
        time.sleep(0.002)
        if version in (400, 900):
            wait_for(lambda: len(each.state()) > 0)
            process.send_signal(signal.SIGKILL)
            process = each.start()
    assert each.producer.flush(10) == 0

    wait_for(lambda: each.state() == expected(total))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 0, output.decode()
    assert b"Traceback" not in output


def read_until(process: subprocess.Popen[bytes], text: str) -> str:
    """Read what a process says up to the line that has the text."""
    assert process.stdout is not None
    said = ""
    while text not in said:
        line = process.stdout.readline().decode()
        assert line, f"it ended without saying {text!r}: {said}"
        said += line
    return said


def test_it_waits_by_name_for_topic_and_tables(pipeline):
    process = pipeline.start()
    said = read_until(process, f"the topic {pipeline.topic} is not there")
    pipeline.make_topic()
    said += read_until(process, "the target tables are missing")
    pipeline.make_tables()
    pipeline.produce(1)
    assert pipeline.producer.flush(10) == 0
    wait_for(lambda: pipeline.state() == {"erp:SO001": ("1", ["1"])})
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=15)

    assert process.returncode == 0, output.decode()
    assert "Traceback" not in said + output.decode()


def test_an_owner_that_stands_still_past_its_session_moves_no_row_back(each):
    each.make_topic()
    each.make_tables()
    first = each.start()
    for version in range(1, 401):
        each.produce(version)
    each.producer.flush(10)
    wait_for(lambda: len(each.state()) > 0)
    first.send_signal(signal.SIGSTOP)
    second = each.start()
    for version in range(401, 801):
        each.produce(version)
    each.producer.flush(10)
    wait_for(lambda: each.state() == expected(800), 60)
    first.send_signal(signal.SIGCONT)
    for version in range(801, 1201):
        each.produce(version)
        time.sleep(0.002)
    each.producer.flush(10)
    wait_for(lambda: each.state() == expected(1200), 60)

    for process in (first, second):
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=15)
        assert b"Traceback" not in output


def test_two_copies_share_an_entity_topic_and_a_killed_one_loses_nothing(by_entity):
    by_entity.make_topic()
    by_entity.make_tables()
    first, second = by_entity.start(), by_entity.start()
    for version in range(1, 1001):
        by_entity.produce(version)
        if version == 600:
            first.kill()
    by_entity.producer.flush(10)
    wait_for(lambda: by_entity.state() == expected(1000), 60)
    by_entity.producer.produce(by_entity.topic, None, "erp:SO001")  # a tombstone is nothing
    by_entity.produce(1001)
    by_entity.producer.flush(10)

    wait_for(lambda: by_entity.state() == expected(1001))
    assert second.poll() is None


def test_a_target_that_is_down_for_long_costs_no_memory_and_loses_nothing(
    pipeline, stack_instance, monkeypatch
):
    admin = stack_instance.postgres_admin_dsn()
    down = f"down_{pipeline.name}"
    with psycopg.connect(admin, autocommit=True) as root:
        root.execute(f"create database {down} owner warehouse")
        dsn = urlunsplit(urlsplit(pipeline.environment["WAREHOUSE_DSN"])._replace(path=f"/{down}"))
        pipeline.environment["WAREHOUSE_DSN"] = dsn
        monkeypatch.setenv("WAREHOUSE_DSN", dsn)
        pipeline.make_topic()
        pipeline.make_tables()
        process = pipeline.start()
        pipeline.produce(1)
        pipeline.producer.flush(10)
        wait_for(pipeline.state)
        root.execute(f"alter database {down} allow_connections false")
        root.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [down]
        )
        before = psutil.Process(process.pid).memory_info().rss
        highest = before
        for version in range(2, 5001):  # 100 MB
            pipeline.produce(version, note="x" * 20_000)
            if version % 100 == 0:
                pipeline.producer.flush(10)
                highest = max(highest, psutil.Process(process.pid).memory_info().rss)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            highest = max(highest, psutil.Process(process.pid).memory_info().rss)
            time.sleep(0.1)
        assert process.poll() is None
        root.execute(f"alter database {down} allow_connections true")
        try:
            wait_for(lambda: pipeline.state() == expected(5000), 90)
            print(f"resident memory: {before / 1e6:.0f} MB before, {highest / 1e6:.0f} MB at most")
            assert highest - before < 80e6
        finally:
            process.kill()
            process.wait()
            root.execute(f"drop database {down} with (force)")
            pipeline.environment["WAREHOUSE_DSN"] = admin  # only for the end of the fixture
            monkeypatch.setenv("WAREHOUSE_DSN", admin)

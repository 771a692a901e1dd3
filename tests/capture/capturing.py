"""One connector per database, with the shipped settings, for all tests of capture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import orjson
import psycopg
import pymysql
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.control import is_control
from streams.records import Change, LaneRecord, SnapshotNotice
from streams.stages.decode import decode
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.connectors import common_settings
from tongbu.deploy.deployment import CONNECTORS

SCHEMA = "capture"
USER, PASSWORD = "capture_reader", "read-only"
#: The shipped connector that each kind of database is captured with.
SHIPPED = {"postgresql": "erp.json", "mariadb": "oa.json", "mysql": "mysql-example.json"}
#: What is waited for comes in this time, also where memory is five times as slow as usual.
SECONDS = 240


@dataclass
class Captured:
    """A database that is captured into one topic; `dsn` is its administrator's."""

    database: str
    dsn: str
    bootstrap: str
    connect: httpx.Client
    name: str = ""
    _marks: int = 0

    def __post_init__(self) -> None:
        self.name = self.name or f"test-{self.database}"

    @property
    def topic(self) -> str:
        return f"cdc.{self.name}"

    # -- the source

    @contextmanager
    def session(self) -> Iterator[Any]:
        """A cursor of a connection in autocommit mode."""
        if self.database == "postgresql":
            with psycopg.connect(self.dsn, autocommit=True) as pg, pg.cursor() as cursor:
                yield cursor
        else:
            arguments = mysql_arguments(self.dsn) | {"database": SCHEMA}
            with pymysql.connect(**arguments, autocommit=True) as my, my.cursor() as cursor:
                yield cursor

    def run(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with self.session() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def transaction(self, *statements: str) -> None:
        """Run statements in one transaction."""
        self.run("BEGIN", *statements, "COMMIT")

    def select(self, sql: str) -> list[tuple[Any, ...]]:
        with self.session() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    # -- the topic

    @property
    def end(self) -> int:
        """The next offset of the topic."""
        consumer = self._consumer()
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(self.topic, 0), timeout=20)[1])
        finally:
            consumer.close()

    def until_now(self, since: int = 0) -> list[LaneRecord]:
        """Give capture's records from `since` on, up to a mark that is written to the source now."""
        return [each for each in self.records(since, self.mark()) if not is_control(each.key)]

    def mark(self) -> Callable[[LaneRecord], bool]:
        """Write a mark to the source now; give what recognises it."""
        self._marks += 1
        self.run(f"INSERT INTO {SCHEMA}.mark (id) VALUES ({self._marks})")
        return self._is_mark

    def _is_mark(self, record: LaneRecord) -> bool:
        if is_control(record.key):
            return False
        change = decode(record)
        return (
            isinstance(change, Change)
            and change.table == f"{SCHEMA}.mark"
            and change.after == {"id": self._marks}
        )

    def records(
        self, since: int, last: Any, check: Callable[[], None] | None = None
    ) -> Iterator[LaneRecord]:
        """
        Give the records from `since` on, up to the one that `last` recognises (without it).

        Once a second `check` is to fail where waiting makes no sense: by default where the connector has failed.
        """
        check = check or self.check
        consumer = self._consumer()
        consumer.assign([TopicPartition(self.topic, 0, since)])
        deadline, checked = time.monotonic() + SECONDS, time.monotonic()
        try:
            while time.monotonic() < deadline:
                message = consumer.poll(0.5)
                if time.monotonic() - checked > 1:
                    check()
                    checked = time.monotonic()
                if message is None:
                    continue
                assert message.error() is None, message.error()
                deadline += 0.002  # many records take long
                record = LaneRecord(
                    self.topic,
                    message.offset(),
                    0,
                    message.key(),
                    message.value(),
                    tuple(message.headers() or ()),
                )
                if last(record):
                    return
                yield record
        finally:
            consumer.close()
        raise AssertionError(f"{self.topic}: what was waited for did not come in {SECONDS} s")

    def changes(self, since: int = 0) -> list[Change]:
        """Give the decoded changes up to now."""
        found = [decode(record) for record in self.until_now(since)]
        return [each for each in found if isinstance(each, Change)]

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "tests-of-capture",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 32 * 1024 * 1024,
            }
        )

    # -- the connector

    def settings(self) -> dict[str, str]:
        own = orjson.loads((CONNECTORS / "sources" / SHIPPED[self.database]).read_bytes())
        url = urlsplit(self.dsn)
        settings = {
            **common_settings(),
            **own,
            "database.hostname": url.hostname or "",
            "database.port": str(url.port),
            "database.user": USER,
            "database.password": PASSWORD,
            "topic.prefix": self.name,
            "table.include.list": rf"{SCHEMA}\..*",
            "notification.sink.topic.name": f"{self.name}.notifications",
            "transforms.route.replacement": self.topic,
        }
        if self.database == "postgresql":
            slot = self.name.replace("-", "_")
            return settings | {
                "database.dbname": "capture",
                "slot.name": slot,
                "column.exclude.list": rf"{SCHEMA}\..*\.left_out",
            }
        if self.database == "mysql":  # the local stack's server has no certificate
            settings["database.ssl.mode"] = "disabled"
        return (
            settings
            | {
                "database.server.id": "28471",  # not that of the demo's connector: the server would drop one of both
                "database.include.list": SCHEMA,
                "schema.history.internal.kafka.topic": f"_schema_history.{self.name}",
            }
        )

    def prepare(self) -> None:
        """Make database, reader and topic."""
        if self.database == "postgresql":
            _prepare_postgresql(self)
        else:
            # 8.0.15 knows no FLUSH_TABLES yet (connectors-config/grants/mysql-example.sql)
            lock = ["RELOAD"] if self.database == "mysql" else []
            rights = ", ".join(["REPLICATION SLAVE", "REPLICATION CLIENT", *lock])
            for statement in (
                f"CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4",
                f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'",
                f"GRANT SELECT ON {SCHEMA}.* TO {USER}@'%'",
                f"GRANT {rights} ON *.* TO {USER}@'%'",
            ):
                with pymysql.connect(**mysql_arguments(self.dsn)) as my, my.cursor() as cursor:
                    cursor.execute(statement)
        self.run(f"CREATE TABLE {SCHEMA}.mark (id bigint PRIMARY KEY)")
        self.make_topics()

    def make_topics(self) -> None:
        """Make the lane log, and the history that MariaDB's and MySQL's connector needs."""
        config = {
            "max.message.bytes": str(16 * 1024 * 1024),
            "message.timestamp.type": "LogAppendTime",
        }
        topics = [NewTopic(self.topic, 1, 1, config=config)]
        if self.database != "postgresql":
            topics.append(
                NewTopic(f"_schema_history.{self.name}", 1, 1, config={"retention.ms": "-1"})
            )
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.create_topics(topics).values():
            future.result(30)

    def start(self, **more: str) -> None:
        """Start the connector and wait until it runs."""
        self.connect.put(
            f"/connectors/{self.name}/config", json=self.settings() | more
        ).raise_for_status()
        deadline = time.monotonic() + SECONDS
        while self.state() != "RUNNING":
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.2)
        list(self.records(0, self.is_snapshot_end))

    def is_snapshot_end(self, record: LaneRecord) -> bool:
        """Tell Debezium's notification that the initial snapshot is complete."""
        notice = decode(record)
        return isinstance(notice, SnapshotNotice) and notice.what == "COMPLETED"

    def remove(self) -> None:
        """Take the connector away; the databases go with the stack."""
        self.connect.delete(f"/connectors/{self.name}").raise_for_status()

    def check(self) -> None:
        """Fail where the connector has failed."""
        state = self.state()
        assert state in ("RUNNING", "starting", "UNASSIGNED", "RESTARTING"), state

    def state(self) -> str:
        try:
            answer = self.connect.get(f"/connectors/{self.name}/status")
        except httpx.TransportError:  # the worker starts
            return "starting"
        if answer.is_error:
            return "starting"
        tasks = answer.json()["tasks"]
        if not tasks:
            return "starting"
        if tasks[0]["state"] == "FAILED":
            return str(tasks[0]["trace"])
        return str(tasks[0]["state"])


def _prepare_postgresql(captured: Captured) -> None:
    with psycopg.connect(captured.dsn, autocommit=True) as admin:
        admin.execute("CREATE DATABASE capture")
        admin.execute(f"CREATE ROLE {USER} LOGIN REPLICATION PASSWORD '{PASSWORD}'")
    captured.dsn = urlunsplit(urlsplit(captured.dsn)._replace(path="/capture"))
    captured.run(
        f"CREATE SCHEMA {SCHEMA}",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {USER}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {SCHEMA} GRANT SELECT ON TABLES TO {USER}",
        "CREATE PUBLICATION tongbu FOR ALL TABLES WITH (publish_via_partition_root = true)",
    )

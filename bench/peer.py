"""
The peer: Debezium's PostgreSQL connector and Debezium's JDBC sink, which copy the two tables of an order.

`tuned` is how an expert would run it for latency and throughput; what each setting gives stands in
docs/performance.md. It copies columns; it maps nothing, keeps no transaction whole, and guards no version.
"""

from __future__ import annotations

from typing import Any

import psycopg

from bench.connect import Connect
from bench.source import Orders
from bench.system import administrator, one, wait
from tongbu.instance import HOST, Instance

HEAD, LINE = "SO_SOMain", "SO_SODetails"

JSON = {
    f"{which}.converter{suffix}": value
    for which in ("key", "value")
    for suffix, value in (
        ("", "org.apache.kafka.connect.json.JsonConverter"),
        (".schemas.enable", "true"),
    )
}
SOURCE = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "tasks.max": "1",
    "database.hostname": "${env:TONGBU_ERP_HOST}",
    "database.port": "${env:TONGBU_ERP_PORT}",
    "database.user": "${env:TONGBU_ERP_CAPTURE_USER}",
    "database.password": "${env:TONGBU_ERP_CAPTURE_PASSWORD}",
    "database.dbname": "erp",
    "plugin.name": "pgoutput",
    "publication.autocreate.mode": "disabled",
    "snapshot.mode": "no_data",
    "topic.creation.default.replication.factor": "1",
    "topic.creation.default.partitions": "1",
}
SINK = {
    "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
    "connection.username": "${env:TONGBU_ERP_CAPTURE_USER}",
    "connection.password": "${env:TONGBU_ERP_CAPTURE_PASSWORD}",
    "insert.mode": "upsert",
    "primary.key.mode": "record_key",
    "delete.enabled": "true",
    "schema.evolution": "none",
    "quote.identifiers": "true",
    "collection.name.format": "${source.table}",
    "consumer.override.auto.offset.reset": "earliest",
}
#: What an expert changes: (source, sink, parameters of the JDBC URL).
TUNED: tuple[dict[str, str], dict[str, str], str] = (
    {
        "poll.interval.ms": "1",
        "max.batch.size": "256",
        "producer.override.linger.ms": "0",
        "producer.override.batch.size": "131072",
        # the row alone instead of before, after, source and the schema of each: a ninth of the bytes
        "transforms": "row",
        "transforms.row.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.row.delete.tombstone.handling.mode": "tombstone",
    },
    {
        "transforms": "table",  # a row alone does not name its table
        "transforms.table.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.table.regex": r".*\.(.*)",
        "transforms.table.replacement": "$1",
        "collection.name.format": "${topic}",
        "tasks.max": "2",
        "batch.size": "5000",
        "consumer.override.max.poll.records": "5000",
        "use.reduction.buffer": "true",
    },
    "?reWriteBatchedInserts=true&preferQueryMode=extendedCacheEverything",
)
DEFAULT: tuple[dict[str, str], dict[str, str], str] = ({}, {}, "")


class Peer:
    """Debezium to Debezium, on the stack's own Connect worker. Its target is a database of its own."""

    def __init__(
        self,
        name: str,
        instance: Instance,
        connect: Connect,
        tuning: tuple[dict[str, str], dict[str, str], str],
    ) -> None:
        self.name, self.does = name, "copies rows; rows of a transaction apart"
        self._key = name.replace("-", "_")
        self._instance, self._connect = instance, connect
        self._names = (f"{name}-source", f"{name}-sink")
        self._erp = administrator(instance, "erp")
        self._target = self._prepare()
        connect.resume(*{*self._names} & connect.names())  # stopped by an earlier run
        self._configure(*tuning)

    def start(self) -> None:
        """Resume both connectors, and wait for the slot to be read."""
        self._connect.resume(*self._names)
        active = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        wait(f"{self.name} reads its slot", lambda: bool(one(self._erp, active, self._key)))

    def stop(self) -> None:
        """Stop both connectors."""
        self._connect.stop(*self._names)

    def arrived(self, orders: Orders) -> bool:
        """Look for the last order first: counting is for when it is there."""
        if not one(self._target, f'SELECT count(*) FROM "{HEAD}" WHERE "ID" = %s', orders.last):
            return False
        counted = one(
            self._target,
            f"""SELECT (SELECT count(*) FROM "{HEAD}" WHERE "ID" BETWEEN %(first)s AND %(last)s)
                + (SELECT count(*) FROM "{LINE}" WHERE "AutoID" BETWEEN %(first)s * 20 + 1 AND %(last)s * 20 + 20)"""
            % {"first": orders.first, "last": orders.last},
        )
        return int(counted) == orders.rows

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give the later of header and lines."""
        rows = self._target.execute(
            f"""SELECT number, extract(epoch FROM max(at))::float8 FROM (
                SELECT "ID" number, pg_xact_commit_timestamp(xmin) at FROM "{HEAD}" WHERE "ID" BETWEEN %s AND %s
                UNION ALL SELECT "ID", pg_xact_commit_timestamp(xmin) FROM "{LINE}" WHERE "AutoID" BETWEEN %s AND %s
                ) rows GROUP BY number""",
            [orders.first, orders.last, orders.first * 20 + 1, orders.last * 20 + 20],
        )
        return dict(rows.fetchall())

    def difference(self) -> str:
        """Compare count and checksum of whole rows, table by table."""
        found = []
        for table in (HEAD, LINE):
            checksum = f"SELECT count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM \"{table}\" t"
            source, target = one(self._erp, checksum), one(self._target, checksum)
            if source != target:
                found.append(f"{table}: {source} in the source, {target} in the target")
        return "; ".join(found)

    def _prepare(self) -> psycopg.Connection[Any]:
        """Make publication, database and tables: the source's columns and primary keys, no foreign keys."""
        with administrator(self._instance, "postgres") as admin:
            if not one(admin, "SELECT 1 FROM pg_database WHERE datname = %s", self._key):
                admin.execute(f"CREATE DATABASE {self._key} OWNER tongbu_capture")
        erp, target = self._erp, administrator(self._instance, self._key)
        if not one(erp, "SELECT 1 FROM pg_publication WHERE pubname = %s", self._key):
            erp.execute(f'CREATE PUBLICATION {self._key} FOR TABLE "{HEAD}", "{LINE}"')
        for table, key in ((HEAD, "ID"), (LINE, "AutoID")):
            columns = one(
                erp,
                """SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
                     FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped""",
                f'"{table}"',
            )
            target.execute(
                f'CREATE TABLE IF NOT EXISTS "{table}" ({columns}, PRIMARY KEY ("{key}"))'
            )
            target.execute(f'ALTER TABLE "{table}" OWNER TO tongbu_capture')
        return target

    def _configure(self, source: dict[str, str], sink: dict[str, str], url_parameters: str) -> None:
        own = {"topic.prefix": self._key, "slot.name": self._key, "publication.name": self._key}
        self._connect.configure(self._names[0], SOURCE | JSON | own | source)
        url = f"jdbc:postgresql://{HOST}:{self._instance.ports.postgres}/{self._key}"
        topics = ",".join(f"{self._key}.public.{table}" for table in (HEAD, LINE))
        own = {"topics": topics, "connection.url": url + url_parameters}
        self._connect.configure(self._names[1], SINK | JSON | own | sink)

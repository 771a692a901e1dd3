"""
The paths from and to MariaDB, each on a stack of its own: what each system writes there, and how that is compared.

PostgreSQL to MariaDB: the header of an order, as the OA's binding takes it (with the lines' sum); the peer copies the
header. MariaDB to PostgreSQL: an approval of the OA, a request and its form; the peer copies both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pymysql

from bench.arrivals import Arrivals, MariadbArrivals, PostgresqlArrivals, Table
from bench.connect import Connect
from bench.oa_source import Oa
from bench.peer import JSON, SINK, SOURCE, TUNED
from bench.source import Erp, Orders, Source
from bench.system import System, administrator, one, wait
from bench.whole_stack import published
from tongbu.deploy import commands as deploy
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import Deployment
from tongbu.instance import HOST, Instance
from tongbu.stack.supervision import Supervisor

_PEER = "debezium_jdbc"
_NAME = "debezium-jdbc"
_TO_MARIADB = "?useBulkStmts=true"
#: Setting of a source connector -> variable of the Connect worker.
_LOGIN = {
    "hostname": "HOST",
    "port": "PORT",
    "user": "CAPTURE_USER",
    "password": "CAPTURE_PASSWORD",
}
_HEADERS = 'SELECT "ID", "cSOCode", "cCusCode" FROM "SO_SOMain" WHERE "ID" > 1000'
_APPROVALS = """SELECT r.requestid, r.requestname, f.ddbh, f.ddje FROM workflow_requestbase r
 JOIN formtable_main_17 f ON f.requestId = r.requestid WHERE r.requestid > 1000000"""


@dataclass(slots=True)
class Pipeline:
    """A system on a path; `per_transaction` rows of it arrive, `expected` and `actual` give what is compared at the end."""

    name: str
    does: str
    start: Callable[[], None]
    stop: Callable[[], None]
    arrivals: Arrivals
    per_transaction: int
    expected: Callable[[], Sequence[Any]]
    actual: Callable[[], Sequence[Any]]

    def arrived(self, orders: Orders) -> bool:
        """Tell whether every row is in the target."""
        return self.arrivals.count(orders) == orders.count * self.per_transaction

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give when the last row of each was committed in the target."""
        return self.arrivals.commits(orders)

    def difference(self) -> str:
        """Compare all rows; "" where they are equal."""
        expected, actual = _plain(self.expected()), _plain(self.actual())
        differing = len(expected ^ actual)
        return f"{differing} rows differ, e.g. {min(expected ^ actual)}" if differing else ""


def _plain(rows: Sequence[Any]) -> set[str]:
    return {
        "|".join(str(v.normalize() if isinstance(v, Decimal) else v) for v in row) for row in rows
    }


class Stage:
    """What both systems of a path share: the stack's services, and the ways to its databases."""

    def __init__(self, instance: Instance, environment: dict[str, str]) -> None:
        self.instance, self.environment = instance, environment
        self.connect = Connect(environment["CONNECT_URL"])
        self._supervisor = Supervisor(instance)

    def postgres(self, database: str) -> psycopg.Connection[Any]:
        """Give an administrator's connection to a database."""
        return administrator(self.instance, database)

    def mariadb(self) -> pymysql.connections.Connection[Any]:
        """Give an administrator's connection."""
        return pymysql.connect(**mysql_arguments(self.instance.mariadb_admin_dsn()), autocommit=True)  # fmt: skip

    def approvals(self) -> Sequence[Any]:
        """Give what was written in the OA."""
        with self.mariadb() as connection, connection.cursor() as cursor:
            cursor.execute("USE oa")
            cursor.execute(_APPROVALS)
            return list(cursor.fetchall())

    def run(self, processes: Sequence[str], connector: str) -> None:
        """Start Tongbu's processes and one of its connectors."""
        self.start_all(processes)
        self.connect.resume(connector)

    def end(self, processes: Sequence[str], connector: str) -> None:
        """Stop them again."""
        self.connect.stop(connector)
        self.stop_all(processes)

    def start_all(self, processes: Sequence[str]) -> None:
        """Start processes."""
        for name in processes:
            self._supervisor.start_process(name)

    def stop_all(self, processes: Sequence[str]) -> None:
        """Stop processes, last one first."""
        for name in reversed(processes):
            self._supervisor.rpc.stopProcess(name)


def to_mariadb(instance: Instance, environment: dict[str, str]) -> tuple[Source, list[System]]:
    """Give the ERP, and both systems that bring its orders to MariaDB."""
    stage, source = Stage(instance, environment), Erp(environment["ERP_DSN"])
    ours = ("processor", "sink-oa")
    order = Table("sales_order", "id", lambda n: f"erp:SO{n:08d}", lambda key: int(key[6:]))
    arrivals = MariadbArrivals(instance.mariadb_admin_dsn(), "oa_hub", [order])
    erp = stage.postgres("erp")
    tongbu = Pipeline(
        "tongbu", "maps, rules, Avro, two topics, version guard, foreign keys; headers with their lines' sum",
        partial(stage.run, ours, "erp"), partial(stage.end, ours, "erp"), arrivals, 1,
        lambda: erp.execute(_HEADERS).fetchall(),
        lambda: arrivals.rows("SELECT CAST(SUBSTR(id, 7) AS INT), code, SUBSTR(customer_id, 5) FROM sales_order WHERE SUBSTR(id, 7) > 1000"),
    )  # fmt: skip
    return source, [tongbu, _peer_to_mariadb(stage, erp)]


def _peer_to_mariadb(stage: Stage, erp: psycopg.Connection[Any]) -> Pipeline:
    with stage.mariadb() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {_PEER} CHARACTER SET utf8mb4")
        cursor.execute(f"GRANT ALL ON {_PEER}.* TO tongbu_capture@'%'")
        cursor.execute(f"""CREATE TABLE IF NOT EXISTS {_PEER}.`SO_SOMain` (`ID` int PRIMARY KEY, `cSOCode` varchar(30), `dDate` datetime(3),
            `cSTCode` varchar(2), `cCusCode` varchar(20), `cDepCode` varchar(12), `cPersonCode` varchar(20), `cexch_name` varchar(8),
            `iExchRate` decimal(20,6), `iTaxRate` decimal(10,4), `iMoney` decimal(20,4), `iStatus` smallint, `cMaker` varchar(20),
            `cVerifier` varchar(20), `dverifydate` datetime(3), `cCloser` varchar(20), `bReturnFlag` tinyint(1), `cMemo` varchar(255))""")  # fmt: skip
    if not one(erp, "SELECT 1 FROM pg_publication WHERE pubname = %s", _PEER):
        erp.execute(f'CREATE PUBLICATION {_PEER} FOR TABLE "SO_SOMain"')
    own = {"topic.prefix": _PEER, "slot.name": _PEER, "publication.name": _PEER}
    url = f"jdbc:mariadb://{HOST}:{stage.instance.ports.mariadb}/{_PEER}{_TO_MARIADB}"
    login = {f"connection.{name}": f"${{env:TONGBU_OA_CAPTURE_{name.removesuffix('name').upper()}}}" for name in ("username", "password")}  # fmt: skip
    sink = {"topics": f"{_PEER}.public.SO_SOMain", "connection.url": url, **login}
    table = Table("SO_SOMain", "ID", int, int)
    arrivals = MariadbArrivals(stage.instance.mariadb_admin_dsn(), _PEER, [table])
    return _peer(stage, SOURCE | own, sink, arrivals, 1, lambda: erp.execute(_HEADERS).fetchall(),
        lambda: arrivals.rows("SELECT ID, cSOCode, cCusCode FROM SO_SOMain WHERE ID > 1000"))  # fmt: skip


def from_mariadb(instance: Instance, environment: dict[str, str]) -> tuple[Source, list[System]]:
    """Give the OA, and both systems that bring its approvals to PostgreSQL."""
    stage, source = Stage(instance, environment), Oa(environment["OA_DSN"])
    ours = ("processor", "sink-warehouse")
    approval = Table(
        "canonical.order_approval", "id", lambda n: f"oa:{n}", lambda key: int(key[3:])
    )
    arrivals = PostgresqlArrivals(stage.postgres("warehouse"), [approval])
    tongbu = Pipeline(
        "tongbu", "maps, rules, Avro, two topics, whole transactions, version guard, foreign keys",
        partial(stage.run, ours, "oa"), partial(stage.end, ours, "oa"), arrivals, 1,
        stage.approvals,
        lambda: arrivals.rows("""SELECT substr(id, 4), title, substr(sales_order_id, 5), amount_amount
            FROM canonical.order_approval WHERE id > 'oa:1000000' AND length(id) = 10"""),
    )  # fmt: skip
    return source, [tongbu, _peer_from_mariadb(stage)]


def _peer_from_mariadb(stage: Stage) -> Pipeline:
    with stage.postgres("postgres") as admin:
        if not one(admin, "SELECT 1 FROM pg_database WHERE datname = %s", _PEER):
            admin.execute(f"CREATE DATABASE {_PEER} OWNER tongbu_capture")
    target = stage.postgres(_PEER)
    target.execute(
        """CREATE TABLE IF NOT EXISTS workflow_requestbase (requestid int PRIMARY KEY, workflowid int, requestname varchar(1000), creater int,
            createdate char(10), createtime char(8), lastoperator int, lastoperatedate char(10), lastoperatetime char(8),
            currentnodeid int, currentnodetype char(1), lastnodeid int, lastnodetype char(1), status varchar(500),
            requestlevel int, deleted int, currentstatus int, mainrequestid int);
           CREATE TABLE IF NOT EXISTS formtable_main_17 (id int PRIMARY KEY, "requestId" int UNIQUE, ddbh varchar(30), khmc varchar(200),
            ddje decimal(20, 4), bz varchar(20), sqr int, sqrq char(10), shyj text);
           ALTER TABLE workflow_requestbase OWNER TO tongbu_capture; ALTER TABLE formtable_main_17 OWNER TO tongbu_capture"""
    )
    tables = ("workflow_requestbase", "formtable_main_17")
    source = {
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector", "tasks.max": "1",
        **{f"database.{name}": f"${{env:TONGBU_OA_{variable}}}" for name, variable in _LOGIN.items()},
        "database.server.id": "18599", "database.include.list": "oa", "snapshot.mode": "no_data",
        "snapshot.locking.mode": "none", "table.include.list": ",".join(f"oa.{name}" for name in tables),
        "topic.prefix": _PEER,
        "schema.history.internal.kafka.bootstrap.servers": "${env:TONGBU_KAFKA_BOOTSTRAP}",
        "schema.history.internal.kafka.topic": f"_schema_history.{_PEER}",
        "topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "1",
    }  # fmt: skip
    url = f"jdbc:postgresql://{HOST}:{stage.instance.ports.postgres}/{_PEER}{TUNED[2]}"
    sink = {"topics": ",".join(f"{_PEER}.oa.{name}" for name in tables), "connection.url": url}
    arrivals = PostgresqlArrivals(
        target,
        [
            Table("workflow_requestbase", "requestid", int, int),
            Table("formtable_main_17", '"requestId"', int, int),
        ],
    )
    actual = _APPROVALS.replace("f.requestId", 'f."requestId"')
    return _peer(stage, source, sink, arrivals, 2, stage.approvals, lambda: arrivals.rows(actual))


def _peer(
    stage: Stage,
    source: dict[str, str],
    sink: dict[str, str],
    arrivals: Arrivals,
    per_transaction: int,
    expected: Callable[[], Sequence[Any]],
    actual: Callable[[], Sequence[Any]],
) -> Pipeline:
    """Configure the tuned peer; it is left stopped."""
    names = (f"{_NAME}-source", f"{_NAME}-sink")
    stage.connect.configure(names[0], source | JSON | TUNED[0])
    stage.connect.configure(names[1], SINK | JSON | TUNED[1] | sink)
    stage.connect.stop(*names)
    return Pipeline(
        _NAME, "copies rows; rows of a transaction apart",
        partial(stage.connect.resume, *names), partial(stage.connect.stop, *names),
        arrivals, per_transaction, expected, actual,
    )  # fmt: skip


def deploy_and_fill(instance: Instance, environment: dict[str, str], sinks: Sequence[str]) -> None:
    """Deploy Tongbu, let sinks have the initial snapshot, and stop what was started."""
    stage = Stage(instance, environment)
    deploy.perform(Deployment(environment), None, lambda _: None)
    stage.start_all(["processor", *sinks])
    wait("the initial snapshot is published", lambda: published(instance.folder))
    for source in ("erp", "oa"):
        stage.connect.stop(source)
    stage.stop_all(["processor", *sinks])


#: A path's name -> what it is measured with, and the sink that Tongbu uses.
PATHS: dict[str, tuple[Callable[[Instance, dict[str, str]], tuple[Source, list[System]]], str]] = {
    "postgresql-mariadb": (to_mariadb, "sink-oa"),
    "mariadb-postgresql": (from_mariadb, "sink-warehouse"),
}

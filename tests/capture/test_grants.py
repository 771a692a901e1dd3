"""The users that connectors-config/grants makes read what is captured, and can't write, change or stop anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pymysql
import pytest

from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import CONNECTORS
from tongbu.world import setup


@contextmanager
def _postgresql(dsn: str) -> Iterator[Callable[[str], Any]]:
    with psycopg.connect(dsn, autocommit=True) as pg:
        yield lambda statement: pg.execute(statement.encode()).fetchall()


@contextmanager
def _mysql(dsn: str) -> Iterator[Callable[[str], Any]]:
    with closing(pymysql.connect(**mysql_arguments(dsn), autocommit=True)) as my, my.cursor() as cursor:  # fmt: skip

        def ask(statement: str) -> Any:
            cursor.execute(statement)
            return cursor.fetchall()

        yield ask


POSTGRESQL = (
    'INSERT INTO "Customer" SELECT * FROM "Customer"', 'UPDATE "Customer" SET "cCusName" = \'x\'', 'DELETE FROM "Customer"',
    'TRUNCATE "Customer"', 'DROP TABLE "Customer"', 'ALTER TABLE "Customer" ADD x int', "CREATE TABLE mine (id int)",
    'CREATE TRIGGER t BEFORE UPDATE ON "Customer" EXECUTE FUNCTION suppress_redundant_updates_trigger()',
    "DROP PUBLICATION tongbu", "ALTER PUBLICATION tongbu SET (publish = 'insert')", "CREATE PUBLICATION mine FOR ALL TABLES",
    "ALTER SYSTEM SET wal_level = 'replica'", "SELECT pg_reload_conf()", "CREATE ROLE mine",
)  # fmt: skip
MYSQL = (
    "INSERT INTO hrmdepartment (id, departmentname) VALUES (99999, 'x')", "UPDATE hrmdepartment SET showorder = 1",
    "DELETE FROM hrmdepartment", "TRUNCATE hrmdepartment", "DROP TABLE hrmdepartment", "ALTER TABLE hrmdepartment ADD x int",
    "CREATE TABLE mine (id int)", "CREATE TRIGGER t BEFORE UPDATE ON hrmdepartment FOR EACH ROW SET @x = 1",
    "RESET MASTER", "FLUSH BINARY LOGS", "LOCK TABLES hrmdepartment WRITE", "SET GLOBAL binlog_format = 'STATEMENT'",
    "PURGE BINARY LOGS BEFORE NOW()", "CREATE USER mine", "GRANT SELECT ON oa.* TO mine",
)  # fmt: skip


@pytest.mark.parametrize("statement", POSTGRESQL)
def test_postgresqls_capture_user_is_refused(stack: dict[str, str], statement: str) -> None:
    with _postgresql(stack["ERP_CAPTURE_DSN"]) as run:
        assert run('SELECT count(*) FROM "Customer"')
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(statement)


@pytest.mark.parametrize("statement", [*MYSQL, "FLUSH TABLES WITH READ LOCK"])
def test_mariadbs_capture_user_is_refused(stack: dict[str, str], statement: str) -> None:
    with _mysql(stack["OA_CAPTURE_DSN"]) as run:
        assert run("SELECT count(*) FROM hrmdepartment")
        with pytest.raises(pymysql.err.OperationalError, match=r"denied|SUPER"):
            run(statement)


@pytest.fixture(scope="module")
def on_mysql(mysql_dsn: str) -> str:
    """A database of MySQL with its grants, but for FLUSH_TABLES, which 8.0.15 does not know; give its capture user's DSN."""
    address = mysql_dsn.partition("@")[2].partition("/")[0]
    grants = (CONNECTORS / "grants" / "mysql-example.sql").read_text(encoding="utf-8")
    filled = setup._without_comments(grants).format(user="reader@'%'", password="'Secret-1'", database="oa")  # fmt: skip
    known = [each for each in filled.split(";") if each.strip() and "FLUSH_TABLES" not in each]
    with _mysql(mysql_dsn) as run:
        run("CREATE DATABASE oa")
        run("CREATE TABLE oa.hrmdepartment (id int PRIMARY KEY, departmentname varchar(9), showorder int)")  # fmt: skip
        for statement in known:
            run(statement)
    return f"mysql://reader:Secret-1@{address}/oa"


@pytest.mark.parametrize("statement", MYSQL)
def test_mysqls_capture_user_is_refused(on_mysql: str, statement: str) -> None:
    with _mysql(on_mysql) as run:
        assert run("SELECT count(*) FROM hrmdepartment")
        with pytest.raises(pymysql.err.OperationalError, match=r"denied|need|SUPER"):
            run(statement)

"""Databases, users, grants and tables of the demo world, on a stack's own servers. Running it again is harmless."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import psycopg
import pymysql
from psycopg import sql

from schemas.declarations import load_mappings
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import CONNECTORS
from tongbu.world import seed

_WORLD = Path(str(files("tongbu.world")))
_MAPPINGS = Path(str(files("streams"))) / "mappings"


def prepare(pg_admin_dsn: str, mysql_admin_dsn: str, env: dict[str, str]) -> None:
    """
    Make the databases that the DSNs of `env` name, with their owners, the capture users, tables and master data.

    Business systems own their databases; what Tongbu may do there is in connectors-config/grants.
    """
    for name in ("ERP_DSN", "WAREHOUSE_DSN", "HUB_DSN"):
        _postgresql_database(pg_admin_dsn, urlsplit(env[name]))
    for name in ("OA_DSN", "OA_HUB_DSN"):
        _mariadb_database(mysql_admin_dsn, urlsplit(env[name]))
    with psycopg.connect(env["ERP_DSN"]) as erp:
        erp.execute((_WORLD / "erp.sql").read_text(encoding="utf-8"))
        seed.erp(erp)
    with pymysql.connect(**mysql_arguments(env["OA_DSN"])) as oa:
        with oa.cursor() as cursor:
            _run(cursor, (_WORLD / "oa.sql").read_text(encoding="utf-8"))
        seed.oa(oa)
    _grant_postgresql(pg_admin_dsn, env)
    _grant_mariadb(mysql_admin_dsn, env)


def _user(url: SplitResult) -> tuple[str, str, str]:
    return unquote(url.username or ""), unquote(url.password or ""), url.path.lstrip("/")


def _postgresql_database(admin_dsn: str, url: SplitResult) -> None:
    user, password, database = _user(url)
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [user]).rowcount:
            admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(user)))
        admin.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(user), sql.Literal(password)
            )
        )
        if not admin.execute("SELECT FROM pg_database WHERE datname = %s", [database]).rowcount:
            names = sql.Identifier(database), sql.Identifier(user)
            admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))


def _mariadb_database(admin_dsn: str, url: SplitResult) -> None:
    user, password, database = _user(url)
    with pymysql.connect(**mysql_arguments(admin_dsn)) as admin, admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4")
        cursor.execute("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", [user, password])
        cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", [user, password])
        cursor.execute(f"GRANT ALL ON `{database}`.* TO %s@'%%'", [user])


def captured_tables(source: str) -> list[tuple[str, str]]:
    """Give (schema, table) of every table that the mappings of a source read."""
    mappings = [each.value for each in load_mappings(_MAPPINGS) if each.value.source == source]
    names = sorted({table for mapping in mappings for table in mapping.tables})
    return [(schema, table) for schema, _, table in (name.partition(".") for name in names)]


def _grant_postgresql(admin_dsn: str, env: dict[str, str]) -> None:
    owner, _, database = _user(urlsplit(env["ERP_DSN"]))
    user, password, _ = _user(urlsplit(env["ERP_CAPTURE_DSN"]))
    script = _without_comments((CONNECTORS / "grants" / "erp.sql").read_text(encoding="utf-8"))
    statements = sql.SQL(script)
    tables = sql.SQL(", ").join(sql.Identifier(*name) for name in captured_tables("erp"))
    with psycopg.connect(urlunsplit(urlsplit(admin_dsn)._replace(path=f"/{database}"))) as admin:
        admin.execute(
            statements.format(
                user=sql.Identifier(user),
                user_text=sql.Literal(user),
                password=sql.Literal(password),
                database=sql.Identifier(database),
                owner=sql.Identifier(owner),
                tables=tables,
            )
        )


def _grant_mariadb(admin_dsn: str, env: dict[str, str]) -> None:
    _, _, database = _user(urlsplit(env["OA_DSN"]))
    user, password, _ = _user(urlsplit(env["OA_CAPTURE_DSN"]))
    with pymysql.connect(**mysql_arguments(admin_dsn)) as admin, admin.cursor() as cursor:
        statements = (CONNECTORS / "grants" / "oa.sql").read_text(encoding="utf-8")
        filled = {
            "user": f"{admin.escape(user)}@'%'",
            "password": admin.escape(password),
            "database": f"`{database}`",
        }
        _run(cursor, _without_comments(statements).format(**filled))


def _without_comments(script: str) -> str:
    return "\n".join(line.partition("--")[0] for line in script.splitlines())


def _run(cursor: Any, script: str) -> None:
    """Run a script of statements; its comments hold no semicolons that matter, its strings none at all."""
    for statement in _without_comments(script).split(";"):
        if statement.strip():
            cursor.execute(statement)

"""Targets of a replay: for each relational binding a database of its own beside the live one, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from string import Template
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
import pymysql
from psycopg import sql

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from sink_writers import targets
from tongbu.deploy.captured import mysql_arguments

#: Kind of binding -> the environment variable with the DSN of somebody who may create databases.
ADMINS = {
    "postgresql": "POSTGRES_ADMIN_DSN",
    "mariadb": "MARIADB_ADMIN_DSN",
    "mysql": "MYSQL_ADMIN_DSN",
}


def variable(binding: RelationalBinding) -> str:
    """Give the environment variable that a binding's DSN is; raise TongbuError where it is anything else."""
    names = Template(binding.dsn).get_identifiers()
    if len(names) != 1 or binding.dsn != f"${{{names[0]}}}":
        raise TongbuError(
            f"binding {binding.binding}: a replay can't give it another database",
            "Write its dsn as one variable: ${NAME}.",
        )
    return names[0]


def rename(dsn: str, database: str) -> str:
    """Give a DSN with another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


@contextmanager
def databases(
    bindings: Sequence[RelationalBinding],
    environment: Mapping[str, str],
    admins: Mapping[str, str],
    replay: str,
    *,
    keep: bool,
) -> Iterator[dict[str, str]]:
    """
    Make the databases, owned by the users of the live ones; give the variables that point there.

    `admins` has the DSN of somebody who may create databases: by binding kind.
    """
    found: dict[str, str] = {}
    made: list[tuple[str, str]] = []
    try:
        for binding in bindings:
            name = variable(binding)
            if name in found:
                continue
            database = f"replay_{replay}_{name.removesuffix('_DSN').lower()}"
            _create(binding.kind, _admin(binding, admins), database, environment[name])
            made.append((binding.kind, database))
            found[name] = rename(environment[name], database)
        yield found
    finally:
        for kind, database in [] if keep else made:
            _drop(kind, admins[kind], database)


def pointed(binding: RelationalBinding, variables: Mapping[str, str]) -> RelationalBinding:
    """Give the binding with the replay's database in place of the variable."""
    dsn = variables[variable(binding)].replace("$", "$$")
    return binding.model_copy(update={"dsn": dsn})


def create_tables(bindings: Sequence[RelationalBinding], catalog: Catalog) -> None:
    """Make the tables of the bindings."""
    for binding in bindings:
        targets.apply(binding, targets.plan(binding, catalog))


def _admin(binding: RelationalBinding, admins: Mapping[str, str]) -> str:
    if binding.kind not in admins:
        raise TongbuError(
            f"binding {binding.binding}: a replay needs a {binding.kind} database of its own, and nobody to create it is known",
            f"Give the DSN of somebody who may: {ADMINS[binding.kind]}.",
        )
    return admins[binding.kind]


def _create(kind: str, admin: str, database: str, live: str) -> None:
    user = unquote(urlsplit(live).username or "")
    try:
        if kind == "postgresql":
            with psycopg.connect(admin, autocommit=True) as connection:
                names = sql.Identifier(database), sql.Identifier(user)
                connection.execute(sql.SQL("create database {} owner {}").format(*names))
        else:
            _create_mariadb(admin, database, user)
    except (psycopg.Error, pymysql.Error) as error:
        raise TongbuError(
            f"can't make the database {database}: {str(error).strip()}",
            f"Is the server up? Give the DSN of somebody who may: {ADMINS[kind]}.",
        ) from error


def _create_mariadb(admin: str, database: str, user: str) -> None:
    with closing(_mariadb(admin)) as connection, connection.cursor() as cursor:
        cursor.execute(f"create database `{database}` character set utf8mb4")
        cursor.execute("select host from mysql.user where user = %s", [user])
        for (host,) in cursor.fetchall():
            cursor.execute(f"grant all on `{database}`.* to %s@%s", [user, host])


def _drop(kind: str, admin: str, database: str) -> None:
    if kind == "postgresql":
        with psycopg.connect(admin, autocommit=True) as connection:
            drop = sql.SQL("drop database if exists {} with (force)")
            connection.execute(drop.format(sql.Identifier(database)))
    else:
        _drop_mariadb(admin, database)


def _drop_mariadb(admin: str, database: str) -> None:
    """Drop a database with its grants, which MariaDB would keep."""
    with closing(_mariadb(admin)) as connection, connection.cursor() as cursor:
        cursor.execute(f"drop database if exists `{database}`")
        cursor.execute("select user, host from mysql.db where db = %s", [database])
        for user, host in cursor.fetchall():
            cursor.execute(f"revoke all on `{database}`.* from %s@%s", [user, host])


def _mariadb(dsn: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
    return pymysql.connect(**mysql_arguments(dsn))

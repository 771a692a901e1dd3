# ruff: noqa: F811 - a fixture of the module that it is imported from
"""`tongbu mirror` on the running pipeline: an unknown ERP's 250 tables in one command, and tables captured already."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from test_whole_path import World, _wait_until, world  # noqa: F401 - a fixture

from tongbu.deploy import commands as deploy
from tongbu.deploy.deployment import Deployment
from tongbu.instance import ROOT

TABLES = 250


@pytest.fixture(scope="module")
def declarations(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Declarations of the test's own; at the end the shipped ones are in force again."""
    folder = tmp_path_factory.mktemp("declarations")
    for each in ("mappings", "rules"):
        shutil.copytree(ROOT / "streams" / each, folder / each)
    yield folder
    deploy.perform(Deployment(world.environment), None, lambda _: None)
    with psycopg.connect(world.environment["WAREHOUSE_DSN"], autocommit=True) as target:
        for (name,) in target.execute("SELECT table_name FROM canonical.tongbu_mirror").fetchall():
            target.execute(f'DROP TABLE canonical."{name}"')
        target.execute("DELETE FROM canonical.tongbu_mirror")


def mirror(world: World, declarations: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tongbu.cli", "mirror", *arguments, "--to", "warehouse"]
    done = subprocess.run(
        [*command, "--declarations", str(declarations)],
        env={**world.environment, "TONGBU_INSTANCE": world.instance.name, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def content(dsn: str, table: str) -> list[tuple[str, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1").fetchall()


def test_a_table_that_is_captured_already_is_mirrored_with_its_rows(
    world: World,
    declarations: Path,
) -> None:
    source, target = world.environment["ERP_DSN"], world.environment["WAREHOUSE_DSN"]
    code, said = mirror(
        world, declarations, "erp", "public.Customer", "public.SO_*", "--prefix", "u8_"
    )
    assert code == 0, said
    load = world.play(200, seed=31)
    load.join()
    world.settle()

    for table in ("Customer", "SO_SOMain", "SO_SODetails"):
        _wait_until(
            lambda table=table: (
                content(source, f'"{table}"') == content(target, f'canonical."u8_{table}"')
            )
        )
    assert content(source, '"SO_SODetails"')


def test_250_tables_of_an_unknown_erp_are_one_command(
    world: World,
    declarations: Path,
) -> None:
    source, target = world.environment["ERP_DSN"], world.environment["WAREHOUSE_DSN"]
    names = [f"t{number:03d}" for number in range(TABLES)]
    with psycopg.connect(source, autocommit=True) as erp:
        erp.execute("CREATE SCHEMA many")
        for name in names:
            erp.execute(
                f"CREATE TABLE many.{name} (id int PRIMARY KEY, name text, amount numeric(12,2), at timestamp)"
            )
        erp.execute("CREATE TABLE many.keyless (a int)")
        erp.execute("CREATE TABLE many.shapes (id int PRIMARY KEY, area circle)")

    code, said = mirror(world, declarations, "erp", "many.*", "--prefix", "m_")
    assert code == 1
    assert "many.keyless" in said
    assert "no primary key" in said
    assert "`area` is circle" in said
    script = [line.strip() for line in said.splitlines() if line.strip().endswith(";")]
    assert len(script) == 2 * TABLES + 1
    with psycopg.connect(source, autocommit=True) as dba:  # what the command says is what it needs
        for statement in script:
            dba.execute(statement)

    began = time.monotonic()
    code, said = mirror(world, declarations, "erp", "many.*", "--prefix", "m_")
    assert f"{TABLES} tables mirrored to warehouse, 0 were already, 2 refused" in said, said
    declared = time.monotonic() - began
    with psycopg.connect(source, autocommit=True) as erp:
        for name in names:
            erp.execute(
                f"INSERT INTO many.{name} SELECT n, '行' || n, n * 1.5, '2026-01-01' FROM generate_series(1, 3) n"
            )
            erp.execute(f"UPDATE many.{name} SET at = now() WHERE id = 2")
            erp.execute(f"DELETE FROM many.{name} WHERE id = 1")

    def all_equal() -> bool:
        with psycopg.connect(target) as warehouse:
            there = warehouse.execute(
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'canonical' AND tablename LIKE 'm\\_%'"
            ).fetchone()
        return there == (TABLES,) and all(
            content(source, f"many.{name}") == content(target, f"canonical.m_{name}")
            for name in names
        )

    _wait_until(all_equal, 180)
    print(
        f"{TABLES} tables: command {declared:.1f} s, equal after {time.monotonic() - began:.1f} s"
    )

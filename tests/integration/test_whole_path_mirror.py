# ruff: noqa: F811 - a fixture of the module that it is imported from
"""`tongbu mirror` on the running pipeline: tables that are captured already, and those of an unknown ERP."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from test_whole_path import World, _wait_until, world  # noqa: F401 - a fixture

from bench.mirrors import SCHEMA, Plan, measure
from tongbu.deploy import commands as deploy
from tongbu.deploy.deployment import Deployment
from tongbu.instance import ROOT


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


def tongbu(world: World, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tongbu.cli", *arguments],
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
    own = ("--declarations", str(declarations))
    what = ("erp", "public.Customer", "public.SO_*", "--prefix", "u8_", "--to", "warehouse")
    code, said = tongbu(world, "mirror", *what, *own)
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

    code, said = tongbu(world, "reconcile")
    assert code == 0, said
    assert "not compared: public.Customer, public.SO_SODetails, public.SO_SOMain" in said
    code, said = tongbu(world, "reconcile", *own)
    assert code == 0, said
    assert "not declared" not in said
    with psycopg.connect(target, autocommit=True) as warehouse:
        damage = 'UPDATE canonical."u8_Customer" SET "cCusName" = {} WHERE "cCusCode" = \'C0003\''
        warehouse.execute(damage.format('"cCusName" || 1'))
        code, said = tongbu(world, "reconcile", *own)
        assert code == 1
        assert "warehouse u8_Customer [C0003] differs: cCusName" in said
        warehouse.execute(damage.format('left("cCusName", -1)'))


def test_a_mirror_that_is_only_declared_has_its_earlier_rows_after_apply(
    world: World, declarations: Path
) -> None:
    """As by hand, or by a `tongbu mirror` that was ended once it had written the declaration."""
    source, target = world.environment["ERP_DSN"], world.environment["WAREHOUSE_DSN"]
    file = declarations / "mirrors" / "erp-to-warehouse.yaml"
    file.write_text(file.read_text() + "  public.Inventory: u8_Inventory\n")

    code, said = tongbu(world, "apply", "--declarations", str(declarations))

    assert code == 0, said
    _wait_until(
        lambda: content(source, '"Inventory"') == content(target, 'canonical."u8_Inventory"')
    )
    assert content(source, '"Inventory"')
    code, said = tongbu(world, "plan", "--declarations", str(declarations))
    assert "fill" not in said


def test_a_column_of_a_mirrored_table_can_be_left_out_later(
    world: World, declarations: Path
) -> None:
    source, target = world.environment["ERP_DSN"], world.environment["WAREHOUSE_DSN"]
    what = ("erp", "public.Customer", "--without", "public.Customer.cCusName", "--to", "warehouse")
    code, said = tongbu(world, "mirror", *what, "--declarations", str(declarations))
    assert code == 0, said
    assert "leave out public.Customer: cCusName" in said
    with psycopg.connect(source, autocommit=True) as erp:
        erp.execute("""UPDATE "Customer" SET "cMemo" = 'called' WHERE "cCusCode" = 'C0003'""")

    def columns() -> set[str]:
        with psycopg.connect(target) as warehouse:
            found = warehouse.execute('SELECT * FROM canonical."u8_Customer" LIMIT 0').description
        return {each.name for each in found}

    _wait_until(lambda: "cCusName" not in columns())
    assert "cCusCode" in columns()
    with psycopg.connect(source) as erp:
        there = {each.name for each in erp.execute('SELECT * FROM "Customer" LIMIT 0').description}
    assert there - columns() == {"cCusName"}

    code, said = tongbu(world, "mirror", *what, "--declarations", str(declarations))
    assert code == 0, said
    assert "leave out" not in said


def test_the_tables_of_an_unknown_erp_are_one_command(world: World, tmp_path: Path) -> None:
    """Rows of before, of meanwhile and of later: every value is compared. `python -m bench mirrors` does it with 250 tables."""
    report = measure(world.instance, Plan(tables=6, rows=20), tmp_path, print)

    with psycopg.connect(world.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    assert report["rows"] >= 6 * 19
    assert report["written_meanwhile"] > 0

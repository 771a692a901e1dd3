"""Faults of data: poison, rows of 10 MB, giants, new columns, and a target that is filled in mid-load."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time

import psycopg
import pymysql
from confluent_kafka import Producer

from bench.harm.stack import Harm, Stack, last
from bench.system import one, wait
from schemas.errors import TongbuError
from tongbu import dead_letters
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import Deployment
from tongbu.instance import ROOT

#: Records that no capture writes: no JSON, no event, nothing at all.
_POISON = (b"\xff\xfe no JSON", b"[1, 2]", b"{}", b'{"op": "u", "after": {"cCusCode": "C0003"}}')
_LARGE_BYTES = 10 * 2**20
#: Not the customer of the probes.
_CUSTOMER = "C0002"
_GIANT_ROWS = 20_000
_LONG_SECONDS = 120.0


def poison(stack: Stack, harm: Harm) -> None:
    """Records in a lane log that are none; or a row that can't be mapped, which is put right after a while."""
    if harm.target == "lane":
        producer = Producer({"bootstrap.servers": stack.environment["KAFKA_BOOTSTRAP"]})
        for value in _POISON:
            producer.produce("cdc.erp", value, key=b"poison")
        producer.flush(_LONG_SECONDS)
        return
    price = """UPDATE "Inventory" SET "iInvSPrice" = %s WHERE "cInvCode" = (SELECT min("cInvCode") FROM "Inventory")"""
    with psycopg.connect(stack.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute(price, ["NaN"])
        last(harm)
        erp.execute(price, ["1.5"])


def large_row(stack: Stack, _: Harm) -> None:
    """A memo of 10 MB arrives whole; another column changes, then it becomes small again."""
    memo = secrets.token_hex(_LARGE_BYTES // 2)
    change = """UPDATE "Customer" SET {} = %s WHERE "cCusCode" = %s"""
    with (
        psycopg.connect(stack.environment["ERP_DSN"], autocommit=True) as erp,
        psycopg.connect(stack.environment["WAREHOUSE_DSN"], autocommit=True) as warehouse,
    ):
        erp.execute(change.format('"cMemo"'), [memo, _CUSTOMER])
        found = "SELECT md5(note) = md5(%s) FROM canonical.customer WHERE code = %s"
        wait("10 MB arrive", lambda: one(warehouse, found, memo, _CUSTOMER), _LONG_SECONDS)
        erp.execute(change.format('"cCusPhone"'), [secrets.token_hex(4), _CUSTOMER])
        erp.execute(change.format('"cMemo"'), [memo[:10], _CUSTOMER])


def giant(stack: Stack, _: Harm) -> None:
    """A transaction changes 20,000 lines of orders, as a month's end does."""
    with psycopg.connect(stack.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute(
            """UPDATE "SO_SODetails" SET "iNum" = coalesce("iNum", 0) + 1 WHERE "AutoID" IN
                (SELECT "AutoID" FROM "SO_SODetails" ORDER BY "AutoID" LIMIT %s)""",
            [_GIANT_ROWS],
        )


def new_column(stack: Stack, harm: Harm) -> None:
    """A table of a source gets a column that nobody has mapped, and rows use it at once."""
    column = f"added_{time.time_ns()}"
    if harm.target == "erp":
        with psycopg.connect(stack.environment["ERP_DSN"], autocommit=True) as erp:
            erp.execute(f"ALTER TABLE \"Customer\" ADD COLUMN {column} text DEFAULT 'new'")
            erp.execute(f"""UPDATE "Customer" SET {column} = 'x' WHERE "cCusCode" < 'C0020'""")
        return
    with pymysql.connect(**mysql_arguments(stack.environment["OA_DSN"])) as oa:
        oa.cursor().execute(
            f"ALTER TABLE hrmresource ADD COLUMN {column} varchar(20) DEFAULT 'new'"
        )
        oa.cursor().execute(f"UPDATE hrmresource SET {column} = 'x' WHERE id < 20")
        oa.commit()


def renamed_column(stack: Stack, harm: Harm) -> None:
    """A mapped column gets another name, which quarantines its table; then its name is put right, and the table goes on."""
    if harm.target == "erp":
        table, rename = "public.Inventory", 'ALTER TABLE "Inventory" RENAME COLUMN "{}" TO "{}"'
        names, touch = ("cInvStd", "cInvStd2"), """UPDATE "Inventory" SET "bSale" = "bSale" """
        with psycopg.connect(stack.environment["ERP_DSN"], autocommit=True) as erp:
            erp.execute(rename.format(*names))
            erp.execute(touch)
            _await_quarantine(stack, table)
            last(harm)
            erp.execute(rename.format(*reversed(names)))
    else:
        table, rename = "oa.hrmdepartment", "ALTER TABLE hrmdepartment RENAME COLUMN {} TO {}"
        names = ("departmentmark", "departmentmark2")
        with pymysql.connect(**mysql_arguments(stack.environment["OA_DSN"])) as oa:
            oa.cursor().execute(rename.format(*names))
            oa.cursor().execute("UPDATE hrmdepartment SET subcompanyid1 = subcompanyid1 + 1")
            oa.commit()
            _await_quarantine(stack, table)
            last(harm)
            oa.cursor().execute(rename.format(*reversed(names)))
    # Where the watch has seen the other name, `apply` lets the table go; else somebody has to say that it fits.
    _tongbu(stack, "apply")
    _tongbu(stack, "dlq", "resume", harm.target, table, check=False)
    wait("the table goes on", lambda: table not in _quarantined(stack), _LONG_SECONDS)
    _tongbu(stack, "snapshot", harm.target, table)  # rows that came meanwhile lack the column


def _await_quarantine(stack: Stack, table: str) -> None:
    """What is not quarantined proves nothing when it goes on."""
    wait(f"{table} is quarantined", lambda: table in _quarantined(stack), _LONG_SECONDS)


def _quarantined(stack: Stack) -> set[str | None]:
    subject = Deployment(stack.environment)
    letters = dead_letters.read(subject.bootstrap, subject.registry)
    return {dead_letters.table_of(letter) for letter in letters}


def fill(stack: Stack, harm: Harm) -> None:
    """A target is filled again beside the live traffic."""
    _tongbu(stack, "resync", harm.target)


def snapshot(stack: Stack, harm: Harm) -> None:
    """Tables of a source are read again beside the live traffic."""
    tables = {
        "erp": ("public.Customer", "public.SO_SOMain", "public.SO_SODetails"),
        "oa": ("oa.hrmdepartment", "oa.workflow_requestbase"),
    }
    _tongbu(stack, "snapshot", harm.target, *tables[harm.target])


def _tongbu(stack: Stack, *arguments: str, check: bool = True) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tongbu.cli", *arguments],
        env=stack.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONG_SECONDS,
    )
    if check and done.returncode:
        raise TongbuError(f"tongbu {' '.join(arguments)} failed", done.stderr.strip())

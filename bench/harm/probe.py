"""Probes: a change per lane and an approval, committed after a fault; when they arrive everywhere, all is well again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import pymysql

from tongbu.deploy.captured import mysql_arguments

#: Errors of databases that are not up yet.
DOWN = (psycopg.OperationalError, pymysql.err.OperationalError, pymysql.err.InterfaceError, ConnectionError)  # fmt: skip
_POLL_SECONDS = 0.05
_ORDER = """INSERT INTO "SO_SOMain" ("ID", "cSOCode", "dDate", "cCusCode", "cexch_name", "iExchRate", "iStatus")
 VALUES (%s, %s, '2026-01-05', 'C0001', '人民币', 1, 0)"""
_APPROVE = """UPDATE "SO_SOMain" SET "cVerifier" = 'P001', "iStatus" = 1 WHERE "ID" = %s"""


class Probe:
    """Numbered changes to rows that the business leaves alone. Orders of probes have negative numbers."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._webhooks = Path(environment["TONGBU_DATA"]) / "webhooks.jsonl"
        self._number = 0

    def recovery(self, seconds: float) -> dict[str, float | None]:
        """
        Commit the probes as soon as the sources take them; give for each target how many seconds they took in all.

        A lane is in commit order, so what was committed before a probe has arrived before it. None where a target has
        not got it after so many seconds.
        """
        began = time.monotonic()
        self._number += 1
        memo = f"probe {self._number}"
        while not _works(lambda: self._commit(memo)) and time.monotonic() - began < seconds:
            time.sleep(_POLL_SECONDS)
        waiting: dict[str, Callable[[], bool]] = {
            "warehouse": lambda: self._in_warehouse(memo),
            "oa": lambda: self._in_oa(memo),
            "order-events": self._in_webhooks,
        }
        found: dict[str, float | None] = dict.fromkeys(waiting)
        while waiting and time.monotonic() - began < seconds:
            for target in [name for name, arrived in waiting.items() if _works(arrived)]:
                found[target] = round(time.monotonic() - began, 1)
                del waiting[target]
            time.sleep(_POLL_SECONDS)
        return found

    def _commit(self, memo: str) -> bool:
        with psycopg.connect(self._environment["ERP_DSN"]) as erp:
            erp.execute("""UPDATE "Customer" SET "cMemo" = %s WHERE "cCusCode" = 'C0001'""", [memo])
            there = erp.execute('SELECT 1 FROM "SO_SOMain" WHERE "ID" = %s', [-self._number])
            if not there.fetchone():
                erp.execute(_ORDER, [-self._number, self._code()])
                erp.commit()  # what is new and approved at once has not become approved
            erp.execute(_APPROVE, [-self._number])
        with pymysql.connect(**mysql_arguments(self._environment["OA_DSN"])) as oa:
            oa.cursor().execute("UPDATE hrmdepartment SET departmentcode = %s WHERE id = 1", [memo])
            oa.commit()
        return True

    def _code(self) -> str:
        return f"PROBE{self._number:06d}"

    def _in_warehouse(self, memo: str) -> bool:
        with psycopg.connect(self._environment["WAREHOUSE_DSN"]) as warehouse:
            rows = warehouse.execute(
                """SELECT note FROM canonical.customer WHERE code = 'C0001'
                    UNION ALL SELECT department_code FROM canonical.org_unit WHERE code = '1'"""
            )
            return [value for (value,) in rows] == [memo, memo]

    def _in_oa(self, memo: str) -> bool:
        with (
            pymysql.connect(**mysql_arguments(self._environment["OA_HUB_DSN"])) as hub,
            hub.cursor() as cursor,
        ):
            cursor.execute("SELECT note FROM customer WHERE code = 'C0001'")
            return [value for (value,) in cursor.fetchall()] == [memo]

    def _in_webhooks(self) -> bool:
        return self._code().encode() in (
            self._webhooks.read_bytes() if self._webhooks.exists() else b""
        )


def _works(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except DOWN:
        return False

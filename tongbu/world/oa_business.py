"""Business in the OA: approvals of orders, business trips, people; each call is one transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pymysql

from tongbu.deploy.captured import mysql_arguments
from tongbu.world.journal import Step
from tongbu.world.seed import DEPARTMENTS, EMPLOYEES, customer_name, person

_REMEMBERED = 1000
_APPROVAL, _TRIP = 17, 23
_PLACES = ("上海", "苏州", "成都", "西安", "厦门", "武汉")
_REQUEST = """INSERT INTO workflow_requestbase (requestid, workflowid, requestname, creater, createdate, createtime,
 lastoperator, lastoperatedate, lastoperatetime, currentnodeid, currentnodetype, status, requestlevel, deleted, currentstatus)
 VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 1, '0', '创建', %s, 0, NULL)"""
_NODES = {"0": ("1", "审批"), "1": ("3", "归档")}


class Oa:
    """Plays the people who work in the OA. `random` decides what they do."""

    def __init__(self, dsn: str, random: Random) -> None:
        self._random = random
        self._connection = pymysql.connect(**mysql_arguments(dsn), autocommit=False)
        self._cursor = self._connection.cursor()
        self._cursor.execute("SELECT COALESCE(MAX(requestid), 0) FROM workflow_requestbase")
        self._request = int(self._cursor.fetchall()[0][0])
        self._open: list[tuple[int, str]] = []
        self._cursor.execute(
            "SELECT requestid, currentnodetype FROM workflow_requestbase WHERE currentnodetype IN ('0', '1') "
            f"AND deleted = 0 AND currentstatus IS NULL ORDER BY requestid DESC LIMIT {_REMEMBERED}"
        )
        self._open = list(self._cursor.fetchall())
        self._connection.commit()
        self._now = datetime(2026, 1, 5, 9)

    def step(self) -> Step:
        """Do one transaction; its id is MariaDB's GTID."""
        kind, key, statements = self._random.choices(
            (
                self._new_approval,
                self._new_trip,
                self._advance,
                self._withdraw,
                self._edit_person,
                self._edit_unit,
            ),
            (34, 8, 46, 3, 6, 3),
        )[0]()
        rows = sum(
            self._cursor.execute(statement, parameters) for statement, parameters in statements
        )
        self._connection.commit()
        self._cursor.execute("SELECT @@last_gtid")
        return Step(kind, key, self._cursor.fetchall()[0][0], rows)

    def close(self) -> None:
        """Leave the OA."""
        self._connection.close()

    def _next_request(
        self, workflow: int, name: str, applicant: int
    ) -> tuple[int, tuple[str, Any]]:
        self._request += 1
        self._now += timedelta(minutes=self._random.randrange(1, 20))
        day, time = self._now.strftime("%Y-%m-%d"), self._now.strftime("%H:%M:%S")
        values = (
            self._request,
            workflow,
            name,
            applicant,
            day,
            time,
            applicant,
            day,
            time,
            self._random.randrange(3),
        )
        self._open.append((self._request, "0"))
        del self._open[:-_REMEMBERED]
        return self._request, (_REQUEST, values)

    def _new_approval(self) -> tuple[str, str, list[tuple[str, Any]]]:
        random, applicant = self._random, self._random.randrange(EMPLOYEES) + 1
        order = f"SO{random.randrange(5000) + 1:08d}"
        request, insert = self._next_request(_APPROVAL, f"销售订单审批-{order}", applicant)
        form = """INSERT INTO formtable_main_17 (requestId, ddbh, khmc, ddje, bz, sqr, sqrq, shyj)
 VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
        amount = Decimal(random.randrange(100, 3_000_000_000)) / 10_000
        values = (
            request,
            order if random.random() < 0.95 else None,
            customer_name(random.randrange(200) + 1),
            amount,
            random.choice(("人民币", "人民币", "美元")),
            applicant,
            self._now.strftime("%Y-%m-%d"),
            None,
        )
        return "new_approval", str(request), [insert, (form, values)]

    def _new_trip(self) -> tuple[str, str, list[tuple[str, Any]]]:
        random, applicant = self._random, self._random.randrange(EMPLOYEES) + 1
        place = random.choice(_PLACES)
        request, insert = self._next_request(
            _TRIP, f"出差申请-{person(applicant)}-{place}", applicant
        )
        form = """INSERT INTO formtable_main_23 (requestId, sqr, ccdd, ksrq, kssj, jsrq, jssj, ccsy, yjfy, ts)
 VALUES (%s, %s, %s, %s, '09:00', %s, '18:00', %s, %s, %s)"""
        days = random.randint(1, 5)
        start, end = self._now + timedelta(days=3), self._now + timedelta(days=2 + days)
        cost = Decimal(random.randrange(500, 9000)) if random.random() < 0.8 else None
        values = (
            request,
            applicant,
            place,
            f"{start:%Y-%m-%d}",
            f"{end:%Y-%m-%d}",
            "拜访客户 ✈️",
            cost,
            days,
        )
        return "new_trip", str(request), [insert, (form, values)]

    def _advance(self) -> tuple[str, str, list[tuple[str, Any]]]:
        """Move a request to its next node: creation, approval, archive."""
        if not self._open:
            return self._new_approval()
        request, node = self._open.pop(self._random.randrange(len(self._open)))
        following, status = _NODES[node]
        if following in _NODES:
            self._open.append((request, following))
        statements: list[tuple[str, Any]] = [self._step_of(request, node, following, status)]
        if following == "3":
            opinion = (
                "UPDATE formtable_main_17 SET shyj = %s WHERE requestId = %s",
                ("同意。价格与账期已核对 👍", request),
            )
            statements.append(opinion)
        return "advance", str(request), statements

    def _step_of(self, request: int, node: str, following: str, status: str) -> tuple[str, Any]:
        self._now += timedelta(seconds=self._random.randrange(5, 300))
        sql = """UPDATE workflow_requestbase SET lastnodetype = %s, currentnodetype = %s, status = %s, lastoperator = %s,
 lastoperatedate = %s, lastoperatetime = %s WHERE requestid = %s"""
        day, time = self._now.strftime("%Y-%m-%d"), self._now.strftime("%H:%M:%S")
        return sql, (
            node,
            following,
            status,
            self._random.randrange(EMPLOYEES) + 1,
            day,
            time,
            request,
        )

    def _withdraw(self) -> tuple[str, str, list[tuple[str, Any]]]:
        if not self._open:
            return self._new_approval()
        request, _ = self._open.pop(self._random.randrange(len(self._open)))
        column = self._random.choice(("deleted", "currentstatus"))
        return (
            "withdraw",
            str(request),
            [(f"UPDATE workflow_requestbase SET {column} = 1 WHERE requestid = %s", (request,))],
        )

    def _edit_person(self) -> tuple[str, str, list[tuple[str, Any]]]:
        id_ = self._random.randrange(EMPLOYEES) + 1
        mobile = f"1380000{self._random.randrange(10_000):04d}"
        sql = "UPDATE hrmresource SET mobile = %s, departmentid = %s WHERE id = %s"
        return (
            "edit_person",
            str(id_),
            [(sql, (mobile, self._random.randrange(DEPARTMENTS) + 1, id_))],
        )

    def _edit_unit(self) -> tuple[str, str, list[tuple[str, Any]]]:
        id_ = self._random.randrange(DEPARTMENTS) + 1
        sql = "UPDATE hrmdepartment SET showorder = %s WHERE id = %s"
        return "edit_unit", str(id_), [(sql, (self._random.randrange(1000), id_))]

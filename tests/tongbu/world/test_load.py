"""The load generator: the same for the same seed, and every commit it reports is journalled."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import orjson
import psycopg
import pymysql
import pytest

from tongbu.deploy.captured import mysql_arguments
from tongbu.world.erp_business import Erp
from tongbu.world.load import play
from tongbu.world.oa_business import Oa

#: What always changes a row; others may find nothing to change.
ALWAYS = ("new_order", "new_approval", "new_trip", "purchase_request", "stock_move")


class Database:
    """Answers as an empty database does, and keeps what it was told."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []

    def execute(self, statement: str, parameters: Any = None) -> Any:
        self.statements.append((statement, parameters))
        row = ("1",) if "xact" in statement or "gtid" in statement else (0,)
        self.answer = [] if "LIMIT" in statement else [row]
        return SimpleNamespace(fetchone=lambda: row, fetchall=self.fetchall, rowcount=1)

    def fetchall(self) -> list[Any]:
        return self.answer

    def cursor(self) -> Database:
        database = self

        class Cursor(Database):
            def __init__(self) -> None:
                self.statements = database.statements

            def execute(self, statement: str, parameters: Any = None) -> Any:
                super().execute(statement, parameters)
                return 1

        return Cursor()

    def commit(self) -> None:
        self.statements.append(("COMMIT", None))

    def pipeline(self) -> Any:
        return nullcontext()

    def transaction(self) -> Any:
        return nullcontext()


def statements(business: type[Erp | Oa], seed: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    database = Database()
    monkeypatch.setattr(psycopg, "connect", lambda *_, **__: database)
    monkeypatch.setattr(pymysql, "connect", lambda *_, **__: database)
    player = business("mysql://oa:x@127.0.0.1:1/oa", Random(seed))
    kinds = Counter(player.step().kind for _ in range(300))
    return database.statements, kinds


@pytest.mark.parametrize("business", [Erp, Oa])
def test_the_same_seed_gives_the_same_business_and_another_seed_another(
    business: type[Erp | Oa], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = (statements(business, 7, monkeypatch) for _ in range(2))
    other = statements(business, 8, monkeypatch)

    assert first == again
    assert first != other
    assert len(first[1]) > 4, "300 steps are more than one kind of business"


def test_every_commit_that_a_load_reports_is_journalled_under_the_sources_own_id(
    stack: dict[str, str], tmp_path: Path
) -> None:
    summary = play({**stack, "TONGBU_DATA": str(tmp_path)}, rate=100, transactions=60, seed=41)

    lines = [orjson.loads(line) for line in (tmp_path / "journal.jsonl").read_bytes().splitlines()]
    kinds = Counter(line["kind"] for line in lines)
    assert summary.transactions == 60
    assert {kind: kinds[kind] for kind in ALWAYS} == {
        kind: summary.kinds.get(kind, 0) for kind in ALWAYS
    }
    assert len({(line["source"], line["transaction"]) for line in lines}) == len(lines)
    assert _not_committed(stack, lines) == []


def test_every_line_of_an_order_adds_up_in_both_currencies_also_after_a_price_correction(
    stack: dict[str, str], tmp_path: Path
) -> None:
    summary = play({**stack, "TONGBU_DATA": str(tmp_path)}, rate=200, transactions=200, seed=43)

    with psycopg.connect(stack["ERP_DSN"]) as erp:
        wrong = erp.execute(
            """SELECT count(*) FROM "SO_SODetails" d JOIN "SO_SOMain" h USING ("ID")
                WHERE d."iMoney" <> round(d."iQuantity" * d."iUnitPrice", 4) OR d."iSum" <> d."iMoney" + d."iTax"
                   OR d."iNatMoney" <> round(d."iMoney" * h."iExchRate", 4) OR d."iNatSum" <> d."iNatMoney" + d."iNatTax"
                   OR d."iTaxUnitPrice" <> round(d."iUnitPrice" * 1.13, 6)"""
        ).fetchone()
    assert summary.kinds["correct_price"] > 0
    assert wrong == (0,)


def _not_committed(stack: dict[str, str], lines: list[dict[str, Any]]) -> list[str]:
    with psycopg.connect(stack["ERP_DSN"]) as erp:
        sql = "SELECT pg_xact_status(%s::xid8)"
        xids = [line["transaction"] for line in lines if line["source"] == "erp"]
        lost = [xid for xid in xids if erp.execute(sql, [xid]).fetchone() != ("committed",)]
    with (
        pymysql.connect(**mysql_arguments(stack["OA_DSN"])) as oa,
        oa.cursor() as cursor,
    ):
        cursor.execute("SELECT @@gtid_binlog_pos")
        positions = str(cursor.fetchall()[0][0]).split(",")
    last = {domain: int(number) for domain, _, number in (each.split("-") for each in positions)}
    gtids = [line["transaction"].split("-") for line in lines if line["source"] == "oa"]
    return lost + ["-".join(gtid) for gtid in gtids if int(gtid[2]) > last[gtid[0]]]

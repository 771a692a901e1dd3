"""Tongbu as it ships: the ERP's connector, the processor with all mappings and rules, the warehouse's sink writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import psycopg

from bench.connect import Connect
from bench.source import Orders
from bench.system import one, wait
from tongbu.deploy import commands as deploy
from tongbu.deploy.deployment import Change, Deployment
from tongbu.instance import Instance
from tongbu.stack.supervision import Supervisor

_PROCESSES = ("processor", "sink-warehouse")
_HEAD, _LINE = "canonical.sales_order", "canonical.sales_order_line"

#: Every column of orders and their lines as the mapping and the rule make them of the ERP's: what is compared after a run.
_OF_SOURCE = """SELECT count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM (
  SELECT h."cSOCode", 'erp:' || h."cCusCode", h."dDate" AT TIME ZONE 'Asia/Shanghai' AT TIME ZONE 'UTC', h."dDate"::text,
    CASE WHEN h."cCloser" <> '' THEN 'closed' WHEN h."cVerifier" <> '' THEN 'approved' ELSE 'draft' END,
    h.currency, h."iExchRate"::numeric(38,10), s.lines, s.net::numeric(38,10), h.currency, s.tax::numeric(38,10), h.currency,
    s.gross::numeric(38,10), h.currency, h."iMoney"::numeric(38,10), CASE WHEN h."iMoney" IS NOT NULL THEN h.currency END,
    CASE WHEN c."cCusDefine1" = 'A' AND h.currency = 'CNY' AND s.gross > 100000 THEN 'auto_approve' ELSE 'finance_director' END,
    h."cMaker", h."cVerifier", h.dverifydate AT TIME ZONE 'Asia/Shanghai' AT TIME ZONE 'UTC', h.dverifydate::text,
    h."cCloser", h."cMemo", l."iRowNo", 'erp:' || l."cInvCode", l."cInvName", l."iQuantity"::numeric(38,10), l."cUnitID",
    l."iNum"::numeric(38,10), l."iTaxUnitPrice"::numeric(38,10), h.currency, l."iMoney"::numeric(38,10), h.currency,
    l."iTax"::numeric(38,10), h.currency, l."iSum"::numeric(38,10), h.currency, l."iNatSum"::numeric(38,10), 'CNY',
    l."iTaxRate"::numeric(38,10), l."iFHQuantity"::numeric(38,10), l."iKPQuantity"::numeric(38,10),
    l."dPreDate" AT TIME ZONE 'Asia/Shanghai' AT TIME ZONE 'UTC', l."dPreDate"::text, coalesce(l."cSCloser", '') <> ''
  FROM (SELECT *, CASE cexch_name WHEN '人民币' THEN 'CNY' WHEN '美元' THEN 'USD' WHEN '欧元' THEN 'EUR' WHEN '港币' THEN 'HKD'
      ELSE 'XXX' END currency FROM "SO_SOMain") h
    JOIN "SO_SODetails" l ON l."ID" = h."ID" LEFT JOIN "Customer" c ON c."cCusCode" = h."cCusCode"
    JOIN (SELECT "ID", count(*) lines, sum("iMoney") net, sum("iTax") tax, sum("iSum") gross FROM "SO_SODetails" GROUP BY 1) s
      ON s."ID" = h."ID") t"""
_OF_TARGET = f"""SELECT count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM (
  SELECT h.code, h.customer_id, h.ordered_at AT TIME ZONE 'UTC', h.ordered_text, h.status, h.currency, h.exchange_rate,
    h.line_count, h.net_amount, h.net_currency, h.tax_amount, h.tax_currency, h.gross_amount, h.gross_currency,
    h.deposit_amount, h.deposit_currency, h.approval_route, h.maker, h.verifier, h.verified_at AT TIME ZONE 'UTC',
    h.verified_text, h.closer, h.note, l.line_no, l.product_id, l.product_name, l.quantity_value, l.quantity_unit,
    l.trade_quantity, l.unit_price_amount, l.unit_price_currency, l.net_amount, l.net_currency, l.tax_amount, l.tax_currency,
    l.gross_amount, l.gross_currency, l.local_gross_amount, l.local_gross_currency, l.tax_rate, l.shipped_quantity,
    l.invoiced_quantity, l.due_at AT TIME ZONE 'UTC', l.due_text, l.closed
  FROM {_HEAD} h JOIN {_LINE} l ON l.sales_order_id = h.id) t"""


class Tongbu:
    """The product, on the harness's stack. Other sinks stay stopped; the OA's connector idles."""

    def __init__(self, instance: Instance, connect: Connect, environment: dict[str, str]) -> None:
        self.name = "tongbu"
        self.does = "maps, rules, Avro, two topics, whole transactions, version guard, foreign keys"
        self._connect, self._supervisor = connect, Supervisor(instance)
        self._erp = psycopg.connect(environment["ERP_DSN"], autocommit=True)
        connect.resume(*{"erp"} & connect.names())  # stopped by an earlier run
        deploy.perform(Deployment(environment), None, _silent)
        self._target = psycopg.connect(environment["WAREHOUSE_DSN"], autocommit=True)
        self._status = Path(environment["TONGBU_DATA"]) / "processor.json"
        #: Where the sink writer notes when each transaction passed which stage.
        self.stages = Path(environment["TONGBU_DATA"]) / "stages/warehouse.jsonl"

    def start(self) -> None:
        """Start processor and sink writer, then capture."""
        for name in _PROCESSES:
            self._supervisor.start_process(name)
        self._connect.resume("erp")
        active = "SELECT active FROM pg_replication_slots WHERE slot_name = 'tongbu'"
        wait("tongbu reads its slot", lambda: bool(one(self._erp, active)))

    def await_snapshot(self) -> None:
        """Wait until the initial snapshot of the ERP is published: its customers are looked up by every order."""
        wait("the initial snapshot is published", self._snapshot_published)

    def stop(self) -> None:
        """Stop capture, then the processes."""
        self._connect.stop("erp")
        for name in reversed(_PROCESSES):
            self._supervisor.rpc.stopProcess(name)

    def arrived(self, orders: Orders) -> bool:
        """Look for the last order first: counting is for when it is there."""
        first, last = _id(orders.first), _id(orders.last)
        if not one(self._target, f"SELECT count(*) FROM {_HEAD} WHERE id = %s", last):
            return False
        counted = one(
            self._target,
            f"""SELECT (SELECT count(*) FROM {_HEAD} WHERE id BETWEEN %s AND %s)
                + (SELECT count(*) FROM {_LINE} WHERE sales_order_id BETWEEN %s AND %s)""",
            *(first, last, first, last),
        )
        return int(counted) == orders.rows

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give the later of header and lines, which is the same: a transaction arrives whole."""
        first, last = _id(orders.first), _id(orders.last)
        rows = self._target.execute(
            f"""SELECT substr(id, 7)::integer, extract(epoch FROM max(at))::float8 FROM (
                SELECT id, pg_xact_commit_timestamp(xmin) at FROM {_HEAD} WHERE id BETWEEN %s AND %s
                UNION ALL SELECT sales_order_id, pg_xact_commit_timestamp(xmin) FROM {_LINE}
                WHERE sales_order_id BETWEEN %s AND %s) rows GROUP BY id""",
            [first, last, first, last],
        )
        return dict(rows.fetchall())

    def difference(self) -> str:
        """Compare what the mapping makes of every line and header, said once more in SQL."""
        source, target = one(self._erp, _OF_SOURCE), one(self._target, _OF_TARGET)
        return "" if source == target else f"lines: {source} in the source, {target} in the target"

    def _snapshot_published(self) -> bool:
        lanes: dict[str, Any] = (
            orjson.loads(self._status.read_bytes()) if self._status.exists() else {}
        )
        return bool(lanes.get("erp", {}).get("snapshot_published"))


def _id(number: int) -> str:
    return f"erp:SO{number:08d}"


def _silent(_: Change) -> None:
    """Deployment tells of each change; the harness has its own display."""

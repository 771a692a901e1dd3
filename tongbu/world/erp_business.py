"""Business in the ERP: orders, approvals, shipments, stock, receivables; each call is one transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from typing import Any

import psycopg

from tongbu.world.journal import Step
from tongbu.world.seed import CUSTOMERS, PRODUCTS, person, product_code, product_name

#: Orders that are remembered to go on with.
_REMEMBERED = 1000
_TAX_RATE = Decimal(13)
_CENTS = Decimal("0.0001")
_CURRENCIES = (("人民币", Decimal(1)),) * 8 + (("美元", Decimal("7.12")), ("欧元", Decimal("7.8")))

_LINE = """INSERT INTO "SO_SODetails" ("AutoID", "iSOsID", "ID", "cSOCode", "iRowNo", "cInvCode", "cInvName", "iQuantity",
 "iNum", "cUnitID", "iQuotedPrice", "iUnitPrice", "iTaxUnitPrice", "iMoney", "iTax", "iSum", "iNatMoney", "iNatTax",
 "iNatSum", "iTaxRate", "dPreDate", "iFHQuantity")
 VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0)"""
#: A corrected price moves every amount of the line that follows from it, in both currencies.
_PRICE = """UPDATE "SO_SODetails" d SET "iUnitPrice" = %(price)s, "iTaxUnitPrice" = round(%(price)s * (1 + %(tax_rate)s / 100), 6),
 "iMoney" = net, "iTax" = tax, "iSum" = net + tax, "iNatMoney" = round(net * rate, 4), "iNatTax" = round(tax * rate, 4),
 "iNatSum" = round(net * rate, 4) + round(tax * rate, 4)
 FROM (SELECT "AutoID", rate, net, round(net * %(tax_rate)s / 100, 4) AS tax
   FROM (SELECT l."AutoID", h."iExchRate" AS rate, round(l."iQuantity" * %(price)s, 4) AS net
     FROM "SO_SODetails" l JOIN "SO_SOMain" h USING ("ID") WHERE "ID" = %(id)s AND "iRowNo" = 1) AS priced) AS taxed
 WHERE taxed."AutoID" = d."AutoID" AND d."iRowNo" = 1"""
_STOCK = 'UPDATE "CurrentStock" SET "iQuantity" = "iQuantity" + %s, "fOutQuantity" = %s WHERE "AutoID" = %s'


class Erp:
    """Plays the people who work in the ERP. `random` decides what they do."""

    def __init__(self, dsn: str, random: Random) -> None:
        self._random = random
        self._connection = psycopg.connect(dsn, prepare_threshold=1)
        self._numbers = {name: self._last(*place) for name, place in _NUMBERS.items()}
        self._drafts = self._codes('"cVerifier" IS NULL AND "cCloser" IS NULL')
        self._approved = self._codes('"iStatus" = 1 AND "cCloser" IS NULL')
        self._requests: list[int] = []
        self._now = datetime(2026, 1, 5, 9)

    def step(self) -> Step:
        """Do one transaction; its id is PostgreSQL's xid."""
        action = self._random.choices(self._actions, self._weights)[0]
        kind, key, statements = action()
        connection = self._connection
        with connection.pipeline(), connection.transaction():
            xid = connection.execute("SELECT pg_current_xact_id()::text")
            done = [
                connection.execute(statement, parameters) for statement, parameters in statements
            ]
            row = xid.fetchone()
        assert row is not None
        return Step(kind, key, row[0], sum(cursor.rowcount for cursor in done))

    def close(self) -> None:
        """Leave the ERP."""
        self._connection.close()

    def _last(self, table: str, column: str) -> int:
        row = self._connection.execute(
            f'SELECT coalesce(max("{column}"), 0) FROM "{table}"'
        ).fetchone()
        self._connection.commit()
        return int(row[0]) if row else 0

    def _codes(self, condition: str) -> list[tuple[int, str]]:
        sql = f'SELECT "ID", "cSOCode" FROM "SO_SOMain" WHERE {condition} ORDER BY "ID" DESC LIMIT {_REMEMBERED}'
        rows = self._connection.execute(sql).fetchall()
        self._connection.commit()
        return list(rows)

    def _next(self, name: str) -> int:
        self._numbers[name] += 1
        return self._numbers[name]

    def _take(self, orders: list[tuple[int, str]]) -> tuple[int, str] | None:
        return orders.pop(self._random.randrange(len(orders))) if orders else None

    # -- what people do: each gives kind, business key and statements

    def _new_order(self) -> tuple[str, str, list[tuple[str, Any]]]:
        random, id_ = self._random, self._next("order")
        code = f"SO{id_:08d}"
        currency, rate = random.choice(_CURRENCIES)
        self._now += timedelta(minutes=random.randrange(1, 30))
        head = (
            id_,
            code,
            self._now.replace(hour=0, minute=0),
            f"C{random.randrange(CUSTOMERS) + 1:04d}",
            f"D{random.randrange(12) + 1:02d}",
            f"P{random.randrange(60) + 1:03d}",
            currency,
            rate,
            _TAX_RATE,
            Decimal(random.randrange(5000)) if random.random() < 0.2 else None,
            person(random.randrange(60) + 1),
            "加急 📦" if random.random() < 0.1 else None,
        )
        insert = """INSERT INTO "SO_SOMain" ("ID", "cSOCode", "dDate", "cSTCode", "cCusCode", "cDepCode", "cPersonCode",
 "cexch_name", "iExchRate", "iTaxRate", "iMoney", "iStatus", "cMaker", "cMemo")
 VALUES (%s, %s, %s, '01', %s, %s, %s, %s, %s, %s, %s, 0, %s, %s)"""
        lines = [
            (_LINE, self._line(id_, code, number, rate))
            for number in range(1, random.randint(1, 20) + 1)
        ]
        self._drafts.append((id_, code))
        del self._drafts[:-_REMEMBERED]
        return "new_order", code, [(insert, head), *lines]

    def _line(self, order: int, code: str, number: int, rate: Decimal) -> tuple[Any, ...]:
        random, auto_id = self._random, self._next("line")
        product = random.randrange(PRODUCTS) + 1
        quantity = Decimal(random.randint(1, 500)) * random.choice((1, 1, 10, 100))
        price = Decimal(random.randrange(100, 500_000)) / 10_000
        net = (quantity * price).quantize(_CENTS, ROUND_HALF_UP)
        tax = (net * _TAX_RATE / 100).quantize(_CENTS, ROUND_HALF_UP)
        local = [(each * rate).quantize(_CENTS, ROUND_HALF_UP) for each in (net, tax)]
        due = self._now.replace(hour=0, minute=0) + timedelta(days=random.randint(3, 40))
        gross_price = (price * (100 + _TAX_RATE) / 100).quantize(Decimal("0.000001"), ROUND_HALF_UP)
        return (
            auto_id, auto_id, order, code, number, product_code(product), product_name(product), quantity,
            quantity / 100 if random.random() < 0.3 else None, "PCS", price, price, gross_price, net, tax, net + tax,
            local[0], local[1], local[0] + local[1], _TAX_RATE, due if random.random() < 0.9 else None,
        )  # fmt: skip

    def _approve_order(self) -> tuple[str, str, list[tuple[str, Any]]]:
        order = self._take(self._drafts)
        if order is None:
            return self._new_order()
        self._approved.append(order)
        del self._approved[:-_REMEMBERED]
        sql = 'UPDATE "SO_SOMain" SET "cVerifier" = %s, dverifydate = %s, "iStatus" = 1 WHERE "ID" = %s'
        sql = sql.replace(" dverifydate", ' "dverifydate"')
        return "approve_order", order[1], [(sql, (person(7), self._now, order[0]))]

    def _ship(self) -> tuple[str, str, list[tuple[str, Any]]]:
        order = self._take(self._approved)
        if order is None:
            return self._new_order()
        id_, code = self._next("dispatch"), f"DL{self._numbers['dispatch']:08d}"
        head = """INSERT INTO "DispatchList" SELECT %s, %s, %s, "cCusCode", "cSOCode", %s FROM "SO_SOMain" WHERE "ID" = %s"""
        lines = """INSERT INTO "DispatchLists" SELECT "AutoID", %s, "AutoID", "iSOsID", 'WH01', "cInvCode", "iQuantity", 0
 FROM "SO_SODetails" WHERE "ID" = %s"""
        shipped = 'UPDATE "SO_SODetails" SET "iFHQuantity" = "iQuantity" WHERE "ID" = %s'
        stock = self._random.randrange(PRODUCTS * 2) + 1
        statements = [
            (head, (id_, code, self._now, person(3), order[0])),
            (lines, (id_, order[0])),
            (shipped, (order[0],)),
            ('UPDATE "SO_SOMain" SET "iStatus" = 2 WHERE "ID" = %s', (order[0],)),
            (_STOCK, (-self._random.randint(1, 20), None, stock)),
        ]
        return "ship", order[1], statements

    def _stock_move(self) -> tuple[str, str, list[tuple[str, Any]]]:
        source, target = self._random.sample(range(1, PRODUCTS * 2 + 1), 2)
        quantity = self._random.randint(1, 50)
        return "stock_move", str(source), [
            (_STOCK, (-quantity, quantity, source)),
            (_STOCK, (quantity, None, target)),
        ]  # fmt: skip

    def _correct_price(self) -> tuple[str, str, list[tuple[str, Any]]]:
        if not self._drafts:
            return self._new_order()
        order, code = self._random.choice(self._drafts)
        price = Decimal(self._random.randrange(100, 500_000)) / 10_000
        return (
            "correct_price",
            code,
            [(_PRICE, {"price": price, "tax_rate": _TAX_RATE, "id": order})],
        )

    def _close_order(self) -> tuple[str, str, list[tuple[str, Any]]]:
        order = self._take(self._drafts)
        if order is None:
            return self._new_order()
        sql = 'UPDATE "SO_SOMain" SET "cCloser" = %s, "cMemo" = NULL WHERE "ID" = %s'
        return "close_order", order[1], [(sql, (person(9), order[0]))]

    def _delete_line(self) -> tuple[str, str, list[tuple[str, Any]]]:
        if not self._drafts:
            return self._new_order()
        order, code = self._random.choice(self._drafts)
        sql = """DELETE FROM "SO_SODetails" WHERE "AutoID" = (SELECT max("AutoID") FROM "SO_SODetails" WHERE "ID" = %s)"""
        return "delete_line", code, [(sql, (order,))]

    def _delete_order(self) -> tuple[str, str, list[tuple[str, Any]]]:
        order = self._take(self._drafts)
        if order is None:
            return self._new_order()
        lines, head = (
            'DELETE FROM "SO_SODetails" WHERE "ID" = %s',
            'DELETE FROM "SO_SOMain" WHERE "ID" = %s',
        )
        return "delete_order", order[1], [(lines, (order[0],)), (head, (order[0],))]

    def _receivable(self) -> tuple[str, str, list[tuple[str, Any]]]:
        if not self._approved:
            return self._new_order()
        order, code = self._random.choice(self._approved)
        number = self._next("receivable")
        sql = """INSERT INTO "Ap_Vouch" SELECT %(n)s, 'R0', %(code)s, %(now)s, m."cCusCode", m."cSOCode", m."cexch_name",
 m."iExchRate", sum(d."iSum"), sum(coalesce(d."iNatSum", 0)), sum(d."iSum"), %(due)s, %(who)s, %(check)s, NULL
 FROM "SO_SOMain" m JOIN "SO_SODetails" d ON d."ID" = m."ID" WHERE m."ID" = %(id)s
 GROUP BY m."cCusCode", m."cSOCode", m."cexch_name", m."iExchRate\""""
        values = {
            "n": number,
            "code": f"AR{number:08d}",
            "now": self._now,
            "due": self._now + timedelta(days=30),
            "who": person(11),
            "check": person(12) if self._random.random() < 0.5 else None,
            "id": order,
        }
        return "receivable", code, [(sql, values)]

    def _purchase_request(self) -> tuple[str, str, list[tuple[str, Any]]]:
        id_ = self._next("request")
        code = f"PR{id_:08d}"
        head = """INSERT INTO "PU_AppVouch" ("ID", "cCode", "dDate", "cDepCode", "cMaker") VALUES (%s, %s, %s, %s, %s)"""
        line = """INSERT INTO "PU_AppVouchs" ("AutoID", "ID", "irowno", "cInvCode", "fQuantity", "dRequirDate")
 VALUES (%s, %s, %s, %s, %s, %s)"""
        statements: list[tuple[str, Any]] = [(head, (id_, code, self._now, "D01", person(5)))]
        for number in range(1, self._random.randint(1, 5) + 1):
            product = product_code(self._random.randrange(PRODUCTS) + 1)
            quantity = self._random.randint(1, 900)
            values = (
                self._next("request_line"),
                id_,
                number,
                product,
                quantity,
                self._now + timedelta(days=14),
            )
            statements.append((line, values))
        self._requests.append(id_)
        del self._requests[:-_REMEMBERED]
        return "purchase_request", code, statements

    def _approve_request(self) -> tuple[str, str, list[tuple[str, Any]]]:
        if not self._requests:
            return self._purchase_request()
        id_ = self._requests.pop(self._random.randrange(len(self._requests)))
        sql = 'UPDATE "PU_AppVouch" SET "cVerifier" = %s, "cAuditDate" = %s WHERE "ID" = %s'
        return "approve_request", f"PR{id_:08d}", [(sql, (person(6), self._now, id_))]

    def _edit_customer(self) -> tuple[str, str, list[tuple[str, Any]]]:
        code = f"C{self._random.randrange(CUSTOMERS) + 1:04d}"
        sql = 'UPDATE "Customer" SET "cCusPhone" = %s, "cCusPerson" = %s WHERE "cCusCode" = %s'
        phone = f"0755-0000{self._random.randrange(10_000):04d}"
        return "edit_customer", code, [(sql, (phone, person(self._random.randrange(60) + 1), code))]

    def _edit_product(self) -> tuple[str, str, list[tuple[str, Any]]]:
        code = product_code(self._random.randrange(PRODUCTS) + 1)
        price = Decimal(self._random.randrange(100, 900_000)) / 10_000
        sql = 'UPDATE "Inventory" SET "iInvSPrice" = %s WHERE "cInvCode" = %s'
        return "edit_product", code, [(sql, (price, code))]

    @property
    def _actions(self) -> list[Any]:
        return [getattr(self, f"_{name}") for name in _WEIGHTS]

    @property
    def _weights(self) -> list[int]:
        return list(_WEIGHTS.values())


#: How often people do what.
_WEIGHTS = {
    "new_order": 36,
    "approve_order": 20,
    "ship": 10,
    "stock_move": 8,
    "correct_price": 6,
    "close_order": 3,
    "delete_line": 2,
    "delete_order": 2,
    "receivable": 4,
    "purchase_request": 3,
    "approve_request": 2,
    "edit_customer": 2,
    "edit_product": 2,
}
#: Where the last number of each kind stands.
_NUMBERS = {
    "order": ("SO_SOMain", "ID"),
    "line": ("SO_SODetails", "AutoID"),
    "dispatch": ("DispatchList", "DLID"),
    "receivable": ("Ap_Vouch", "Auto_ID"),
    "request": ("PU_AppVouch", "ID"),
    "request_line": ("PU_AppVouchs", "AutoID"),
}

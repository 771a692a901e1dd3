"""A reader beside the sink never sees a part of a source transaction, also while another target is being filled."""

from __future__ import annotations

import os
import random
import threading
import time
from decimal import Decimal

import pytest

from sink_writers.sink import Position

from .conftest import DATABASES, environment_of, make_target

pytestmark = pytest.mark.integration

#: READER_SECONDS=60 is the long form.
SECONDS = float(os.environ.get("READER_SECONDS", "4"))
#: Transactions per second, and chunks of the fill beside them.
RATE, CHUNKS = 200, 20
LINE = Decimal("12.3456")

#: Each transaction writes its number to a customer, its orders and two units, and to every order and receivable the sum
#: of the order's lines.
VIOLATIONS = """
select count(*) from (
  select o.id from {order_} o left join {line} l on l.sales_order_id = o.id
   group by o.id, o.gross_amount having o.gross_amount <> coalesce(sum(l.net_amount), 0)
  union all
  select o.id from {order_} o join {customer} c on c.id = o.customer_id where o.code <> c.name
  union all
  select o.id from {order_} o left join {receivable} r on r.sales_order_id = o.id
   where r.id is null or r.due_amount <> o.gross_amount
  union all
  select u.id from {unit} u join {unit} p on p.id = u.parent_id where u.name <> p.name
  union all
  select l.sales_order_id from {line} l left join {order_} o on o.id = l.sales_order_id where o.id is null
) violations"""
TABLES = {
    "order_": "sales_order", "line": "sales_order_line", "customer": "customer", "receivable": "receivable",
    "unit": "org_unit",
}  # fmt: skip


def transaction(world, version, chance):
    """Up to 50 rows: a customer with some of its orders, 0 to 3 lines each, what is due of them, and two units."""
    number = chance.randrange(20)
    customer, text = f"erp:c{number}", str(version)
    records = [
        world.unit(f"erp:u{number}", version, parent_id=f"erp:p{number}", name=text),
        world.unit(f"erp:p{number}", version, name=text),
        world.customer(customer, version, name=text),
    ]
    for place in range(8):
        lines = dict.fromkeys(range(chance.randrange(4)), f"p{version}")
        money = {"amount": LINE * len(lines), "currency": "CNY"}
        operation = "delete" if chance.random() < 0.15 else "update"
        key = f"erp:o{number}-{place}"
        values = {"customer_id": customer, "code": text, "gross": money}
        records.append(world.order(key, version, operation, lines, **values))
        records.append(
            world.receivable(f"{key}r", version, operation, sales_order_id=key, due=money)
        )
    chance.shuffle(records)
    return world.message(*records)


class Writer(threading.Thread):
    """Applies messages at a rate, as many at a time as are due, until it is told to stop."""

    def __init__(self, target, rate, make) -> None:
        super().__init__()
        self.sink, self.place, self.rate, self.make = target.sink(), target.place, rate, make
        self.version = 0
        self.error: BaseException | None = None
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            at, began = self.sink.claim(self.place), time.monotonic()
            while not self.stopping.wait(0.002):
                due = int((time.monotonic() - began) * self.rate) - self.version
                messages = [self.make(self.version + n) for n in range(1, min(due, 200) + 1)]
                if not messages:
                    continue
                self.version += len(messages)
                to = Position(at.next_offset + len(messages), self.version, at.epoch)
                self.sink.apply(self.place, at, messages, to)
                at = to
        except BaseException as error:
            self.error = error


def read_beside(database, *writers):
    """Ask for violations in a loop while the writers write; give how many were found, and how often was asked."""
    query = VIOLATIONS.format(
        **{name: database.own(database.prefix + table) for name, table in TABLES.items()}
    )
    for writer in writers:
        writer.start()
    try:
        until, polls, found = time.monotonic() + SECONDS, 0, 0
        while time.monotonic() < until and not any(writer.error for writer in writers):
            found += database.query(query)[0][0]
            polls += 1
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join()
    print(f"{polls} polls; transactions, chunks: {[writer.version for writer in writers]}")
    assert [writer.error for writer in writers] == [None] * len(writers)
    return found, polls


@pytest.fixture(params=DATABASES)
def database(request, world):
    """A target of five tables."""
    environment = environment_of(request.param, request)
    made = make_target(request.param, world, environment, with_receivables=True)
    yield made
    made.close()


def test_a_reader_never_sees_a_part_of_a_transaction(database, world):
    chance = random.Random(1)
    writer = Writer(database, RATE, lambda version: transaction(world, version, chance))

    found, polls = read_beside(database, writer)

    assert found == 0
    assert polls > 1
    assert database.set_aside() == {}


def test_nor_while_a_second_target_is_being_filled(database, world, request):
    chance = random.Random(2)
    second = make_target(database.spec.kind, world, environment_of(database.spec.kind, request))
    second.begin_fill("f1")
    writer = Writer(database, RATE, lambda version: transaction(world, version, chance))
    filler = Writer(second, CHUNKS, lambda version: chunk(world, version))

    found, polls = read_beside(database, writer, filler)

    assert second.fill()[1] != ""
    second.close()
    assert found == 0
    assert polls > 1
    assert database.set_aside() == {}


def chunk(world, version):
    """The next chunk of a fill that never ends."""
    keys = [f"erp:{version:07d}{place}" for place in range(5)]
    records = [world.customer(key, version, "snapshot") for key in keys]
    after = f"erp:{version - 1:07d}4" if version > 1 else ""
    return world.chunk("f1", version, *records, after=after, to=keys[-1])

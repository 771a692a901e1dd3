"""A reader beside the sink never sees a part of a source transaction, also while another target is being filled."""

from __future__ import annotations

import os
import random
import threading
import time
from decimal import Decimal

import pytest

from sink_writers.sink import Position

from .conftest import environment_of, make_target

pytestmark = pytest.mark.integration

#: READER_SECONDS=60 is the long form.
SECONDS = float(os.environ.get("READER_SECONDS", "4"))
LINE = Decimal("12.3456")

#: Each transaction writes its number to a customer and its orders, and to every order the sum of its lines.
VIOLATIONS = """
select count(*) from (
  select o.id from {order_} o left join {line} l on l.sales_order_id = o.id
   group by o.id, o.gross_amount having o.gross_amount <> coalesce(sum(l.net_amount), 0)
  union all
  select o.id from {order_} o join {customer} c on c.id = o.customer_id where o.code <> c.name
  union all
  select l.sales_order_id from {line} l left join {order_} o on o.id = l.sales_order_id where o.id is null
) violations"""


def transaction(world, version, chance):
    """A customer with some of its orders, 1 to 8 of them with up to 6 lines, or without its orders."""
    number = chance.randrange(20)
    customer, text = f"erp:c{number}", str(version)
    orders = []
    for place in range(8):
        lines = dict.fromkeys(range(chance.randrange(7)), f"p{version}")
        money = {"amount": LINE * len(lines), "currency": "CNY"}
        operation = "delete" if chance.random() < 0.15 else "update"
        key = f"erp:o{number}-{place}"
        values = {"customer_id": customer, "code": text, "gross": money}
        orders.append(world.order(key, version, operation, lines, **values))
    chance.shuffle(orders)
    return world.message(*orders, world.customer(customer, version, name=text))


class Writer(threading.Thread):
    """Applies messages as fast as it can, a few at a time, until it is told to stop."""

    def __init__(self, target, make) -> None:
        super().__init__()
        self.sink, self.place, self.make = target.sink(), target.place, make
        self.version = 0
        self.error: BaseException | None = None
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            at = self.sink.claim(self.place)
            while not self.stopping.is_set():
                messages = []
                for _ in range(random.randrange(1, 8)):
                    self.version += 1
                    messages.append(self.make(self.version))
                to = Position(at.next_offset + len(messages), self.version, at.epoch)
                self.sink.apply(self.place, at, messages, to)
                at = to
        except BaseException as error:
            self.error = error


def test_a_reader_never_sees_a_part_of_a_transaction(database, world, request):
    chance = random.Random(1)
    second = make_target(database.spec.kind, world, environment_of(database.spec.kind, request))
    second.begin_fill("f1")
    writer = Writer(database, lambda version: transaction(world, version, chance))
    filler = Writer(second, lambda version: chunk(world, version))
    names = {"order_": "sales_order", "line": "sales_order_line", "customer": "customer"}
    query = VIOLATIONS.format(
        **{name: database.own(database.prefix + table) for name, table in names.items()}
    )
    writer.start(), filler.start()
    try:
        until, polls, found = time.monotonic() + SECONDS, 0, 0
        while time.monotonic() < until and not writer.error and not filler.error:
            found += database.query(query)[0][0]
            polls += 1
    finally:
        writer.stopping.set(), filler.stopping.set()
        writer.join(), filler.join()
        second.close()
    print(f"{polls} polls, {writer.version} transactions, {filler.version} chunks")

    assert (writer.error, filler.error) == (None, None)
    assert found == 0
    assert polls > 1
    assert database.set_aside() == {}


def chunk(world, version):
    """The next chunk of a fill that never ends."""
    keys = [f"erp:{version:07d}{place}" for place in range(5)]
    records = [world.customer(key, version, "snapshot") for key in keys]
    after = f"erp:{version - 1:07d}4" if version > 1 else ""
    return world.chunk("f1", version, *records, after=after, to=keys[-1])

"""A server that was restored from a backup gives its new transactions identities that were used before."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from capturing import USER, Captured

from streams.errors import OtherIncarnationError
from streams.records import SnapshotNotice
from streams.stages.decode import decode
from streams.transactions import Assembler

DATABASE, TABLE = "restored", "restored.thing"


def test_a_transaction_with_the_gtid_of_an_earlier_one_is_not_taken_for_its_repeat(
    captured: Captured,
) -> None:
    """MariaDB lets a session choose the number of its next GTID: what it writes is what a restored server would."""
    if captured.database != "mariadb":
        pytest.skip("MariaDB only: MySQL runs no transaction with a GTID that it has run")
    captured.run(
        f"CREATE DATABASE {DATABASE}",
        f"GRANT SELECT ON {DATABASE}.* TO {USER}@'%'",
        f"CREATE TABLE {TABLE} (id int PRIMARY KEY)",
    )
    own = replace(captured, name=f"{captured.name}-restored")
    own.make_topics()
    own.start(
        **{
            "table.include.list": TABLE.replace(".", "\\."),
            "database.include.list": DATABASE,
            "database.server.id": "48471",
        }
    )
    restored_at = ("SET SESSION gtid_domain_id = 9", "SET SESSION gtid_seq_no = 5")
    own.run("SET GLOBAL gtid_strict_mode = 0")  # it has no memory of what a backup does not have
    try:
        own.run(*restored_at, f"INSERT INTO {TABLE} VALUES (1)")
        time.sleep(2)  # a server is not restored within the second of its last commit
        own.run(*restored_at, f"INSERT INTO {TABLE} VALUES (2)")
    finally:
        own.run("SET GLOBAL gtid_strict_mode = 1")

    assembler, ids, waited = Assembler(), [], False
    for record in own.records(0, lambda _: False):
        event = decode(record)
        if event is None or isinstance(event, SnapshotNotice):
            continue
        try:
            closed = assembler.feed(event)
        except OtherIncarnationError:  # the lane keeps it, and waits for `tongbu incarnation`
            waited = True
            assembler.renew()
            closed = assembler.feed(event)
        if closed is not None and closed.transaction is not None:
            ids += [change.after["id"] for change in closed.transaction.changes if change.after]
        if 2 in ids:
            break

    assert ids == [1, 2]
    assert waited
    own.remove()

"""A connector that captures one more table: its new schema history, and what a change of columns does after it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from capturing import SCHEMA, SECONDS, Captured
from confluent_kafka.admin import AdminClient, NewTopic

from tongbu.deploy import schema_history


@pytest.fixture
def adding(captured: Captured) -> Iterator[Captured]:
    """A connector of its own that captures the marks and `kept`, but not `added`, beside the shared one."""
    if captured.database == "postgresql":
        pytest.skip("knows the columns from the server, without a history")
    subject = Captured(
        captured.database,
        captured.dsn,
        captured.bootstrap,
        captured.connect,
        f"adding-{captured.database}",
        _marks=3_000_000,  # others have theirs in the same table
    )
    subject.make_topics()
    subject.run(
        f"CREATE TABLE {SCHEMA}.kept (id int PRIMARY KEY, text varchar(20))",
        f"CREATE TABLE {SCHEMA}.added (id int PRIMARY KEY)",
    )
    subject.start(**_including(subject, "mark", "kept"))
    yield subject
    subject.remove()


def _including(subject: Captured, *tables: str) -> dict[str, str]:
    included = ",".join(rf"{SCHEMA}\.{table}" for table in tables)
    return {"table.include.list": included, "database.server.id": "28472"}


def test_a_column_that_comes_while_the_connector_stands_does_no_harm_after_a_table_was_added(
    adding: Captured,
) -> None:
    declared = adding.settings()[schema_history.TOPIC]
    history = schema_history.after(declared, declared)
    admin = AdminClient({"bootstrap.servers": adding.bootstrap})
    admin.create_topics([NewTopic(history, 1, 1, config={"retention.ms": "-1"})])[history].result(
        30
    )
    more = _including(adding, "mark", "kept", "added") | {schema_history.TOPIC: history}
    _configure(adding, more | {"snapshot.mode": "recovery"})
    schema_history.wait_for(adding.bootstrap, history, [f"{SCHEMA}.kept", f"{SCHEMA}.added"])
    _configure(adding, more)
    adding.until_now()  # it streams again
    since = adding.end

    adding.connect.put(f"/connectors/{adding.name}/stop").raise_for_status()
    _wait_until_in(adding, "starting")  # has no task
    adding.run(
        f"INSERT INTO {SCHEMA}.kept VALUES (1, 'before')",
        f"ALTER TABLE {SCHEMA}.kept ADD COLUMN fresh int AFTER id",
        f"INSERT INTO {SCHEMA}.kept VALUES (2, 3, 'after')",
        f"INSERT INTO {SCHEMA}.added VALUES (1)",
    )
    adding.connect.put(f"/connectors/{adding.name}/resume").raise_for_status()

    rows = [(each.table, each.after) for each in adding.changes(since)]
    assert [each for each in rows if each[0] != f"{SCHEMA}.mark"] == [
        (f"{SCHEMA}.kept", {"id": 1, "text": "before"}),
        (f"{SCHEMA}.kept", {"id": 2, "fresh": 3, "text": "after"}),
        (f"{SCHEMA}.added", {"id": 1}),
    ]


def _configure(subject: Captured, more: dict[str, str]) -> None:
    config = subject.settings() | more
    subject.connect.put(f"/connectors/{subject.name}/config", json=config).raise_for_status()
    _wait_until_in(subject, "RUNNING")


def _wait_until_in(subject: Captured, state: str) -> None:
    deadline = time.monotonic() + SECONDS
    while (found := subject.state()) != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)

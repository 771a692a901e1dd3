"""What a letter says must help: the command that it names brings its record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from schemas.codec import Decoder
from schemas.declarations import RelationalBinding
from sink_writers.messages import Record
from sink_writers.sink import Place
from sink_writers.sinks.relational import RelationalSink
from sink_writers.tables import TargetTable
from tongbu.deploy import targets

PLACE = Place("b", "canonical.customer.v1", "t1", 0)
CUSTOMER = TargetTable("customer", "canonical.customer.v1", "kunden", (), ("id",))


def binding(reads: str) -> RelationalBinding:
    """Give a binding that reads transactions, or entity by entity."""
    entities = {"customer": {"table": "kunden"}}
    spec = {
        "binding": "b",
        "kind": "mariadb",
        "dsn": "OA_DSN",
        "sources": ["erp"],
        "entities": entities,
    }
    return RelationalBinding.model_validate(spec | {"reads": reads})


class Cursor:
    """Stands for a target that holds nothing: it keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    def execute(self, *_: Any) -> None:
        pass

    def executemany(self, statement: str, rows: list[Any]) -> None:
        if statement.startswith("insert"):
            self.written += rows

    def fetchall(self) -> list[Any]:
        return []


def small_database() -> Any:
    """A database that has no room for a record."""
    return SimpleNamespace(
        tables=lambda catalog: [CUSTOMER],
        table=str,
        column=str,
        letter_key=str,
        keeps=lambda cursor, value: False,
        learn=lambda tables: None,
        mirror=None,
    )


@pytest.mark.parametrize(
    ("reads", "command"),
    [
        ("transactions", "`tongbu resync b`"),
        ("entities", "`tongbu republish customer --keys ID`"),
    ],
)
def test_a_letter_without_its_record_names_the_command_that_brings_it(
    reads: str, command: str
) -> None:
    spec = binding(reads)
    sink = RelationalSink(small_database(), spec, None, Decoder(dict))  # type: ignore[arg-type]
    letters, cursor = sink._letters, Cursor()
    letters._known[PLACE], letters._parents[PLACE] = {}, {}
    record = Record(CUSTOMER.topic, "erp:C1", "create", 7, b"large")

    letters.add(cursor, PLACE, [(CUSTOMER, record, "too large", None)])

    ((*_, reason, _, _, value),) = cursor.written
    assert value == b""
    assert f"then {command} brings it" in reason


@pytest.mark.parametrize(
    ("reads", "command"),
    [
        ("transactions", "`tongbu resync b --entity customer --entity org_unit`"),
        ("entities", "`tongbu republish customer` and `tongbu republish org_unit`"),
    ],
)
def test_a_plan_names_the_command_that_fills_new_columns(
    monkeypatch: pytest.MonkeyPatch, reads: str, command: str
) -> None:
    monkeypatch.setattr(targets.targets, "lacking", lambda *_: ([], ["customer", "org_unit"]))
    subject: Any = SimpleNamespace(catalog=None)

    told = targets._to_be_filled(subject, binding(reads))

    assert told.endswith(f"then {command}")

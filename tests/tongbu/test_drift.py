"""What `tongbu drift` says of a table that changed."""

from __future__ import annotations

from schemas.captured import Column, Table
from tongbu.drift import changes

BEFORE = Table(
    schema="public",
    name="orders",
    columns=(
        Column(name="id", type="integer", nullable=False),
        Column(name="total", type="numeric(10,2)"),
    ),
    key=("id",),
)


def _now(*columns: Column, key: tuple[str, ...] = ("id",)) -> list[str]:
    now = Table(schema="public", name="orders", columns=columns, key=key)
    return [" ".join(each) for each in changes(BEFORE, now)]


def test_a_table_that_did_not_change_has_no_difference() -> None:
    assert _now(*BEFORE.columns) == []
    assert _now(*reversed(BEFORE.columns)) == []


def test_a_renamed_column_is_guessed_by_its_type_but_never_taken_for_granted() -> None:
    found = _now(BEFORE.columns[0], Column(name="amount", type="numeric(10,2)"))

    assert found[0].startswith("column `total` is gone")
    assert "If it was renamed to `amount`" in found[0]
    assert found[1].startswith("column `amount` (numeric(10,2)) is new")


def test_type_nullability_and_key_are_compared() -> None:
    wider = Column(name="total", type="numeric(20,4)", nullable=False)

    found = _now(BEFORE.columns[0], wider, key=("id", "total"))

    assert found[0].startswith("column `total` was numeric(10,2), is numeric(20,4) NOT NULL")
    assert found[1].startswith("the primary key changed from (id) to (id, total)")

"""The rows of open transactions: in memory while they are few, and always in the state, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.held import KEPT, Held
from streams.records import Change, Position
from streams.state import State


def change(number: int) -> Change:
    """Give the change of a row."""
    position = Position((1, 0), number)
    return Change("public.head", "c", None, {"id": number}, "7", position, 1_000)


def ids(rows: object) -> list[int]:
    """Give which rows there are, in order."""
    return [each.after["id"] for each in rows]  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, KEPT, KEPT + 1, 3 * KEPT])
def test_rows_over_several_batches_are_read_in_order_before_and_after_a_restart(
    count: int, tmp_path: Path
) -> None:
    state = State(tmp_path)
    held = Held(state)
    for number in range(count):
        held.assembler.feed(change(number))
        if number % 40 == 0:
            held.store()
            state.commit(number)
    held.store()
    state.commit(count)

    assert ids(held.assembler.open["7"].rows) == list(range(count))
    assert ids(Held(state).assembler.open["7"].rows) == list(range(count))


@pytest.mark.parametrize("count", [1, KEPT, KEPT + 1])
@pytest.mark.parametrize("restarted", [False, True])
def test_nothing_of_rows_that_are_read_stays_in_the_state(
    count: int, restarted: bool, tmp_path: Path
) -> None:
    state = State(tmp_path)
    held = Held(state)
    for number in range(count):
        held.assembler.feed(change(number))
    held.store()
    state.commit(1)
    if restarted:
        held = Held(state)

    rows = held.assembler.open.pop("7").rows
    rows.forget()
    assert ids(rows) == list(range(count))
    held.store()
    state.commit(2)
    assert list(state.iterate(b"row\0")) == []

"""From a log as capture makes it, with cuts and repeats, to transactions: whole, once, in order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import OtherIncarnationError
from streams.records import Begin, Change, Ddl, End, Event, Position
from streams.transactions import Assembler


@dataclass(frozen=True)
class Model:
    """A source transaction as the source committed it."""

    id: str
    places: tuple[int, ...]
    end: int

    def events(self, start: int = 0) -> list[Event]:
        rows: list[Event] = [
            Change("t", "c", None, {"n": place}, self.id, Position((place, 0), 0), 1)
            for place in self.places[start:]
        ]
        return [Begin(self.id), *rows, End(self.id, f"{self.id}:{self.end}", self.end)]


@st.composite
def transactions(draw: st.DrawFn) -> list[Model]:
    place, models = 0, []
    for number in range(draw(st.integers(1, 6))):
        size = draw(st.integers(1, 5))
        places = tuple(range(place + 1, place + size + 1))
        place += size + 1
        models.append(Model(str(100 + number), places, place))
    return models


def run(events: list[Event]) -> tuple[list[tuple[str, list[int]]], list[str]]:
    assembler, whole, lost = Assembler(), [], []
    for event in events:
        closed = assembler.feed(event)  # type: ignore[arg-type]
        if closed is None:
            continue
        lost += closed.lost
        if closed.transaction is not None:
            rows = [change.position.place[0] for change in closed.transaction.changes]
            whole.append((str(closed.transaction.id), rows))
    return whole, lost


@given(transactions(), st.data())
def test_every_transaction_comes_once_whole_and_in_order_whatever_restarts_repeat(
    models: list[Model], data: st.DataObject
) -> None:
    log = [event for model in models for event in model.events()]
    cut = data.draw(st.integers(0, len(log)))
    back = data.draw(st.integers(0, len(models) - 1))
    begun = sum(isinstance(event, Begin) for event in log[:cut])
    resumed_at = max(0, min(begun - 1, len(models) - 1) - back)
    repeated = [event for model in models[resumed_at:] for event in model.events()]

    whole, lost = run(log[:cut] + repeated)

    assert whole == [(model.id, list(model.places)) for model in models]
    assert lost == []


@given(transactions(), st.data())
def test_a_transaction_of_which_only_the_tail_comes_again_is_whole(
    models: list[Model], data: st.DataObject
) -> None:
    last = models[-1]
    seen = data.draw(st.integers(1, len(last.places)))
    tail = data.draw(st.integers(0, seen))
    before = [event for model in models[:-1] for event in model.events()]

    whole, lost = run([*before, *last.events()[: 1 + seen], *last.events(tail)])

    assert whole == [(model.id, list(model.places)) for model in models]
    assert lost == []


@given(transactions(), st.data())
def test_any_number_of_restarts_wherever_they_cut_loses_and_doubles_nothing(
    models: list[Model], data: st.DataObject
) -> None:
    """Each restart goes back to some BEGIN at or before the cut, or sends only a tail that overlaps what was sent."""
    log: list[Event] = []
    at, row = 0, 0  # the transaction that is being sent, and the first of its rows to send
    sent = [0] * len(models)  # how many rows of each were ever sent
    for _ in range(data.draw(st.integers(0, 5))):
        rest = [event for model in models[at:] for event in model.events()]
        rest[1 : 1 + row] = []
        cut = data.draw(st.integers(1, len(rest)))
        log += rest[:cut]
        reached, left = at, cut
        while reached < len(models) - 1 and left > len(models[reached].events(row)):
            sent[reached] = len(models[reached].places)
            left, row = left - len(models[reached].events(row)), 0
            reached += 1
        sent[reached] = max(sent[reached], min(row + left - 1, len(models[reached].places)))
        back = data.draw(st.integers(0, reached))
        row = data.draw(st.integers(0, sent[reached])) if back == 0 else 0
        at = reached - back
    last = [event for model in models[at:] for event in model.events()]
    last[1 : 1 + row] = []

    whole, lost = run([*log, *last])

    assert whole == [(model.id, list(model.places)) for model in models]
    assert lost == []


def test_a_transaction_cut_off_for_good_is_a_named_loss() -> None:
    first, second = Model("1", (1, 2), 3), Model("2", (4,), 5)

    whole, lost = run([*first.events()[:2], *second.events()])

    assert whole == [("2", [4])]
    assert lost == ["1"]


def test_an_empty_bracket_that_mariadb_repeats_after_a_restart_changes_nothing() -> None:
    one = Model("0-7-13", (1, 2), 0)
    repeated: list[Event] = [Begin("0-7-13"), End("0-7-13", "0-7-13", 0)]

    whole, _ = run([*one.events()[:-1], End("0-7-13", "0-7-13", 0), *repeated])

    assert whole == [("0-7-13", [1, 2])]


def test_ddl_and_truncate_close_a_mariadb_bracket_that_has_no_end() -> None:
    truncate = Change("t", "t", None, None, "0-7-15", Position((1, 900), 0), 1)

    whole, _ = run(
        [
            Begin("0-7-14"),
            Ddl(),
            Begin("0-7-15"),
            truncate,
            Begin("0-7-16"),
            End("0-7-16", "0-7-16", 0),
        ]
    )

    assert [id_ for id_, _ in whole] == ["0-7-14", "0-7-15", "0-7-16"]


def test_both_halves_of_a_key_change_at_one_mariadb_place_are_kept_when_cut_between_them() -> None:
    place = Position((1, 700), 0)
    gone = Change("t", "d", {"id": 1}, None, "g", place, 1, moved_to={"id": 2})
    came = Change("t", "c", None, {"id": 2}, "g", place, 1, moved_from={"id": 1})
    events: list[Event] = [Begin("g"), gone, Begin("g"), gone, came, End("g", "g", 0)]

    assembler = Assembler()
    closed = [assembler.feed(event) for event in events][-1]  # type: ignore[arg-type]

    assert closed is not None
    assert closed.transaction is not None
    assert closed.transaction.changes == [gone, came]


GTID = "0-7-401"


def _committed(second: int, operation: str = "c") -> list[Event]:
    """A transaction of MariaDB with the GTID, committed at a second; a truncate has no END."""
    place = Position((1, 700 + second), 0)
    row = Change("t", operation, None, {"n": second}, GTID, place, second * 1_000_000)
    return [Begin(GTID), row, *([] if operation == "t" else [End(GTID, GTID, 0)])]


@pytest.mark.parametrize("operation", ["c", "t"])
def test_a_restored_server_that_uses_an_identity_again_is_another_incarnation_and_no_repeat(
    operation: str,
) -> None:
    assembler = Assembler()
    before, after = _committed(0, operation), _committed(600, operation)
    for event in [*before, *before, *after[:-1]]:
        assembler.feed(event)  # type: ignore[arg-type]
    with pytest.raises(OtherIncarnationError, match=GTID):
        assembler.feed(after[-1])  # type: ignore[arg-type]

    assembler.renew()

    closed = assembler.feed(after[-1])  # type: ignore[arg-type]
    assert closed is not None
    assert closed.transaction is not None
    assert [change.committed_at for change in closed.transaction.changes] == [600_000_000]

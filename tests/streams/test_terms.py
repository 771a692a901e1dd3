"""A lane goes to and fro between workers that have a state each: the last record of every id is its newest."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lanes import Log, Reader, head
from offline import OTHER, PLACE, World, messages

from streams import opening
from streams.flight import OwnedLane
from streams.opening import Opener
from streams.outputs import Batch
from streams.records import Output
from streams.settings import Settings
from streams.state import State
from streams.terms import Committed, continues

#: Orders, all of them created and then all of them changed so often.
ORDERS, CHANGES = 12, 3
WORKERS = ("w1", "w2")


@pytest.mark.parametrize(
    ("position", "term", "committed", "expected"),
    [
        (40, "a", Committed(30, "a"), True),
        (40, "a", Committed(30, "b"), False),
        (30, "a", Committed(30, "b"), True),
        (40, None, Committed(30, "b"), False),
        (40, "a", Committed(30, ""), True),
        (0, None, Committed(), True),
    ],
)
def test_a_state_is_gone_on_with_in_its_term_or_where_it_is_not_beyond_what_is_committed(
    position: int, term: str | None, committed: Committed, expected: bool
) -> None:
    assert continues(position, term, committed) is expected


@cache
def _log() -> Log:
    log = Log().start()
    for change in range(CHANGES):
        for number in range(ORDERS):
            log.transaction(("u" if change else "c", "head", head(number, note=f"{change}")))
    return log


def _last(outputs: Iterable[Output]) -> dict[Any, Any]:
    """Give the last record of every id."""
    return {each.key: each.value for each in outputs if each.topic == "canonical.order.v1"}


@dataclass
class Group:
    """What Kafka has: what the group has committed, and what was published."""

    committed: Committed = field(default_factory=Committed)
    published: list[Output] = field(default_factory=list)


@dataclass(frozen=True)
class Batched:
    """A batch in a term: how many records, and what becomes of it."""

    records: int
    is_landed: bool
    is_committed: bool
    is_copied: bool


TO_THE_END = Batched(ORDERS * CHANGES * 4, True, True, False)


@dataclass(frozen=True)
class Term:
    """A worker has the lane for a while."""

    worker: str
    has_begun: bool
    batches: list[Batched]
    is_left: bool


def _terms(chance: random.Random) -> list[Term]:
    """Make up a history: the lane goes to and fro, mostly."""

    def often(share: float) -> bool:
        return chance.random() < share

    terms = []
    worker = 0
    for _ in range(chance.randint(2, 6)):
        worker = (worker + often(0.8)) % len(WORKERS)
        batches = [
            Batched(chance.randint(5, 50), often(0.8), often(0.3), often(0.15))
            for _ in range(chance.randint(1, 3))
        ]
        terms.append(Term(WORKERS[worker], often(0.9), batches, often(0.35)))
    return [*terms, Term(chance.choice(WORKERS), True, [TO_THE_END], True)]


class Hub:
    """Workers with a state each, and checkpoints in common; the lane is opened as a processor opens it."""

    def __init__(self, folder: Path) -> None:
        self.group, self.log = Group(), _log()
        #: Where each term began to read.
        self.starts: list[int] = []
        clean = Reader(folder)
        self.clean = clean.run(self.log)
        clean.state.close()
        self.openers = {name: self._opener(folder, name) for name in WORKERS}

    def _opener(self, folder: Path, name: str) -> Opener:
        data = folder / name
        data.mkdir()
        (data / "dead-letter.key").write_bytes((folder / "key").read_bytes())
        found = Settings(
            kafka_bootstrap="127.0.0.1:1", tongbu_data=data, tongbu_checkpoints=folder / "kept"
        )
        return Opener(found, {"erp": SimpleNamespace(partition=0)})  # type: ignore[dict-item]

    def run(self, term: Term) -> None:
        owned = self.openers[term.worker].open(PLACE, self.group.committed)
        self.starts.append(owned.next)
        self.group.committed = owned.claim
        if term.has_begun:
            owned.begin()
            for each in term.batches:
                self._batch(owned, each, self.openers[term.worker])
            if term.is_left:
                self._leave(owned)
        owned.close()

    def _batch(self, owned: OwnedLane, wanted: Batched, opener: Opener) -> None:
        batch = Batch(messages(self.log.records[owned.next : owned.next + wanted.records]))
        self.group.published += [each for each in owned.make(batch) if each is not None]
        owned.depart(batch)
        if wanted.is_landed:
            self._land(owned)
        if wanted.is_committed:
            self._commit(owned)
        if wanted.is_copied and owned.state.position is not None:
            opener.checkpoints(PLACE).make(owned.state, owned.state.position)

    def _land(self, owned: OwnedLane) -> None:
        while owned.batches:
            owned.land()

    def _commit(self, owned: OwnedLane) -> None:
        if (owned.state.position or 0) > self.group.committed.offset:
            self.group.committed = Committed(owned.state.position or 0, owned.term)

    def _leave(self, owned: OwnedLane) -> None:
        self._land(owned)
        self._commit(owned)
        if owned.silent:
            self.group.committed = owned.committed


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(Opener, "_topic_id", lambda *_: "t1")
    monkeypatch.setattr(Opener, "first_offset", lambda *_: 0)
    return Hub(tmp_path)


@pytest.mark.parametrize("seed", range(80))
def test_the_last_record_of_an_id_is_its_newest_whoever_had_the_lane_how_far(
    seed: int, hub: Hub
) -> None:
    for term in _terms(random.Random(seed)):
        hub.run(term)

    assert _last(hub.group.published) == _last(hub.clean)


def test_a_worker_that_died_before_its_first_commit_has_published_all_the_same(hub: Hub) -> None:
    hub.run(Term("w1", True, [Batched(100, True, False, False)], False))
    hub.run(Term("w2", True, [Batched(60, False, False, False)], False))
    hub.run(Term("w1", True, [TO_THE_END], True))

    assert _last(hub.group.published) == _last(hub.clean)


def test_a_state_that_is_ahead_is_of_use_still_where_the_other_worker_had_published_nothing(
    hub: Hub,
) -> None:
    hub.run(
        Term("w1", True, [Batched(30, True, True, False), Batched(50, True, False, False)], False)
    )
    hub.run(Term("w2", True, [Batched(20, True, True, False)], True))
    hub.run(Term("w1", True, [], False))
    hub.run(Term("w2", True, [Batched(60, True, True, False)], True))
    hub.run(Term("w1", True, [TO_THE_END], True))

    assert hub.starts == [0, 0, 80, 20, 80]
    assert _last(hub.group.published) == _last(hub.clean)


def test_a_term_begins_where_its_state_is_or_where_more_is_committed(hub: Hub) -> None:
    hub.run(Term("w1", True, [Batched(30, True, False, False)], False))
    for name, start in (("w1", 30), ("w2", 30)):
        owned = hub.openers[name].open(PLACE, hub.group.committed)
        assert owned.claim == (start, owned.term)
        assert not owned.silent, "it has not begun"
        hub.group.committed = owned.claim
        owned.close()


@pytest.mark.parametrize(
    ("first", "kept", "expected"),
    [(0, None, None), (0, 3, 3), (3, 3, 3), (5, None, 40), (5, 3, 40)],
)
def test_a_state_that_gives_way_does_so_to_what_the_log_can_be_read_on_from(
    first: int,
    kept: int | None,
    expected: int | None,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(opening.log, "warning", lambda event, **_: told.append(event))
    opener = hub.openers["w1"]
    state = State(opener._settings.state_folder / "cdc.erp")
    if kept is not None:
        state.commit(kept)
        opener.checkpoints(PLACE).make(state, kept)
    state.begin("mine")
    state.commit(40)
    state.close()

    found = opener._state("cdc.erp", "t1", Committed(30, "theirs"), first)

    assert found.position == expected
    assert ("tongbu republish" in told[-1]) == (expected == 40)


def test_a_lane_that_cant_go_on_from_its_state_claims_and_commits_nothing(tmp_path: Path) -> None:
    """Its position is one of another log: below it the records of the present one would be muted."""
    owner = World(tmp_path).processor
    owner.open({PLACE, OTHER}, {})
    owner.lanes[PLACE].stop("its state is of another topic")

    assert owner.claims().keys() == {OTHER}
    owner.begin()

    assert (owner.position(PLACE), owner.term(PLACE)) == (None, None)
    assert owner.term(OTHER) == owner.lanes[OTHER].term
    for owned in owner.lanes.values():
        owned.close()

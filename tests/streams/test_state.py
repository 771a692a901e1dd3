"""The state of a lane against a model: what is read is what was written, committed or not."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams import state as states
from streams.state import State, Writes, join

TABLES = ("a", "ab", "b")
#: Few keys, some of them prefixes of others, so that operations meet.
KEYS = st.sampled_from(
    [join("img", table, key) for table in TABLES for key in ["1", "10", "2", "Z", "单"]]
)
PREFIXES = st.sampled_from([join("img", table, "") for table in TABLES] + [b"img\0", b"none\0"])
AFTER = st.sampled_from([b"", b"1", b"10", b"15", b"2", "单".encode(), b"\xff"])
VALUES = st.one_of(
    st.integers(0, 9),
    st.just([]),
    st.just(False),
    st.just(""),
    st.dictionaries(st.text(), st.text()),
)


class AgainstModel(RuleBasedStateMachine):
    """`seen` is what a reader must see, `durable` what must survive the end of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.state = State(self.folder)
        self.seen: dict[bytes, Any] = {}
        self.durable: dict[bytes, Any] = {}
        self.position: int | None = None
        self.sealed: list[tuple[Writes, dict[bytes, Any]]] = []
        self.read = 0

    @rule(key=KEYS, value=VALUES)
    def put(self, key: bytes, value: Any) -> None:
        self.state.put(key, value)
        self.seen[key] = value

    @rule(key=KEYS)
    def remove(self, key: bytes) -> None:
        self.state.put(key, None)
        self.seen.pop(key, None)

    @rule(step=st.integers(1, 2**40))
    def commit(self, step: int) -> None:
        self.seal(step)
        self.write_all()

    @rule(step=st.integers(1, 2**40))
    def seal(self, step: int) -> None:
        """End a batch whose outputs are under way."""
        self.read += step
        self.sealed.append((self.state.seal(self.read), dict(self.seen)))
        if self.state.set_down:
            self.write_all()

    @rule(count=st.integers(1, 3))
    def write(self, count: int) -> None:
        """The outputs of the oldest batches are delivered."""
        delivered, self.sealed = self.sealed[:count], self.sealed[count:]
        if not delivered:
            return
        together = [sealed for sealed, _ in delivered]
        self.state.write(*together)
        while self.state.settle():  # a large batch is in its place before another begins
            pass
        for sealed in together:
            self.state.retire(sealed)
        last, self.durable = delivered[-1]
        self.position = last.position

    def write_all(self) -> None:
        self.write(len(self.sealed))

    @rule()
    def discard(self) -> None:
        self.state.discard()
        self.forget()

    def forget(self) -> None:
        self.seen, self.sealed, self.read = dict(self.durable), [], self.position or 0

    @rule()
    def lose_what_is_not_committed(self) -> None:
        self.state.close()
        self.state = State(self.folder)
        self.forget()

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.state.get(key) == self.seen.get(key)

    @rule(prefix=PREFIXES, after=AFTER, limit=st.none() | st.integers(1, 6))
    def scan(self, prefix: bytes, after: bytes, limit: int | None) -> None:
        expected = [
            (key, value)
            for key, value in sorted(self.seen.items())
            if key.startswith(prefix) and (not after or key > prefix + after)
        ]
        assert self.state.scan(prefix, after, limit) == expected[:limit]

    @invariant()
    def position_is_that_of_the_last_commit(self) -> None:
        assert self.state.position == self.position

    def teardown(self) -> None:
        self.state.close()
        shutil.rmtree(self.folder)


TestStateAgainstAModel = AgainstModel.TestCase
TestStateAgainstAModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class WithLargeBatches(AgainstModel):
    """The same where a batch of four writes is too large for memory."""

    def __init__(self) -> None:
        super().__init__()
        self.limit, states.SET_DOWN_WRITES = states.SET_DOWN_WRITES, 4

    def teardown(self) -> None:
        states.SET_DOWN_WRITES = self.limit
        super().teardown()


TestLargeBatchesAgainstAModel = WithLargeBatches.TestCase
TestLargeBatchesAgainstAModel.settings = TestStateAgainstAModel.settings


def _with_a_large_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setattr(states, "SET_DOWN_WRITES", 10)
    state = State(folder)
    state.put(b"k000", "old")
    state.commit(1)
    for number in range(35):
        state.put(b"k%03d" % number, number)
    return state


def test_a_large_batch_whose_write_is_interrupted_is_whole_after_the_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _with_a_large_batch(tmp_path, monkeypatch)
    state.write(state.seal(2))
    state.close()  # nothing has moved to its place: `settle` was not called

    again = State(tmp_path)
    assert again.position == 2
    assert [value for _, value in again.scan(b"k")] == list(range(35))


def test_a_large_batch_that_was_never_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _with_a_large_batch(tmp_path, monkeypatch)
    state.close()

    again = State(tmp_path)
    assert again.position == 1
    assert again.scan(b"k") == [(b"k000", "old")]


def test_pages_of_a_scan_that_goes_on_after_the_last_key_give_every_entry_once(
    tmp_path: Path,
) -> None:
    state, prefix = State(tmp_path), join("img", "t", "")
    for number in range(50):
        state.put(prefix + b"%03d" % number, number)
        if number == 30:
            state.commit(1)
    for number in range(0, 50, 7):
        state.put(prefix + b"%03d" % number, None)

    found: list[int] = []
    after = b""
    while page := state.scan(prefix, after, limit=4):
        found += [value for _, value in page]
        after = page[-1][0].removeprefix(prefix)
        assert len(found) <= 50, "the same page again"

    assert found == [number for number in range(50) if number % 7]


def test_a_table_whose_name_begins_with_anothers_is_another(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.put(join("img", "order", "1"), "order")
    state.put(join("img", "order_line", "1"), "line")

    assert [value for _, value in state.scan(join("img", "order", ""))] == ["order"]


def test_a_fresh_state_has_no_position_and_a_committed_one_keeps_it(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert state.position is None
    state.commit(0)
    state.close()

    assert State(tmp_path).position == 0

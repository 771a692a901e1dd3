"""The verdict on the processor's rounds: what is missing, too much, out of order or behind is found; repeats are harmless."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.faults.verdict import (
    Verdict,
    _check_last,
    _compare,
    _compare_order,
    _compare_states,
)
from bench.lane_log import Log, head
from streams.lane import Lane
from streams.records import Output
from streams.seal import Seal
from streams.state import State

A, B, C = ((name, name) for name in (b"a", b"b", b"c"))


@pytest.mark.parametrize(
    ("found", "counted"),
    [
        ([A, B], (0, 0, 0)),
        ([A, B, A], (0, 0, 1)),
        ([A], (1, 0, 0)),
        ([A, B, C], (0, 1, 0)),
    ],
)
def test_each_output_of_a_clean_run_is_there_and_no_other(
    found: list[tuple[bytes, bytes | None]], counted: tuple[int, int, int]
) -> None:
    verdict = Verdict()
    _compare("topic", [A, B], found, verdict)
    assert (verdict.lost, verdict.doubled, verdict.repeats) == counted


@pytest.mark.parametrize(
    ("found", "wrong"), [([A, B, C], 0), ([A, B, A, B, C], 0), ([A, C, B], 2), ([B, A, B, C], 2)]
)
def test_messages_come_in_commit_order_when_repeats_are_dropped(
    found: list[tuple[bytes, bytes | None]], wrong: int
) -> None:
    verdict = Verdict()
    _compare_order([A, B, C], found, verdict)
    assert verdict.mismatched == wrong


@dataclass
class Message:
    """A record as a reader of a topic gets it."""

    output: Any

    def key(self) -> bytes:
        return bytes(self.output.key)

    def value(self) -> bytes | None:
        value: bytes | None = self.output.value
        return value

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


def _run(folder: Path, notes: list[str]) -> list[Output]:
    """Let an order's note change; give what a lane published of it."""
    log, state = Log().start(), State(folder)
    lane = Lane("erp", 0, state, Seal(None), None)
    for note in notes:
        log.transaction(("c", "head", head(1, note=note)))
    made = [out for record in log.records for out in lane.process(record) if out is not None]
    lane.end_batch()
    state.commit(len(log.records))
    state.close()
    return [out for out in made if out.topic == "canonical.order.v1"]


def test_an_id_whose_last_record_is_not_its_newest_is_found(tmp_path: Path) -> None:
    older, newer = map(Message, _run(tmp_path, ["one", "two"]))
    for messages, behind in (([older, newer], 0), ([older, older, newer], 0), ([newer, older], 1)):
        verdict = Verdict()
        _check_last(messages, verdict)
        assert verdict.mismatched == behind


@pytest.mark.parametrize(
    ("states", "is_equal"),
    [
        ({"w1": ["one", "two"]}, True),
        ({"w1": ["one"], "w2": ["one", "two"]}, True),
        ({"w1": ["one", "three"]}, False),
        ({"w1": ["one"]}, False),
        ({}, False),
    ],
)
def test_of_a_lane_the_state_that_is_furthest_is_compared_entry_by_entry(
    tmp_path: Path, states: dict[str, list[str]], *, is_equal: bool
) -> None:
    _run(tmp_path / "clean", ["one", "two"])
    for name, notes in states.items():
        (tmp_path / name / "state/run").mkdir(parents=True)
        _run(tmp_path / name / "state/run/cdc.erp", notes)
    workers = [SimpleNamespace(folder=tmp_path / name) for name in ("w1", "w2")]
    arena: Any = SimpleNamespace(prefix="run.", workers=workers)
    verdict = Verdict()
    _compare_states(arena, "erp", tmp_path / "clean", verdict)
    assert (verdict.mismatched == 0) is is_equal

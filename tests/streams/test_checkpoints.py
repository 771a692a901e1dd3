"""A lane whose disk is lost goes on from its latest checkpoint, and makes the same bytes as one that lost nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lanes import Log, Reader, head, line

from schemas import control
from streams import opening
from streams.checkpoints import Checkpoints
from streams.lane import Lane
from streams.opening import Opener
from streams.records import Output
from streams.settings import Settings
from streams.terms import Committed


def orders(log: Log, first: int, count: int) -> None:
    for number in range(first, first + count):
        log.transaction(("c", "head", head(number)), ("c", "line", line(number, number)))


def test_a_restored_lane_goes_on_with_the_log_from_its_checkpoint_and_makes_the_same(
    tmp_path: Path,
) -> None:
    log = Log().start()
    orders(log, 1, 20)
    log.begin(7)
    log.row("c", "head", head(500), xid=7)  # a transaction that is open when the checkpoint is made
    reader = Reader(tmp_path)
    reader.run(log)
    kept = Checkpoints(tmp_path / "checkpoints", "cdc.erp", keep=2)
    place = reader.state.position or 0
    kept.make(reader.state, place)
    log.end(7)
    orders(log, 21, 20)
    log.transaction(("u", "head", head(3, state=1)))
    expected: list[Output] = reader.run(log)
    reader.state.close()
    shutil.rmtree(tmp_path / "state")

    kept.restore(place, tmp_path / "state")
    restored = Reader(tmp_path)

    assert restored.state.position == place
    assert restored.run(log) == expected


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    log = Log().start()
    reader = Reader(tmp_path)
    kept = Checkpoints(tmp_path / "checkpoints", "cdc.erp", keep=2)
    places = []
    for number in range(4):
        orders(log, number + 1, 1)
        reader.run(log)
        places.append(reader.state.position or 0)
        kept.make(reader.state, places[-1])

    assert kept.positions() == places[-2:]


def test_a_lane_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nowhere", "cdc.erp", keep=2).positions() == []


@pytest.mark.parametrize(
    ("topic", "topic_id"), [("cdc.erp", "another"), ("cdc.oa", "t1")], ids=["topic", "lane"]
)
def test_a_checkpoint_of_another_topic_or_lane_is_refused_by_name_and_an_older_fitting_one_is_taken(
    tmp_path: Path, topic: str, topic_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints/live"
    fitting = Log()
    fitting.control(control.Lane(source=topic.removeprefix("cdc."), epoch=1, topic_id=topic_id))
    foreign = Log().start()
    orders(foreign, 1, 5)
    for name, log in (("fitting", fitting), ("foreign", foreign)):
        (tmp_path / name).mkdir()
        reader = Reader(tmp_path / name)
        reader.lane.topic_id = None
        reader.run(log)
        Checkpoints(folder, topic, keep=3).make(reader.state, reader.state.position or 0)
        reader.state.close()
    settings = Settings(kafka_bootstrap="127.0.0.1:1", tongbu_data=tmp_path)
    told: list[str] = []
    monkeypatch.setattr(
        opening.log, "warning", lambda event, **named: told.append(f"{event} {named}")
    )

    state = Opener(settings, {})._state(topic, topic_id, Committed(), first=0)

    assert state.position == 1
    (refused,) = told
    assert f"{topic}/{len(foreign.records)}" in refused


def test_a_lane_whose_state_is_of_another_topic_stops_and_says_what_to_do(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.run(Log().start())
    lane = Lane("erp", 0, reader.state, reader.seal, "another")
    assert lane.unfit is not None
    assert "tongbu apply" in lane.unfit

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


def test_checkpoints_of_an_earlier_topic_of_the_name_do_not_push_out_those_of_the_present_one(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "checkpoints"
    places: dict[str, list[int]] = {}
    for topic_id, transactions in (("earlier", 5), ("present", 1)):
        (tmp_path / topic_id).mkdir()
        reader, log = Reader(tmp_path / topic_id), Log()
        reader.lane.topic_id = None
        log.control(control.Lane(source="erp", epoch=1, topic_id=topic_id))
        kept, places[topic_id] = Checkpoints(folder, "cdc.erp", keep=2), []
        for number in range(transactions):
            orders(log, number, 1)
            reader.run(log)
            places[topic_id].append(reader.state.position or 0)
            kept.make(reader.state, places[topic_id][-1])
        reader.state.close()
    assert places["present"] == places["earlier"][:1]  # of another log, under the same name

    assert kept.positions() == places["present"]
    lane = kept.standing(places["present"][0]).lane
    assert lane is not None
    assert lane["topic_id"] == "present"


def test_a_checkpoint_at_a_position_of_an_earlier_topic_takes_its_place(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "checkpoints", "cdc.erp", keep=2)
    for topic_id in ("earlier", "present"):
        (tmp_path / topic_id).mkdir()
        reader, log = Reader(tmp_path / topic_id), Log()
        reader.lane.topic_id = None
        log.control(control.Lane(source="erp", epoch=1, topic_id=topic_id))
        reader.run(log)
        kept.make(reader.state, 1)
        reader.state.close()

    lane = kept.standing(1).lane
    assert lane is not None
    assert lane["topic_id"] == "present"


def test_a_damaged_checkpoint_does_not_keep_new_ones_from_being_made(tmp_path: Path) -> None:
    damaged = tmp_path / "checkpoints/cdc.erp" / f"{1:020d}"
    damaged.mkdir(parents=True)
    log = Log().start()
    reader = Reader(tmp_path)
    reader.run(log)
    kept = Checkpoints(tmp_path / "checkpoints", "cdc.erp", keep=2)

    kept.make(reader.state, reader.state.position or 0)

    assert kept.positions() == [1, len(log.records)]


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
        Checkpoints(tmp_path / name, topic, keep=3).make(reader.state, reader.state.position or 0)
        reader.state.close()
        shutil.copytree(tmp_path / name / topic, folder / topic, dirs_exist_ok=True)
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

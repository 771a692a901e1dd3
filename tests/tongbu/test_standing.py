"""A lane log that is older than its retention, recorded and replayed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pytest
from lanes import Log, Reader, head

from schemas.errors import TongbuError
from streams.checkpoints import Checkpoints
from streams.records import LaneRecord
from streams.settings import Settings
from tongbu import commands, lane_files, standing, topics
from tongbu.lane_files import Recorded
from tongbu.replay_log import since


def recorded(records: Iterable[LaneRecord]) -> list[Recorded]:
    return [
        Recorded(
            topic="cdc.erp", partition=0, offset=each.offset, timestamp=1000 + each.offset,
            key=each.key, value=each.value, headers=each.headers,
        )
        for each in records
    ]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(kafka_bootstrap="none", tongbu_data=tmp_path)


@pytest.fixture
def log() -> Log:
    """A log whose retention has passed all before its second transaction (`kept`)."""
    log = Log().start()
    for number in range(1, 4):
        log.transaction(("c", "head", head(number)))
    return log


def kept(log: Log) -> list[Recorded]:
    return recorded(log.records)[6:]


def checkpointed(settings: Settings, log: Log) -> None:
    reader = Reader(settings.tongbu_data)
    reader.run(log)
    folder = Checkpoints(settings.checkpoint_folder, "cdc.erp", keep=3)
    folder.make(reader.state, reader.state.position or 0)
    reader.state.close()


def test_a_log_that_has_lost_what_is_in_force_is_recorded_with_it(
    tmp_path: Path, settings: Settings, log: Log
) -> None:
    checkpointed(settings, log)

    found = list(standing.completed(kept(log), standing.of_checkpoints(settings)))

    assert [(each.key, each.value) for each in found[:3]] == [
        (each.key, each.value) for each in log.records[:3]
    ]
    assert {each.offset for each in found[:3]} == {5}
    assert found[3:] == kept(log)
    assert list(standing.checked(found)) == found


def test_its_replay_makes_of_what_is_left_the_same_as_the_lane_did(
    tmp_path: Path, settings: Settings, log: Log
) -> None:
    checkpointed(settings, log)
    (tmp_path / "live").mkdir()
    expected = Reader(tmp_path / "live").run(log)
    replayed = Log()
    replayed.records = [
        LaneRecord("cdc.erp", each.offset, each.timestamp, each.key, each.value, each.headers)
        for each in standing.completed(kept(log), standing.of_checkpoints(settings))
    ]
    (tmp_path / "replay").mkdir()
    reader = Reader(tmp_path / "replay")

    found = reader.run(replayed)

    assert [record["id"] for record in reader.records(found)] == ["erp:SO2", "erp:SO3"]
    assert [each.value for each in found] == [each.value for each in expected[-len(found) :]]


def test_a_log_since_a_time_has_it_too(settings: Settings, log: Log) -> None:
    checkpointed(settings, log)
    whole = standing.completed(kept(log), standing.of_checkpoints(settings))

    found = list(since(whole, 1000 + 9))

    assert [each.key for each in found[:3]] == list(standing.KEYS)
    assert found[3:] == kept(log)[3:]


def test_a_log_from_its_first_record_on_is_as_it_is(settings: Settings, log: Log) -> None:
    whole = recorded(log.records)
    assert list(standing.completed(whole, standing.of_checkpoints(settings))) == whole
    assert list(standing.completed([], standing.of_checkpoints(settings))) == []


def test_without_a_checkpoint_the_remedy_is_named(settings: Settings, log: Log) -> None:
    with pytest.raises(TongbuError, match=r"cdc\.erp begins at offset 6") as error:
        list(standing.completed(kept(log), standing.of_checkpoints(settings)))
    assert "TONGBU_CHECKPOINTS" in error.value.remedy


def test_a_recording_without_what_was_in_force_is_refused(log: Log) -> None:
    with pytest.raises(TongbuError, match=r"can't be replayed: cdc\.erp begins at offset 6"):
        list(standing.checked(kept(log)))


def test_record_writes_it_and_replay_reads_it_or_refuses(
    tmp_path: Path, settings: Settings, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointed(settings, log)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "none")
    monkeypatch.setenv("TONGBU_DATA", str(tmp_path))
    monkeypatch.delenv("TONGBU_CHECKPOINTS", raising=False)
    monkeypatch.setattr(commands, "complete_environment", lambda _: None)
    monkeypatch.setattr(topics, "starts", lambda _, names: dict.fromkeys(names, 0))
    monkeypatch.setattr(topics, "ends", lambda _, names: dict.fromkeys(names, 0))
    monkeypatch.setattr(
        lane_files, "from_topic",
        lambda _, topic, on_record=None: iter(kept(log) if topic == "cdc.erp" else ()),
    )  # fmt: skip

    commands.record(tmp_path / "log.zst")

    written = list(lane_files.read(tmp_path / "log.zst"))
    assert [each.key for each in written[:3]] == list(standing.KEYS)
    assert list(commands._records(tmp_path / "log.zst", None, "none")) == written
    assert list(commands._records(None, datetime.fromtimestamp(0), "none")) == written
    lane_files.write(tmp_path / "lost.zst", kept(log))
    with pytest.raises(TongbuError, match="Record it again"):
        list(commands._records(tmp_path / "lost.zst", None, "none"))

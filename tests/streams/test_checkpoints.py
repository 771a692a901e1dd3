"""A lane whose disk is lost goes on from its latest checkpoint, and makes the same bytes as one that lost nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from lanes import Log, Reader, head, line

from streams.checkpoints import Checkpoints
from streams.records import Output


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

    assert kept.restore(tmp_path / "state") == place
    restored = Reader(tmp_path)

    assert restored.state.position == place
    assert restored.run(log) == expected


def test_only_the_last_checkpoints_are_kept_and_the_latest_is_restored(tmp_path: Path) -> None:
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
    assert kept.restore(tmp_path / "elsewhere") == places[-1]


def test_a_lane_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nowhere", "cdc.erp", keep=2).positions() == []

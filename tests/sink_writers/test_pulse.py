"""What a sink writer's notes tell those who look from outside."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sink_writers import pulse
from sink_writers.pulse import Pulse


def since(data: Path, topic: str, seconds: float) -> None:
    """Make a note as old as one that was written so long ago."""
    then = time.time() - seconds
    os.utime(data / f"stages/b.{topic}.pulse.json", (then, then))


def test_one_that_does_not_come_round_any_more_is_told_and_what_to_do(tmp_path: Path) -> None:
    Pulse(tmp_path, "b", "t")
    assert pulse.trouble(tmp_path, "b") == ("", "")
    since(tmp_path, "t", 45)

    reason, remedy = pulse.trouble(tmp_path, "b")
    assert reason == "silent for 45 s"
    assert "locks at the target" in remedy


def test_one_that_beats_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beating = Pulse(tmp_path, "b", "t")
    since(tmp_path, "t", 45)
    beating.beat()
    assert pulse.trouble(tmp_path, "b")[0] == "silent for 45 s"  # at most once a second

    monkeypatch.setattr(pulse, "_BEAT_S", 0)
    beating.beat()
    assert pulse.trouble(tmp_path, "b") == ("", "")


def test_what_one_topic_waits_for_is_told_while_another_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_MOMENT_S", -1)
    other, waiting = Pulse(tmp_path, "b", "a"), Pulse(tmp_path, "b", "t")
    waiting.waits("the target is away", "Start it.")
    other.goes_on()
    assert pulse.trouble(tmp_path, "b") == ("waiting: the target is away", "Start it.")

    waiting.goes_on()
    assert pulse.trouble(tmp_path, "b") == ("", "")


def test_what_a_killed_one_left_is_cleared_and_others_of_a_similar_name_are_left(
    tmp_path: Path,
) -> None:
    Pulse(tmp_path, "b", "t")
    Pulse(tmp_path, "b-2", "t")
    pulse.clear(tmp_path, "b")
    assert not pulse.is_running(tmp_path, "b")
    assert pulse.is_running(tmp_path, "b-2")


def test_one_that_ended_does_not_run(tmp_path: Path) -> None:
    ended = Pulse(tmp_path, "b", "t")
    assert pulse.is_running(tmp_path, "b")
    ended.close()
    assert not pulse.is_running(tmp_path, "b")

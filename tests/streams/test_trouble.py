"""Trouble with Kafka is waited for: what was under way is given up and done again, and nothing ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException
from lanes import head
from offline import PLACE, World

from streams import trouble
from streams.opening import Opener
from streams.settings import Settings
from streams.trouble import Trouble


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(trouble, "_FIRST_SECONDS", 0.001)
    return World(tmp_path)


def test_an_output_that_kafka_does_not_take_is_made_again_and_the_process_goes_on(
    world: World,
) -> None:
    async def scene() -> None:
        processor, sent = world.processor, world.sent
        processor.open({PLACE}, {})
        world.logs[PLACE].transaction(("c", "head", head(1)))
        await world.finish()
        first = list(sent.outputs)
        sent.answer("timed out")
        processor._land()

        await asyncio.wait_for(world.asked.wait(), 10)
        assert processor.kafka()["waiting"] == "canonical.order.v1: timed out"
        assert processor.lanes[PLACE].state.position is None, "nothing of it is on disk"
        await world.finish()
        assert sent.outputs == first, "nothing is made before the group has given the lanes"

        await processor.release()
        processor.open({PLACE}, {})
        await world.finish()
        assert sent.outputs[len(first) :] == first, "byte for byte the same"
        sent.answer(None)
        processor._land()
        assert processor.kafka()["waiting"] is None
        assert processor.lanes[PLACE].state.position == len(world.logs[PLACE].records)
        await processor.release()

    asyncio.run(scene())


def test_a_group_that_is_silent_for_a_session_has_perhaps_given_the_lanes_away(
    world: World,
) -> None:
    async def scene() -> None:
        processor, silence = world.processor, 1.0
        processor.silence = lambda: silence
        processor.open({PLACE}, {})
        processor._check_trouble()
        assert world.sent.forgotten == 0
        silence = world.settings.tongbu_session_seconds + 1
        processor._check_trouble()
        assert world.sent.forgotten == 1, "what is queued must not be sent any more"
        await asyncio.wait_for(world.asked.wait(), 10)
        await processor.release()

    asyncio.run(scene())


def test_pauses_grow_while_nothing_succeeds_and_begin_anew_after_a_success() -> None:
    waited = Trouble()
    pauses = [waited.begin("down") for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[0] == trouble._FIRST_SECONDS
    assert pauses[-1] == trouble._LONGEST_SECONDS
    waited.end()
    assert waited.begin("down again") == pauses[0]


def test_a_lane_is_opened_by_a_new_client_when_one_does_not_answer_rightly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that saw the broker restart said "leader epoch is older" for ever."""
    opener = Opener(Settings(kafka_bootstrap="127.0.0.1:1", tongbu_data=tmp_path), {})
    monkeypatch.setattr(opener.ending, "wait", lambda _: False)
    asked: list[Any] = []

    def question(client: Any) -> int:
        asked.append(client)
        if len(asked) < 3:
            raise KafkaException(SimpleNamespace(str=lambda: "Leader epoch is older"))
        return 7

    assert opener._asked(question) == 7
    assert len({id(client) for client in asked}) == 3

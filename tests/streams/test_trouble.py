"""Trouble with Kafka is waited for: what was under way is given up and done again, and nothing ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException
from lanes import head
from offline import PLACE, World

from schemas import control
from streams import processor, trouble
from streams.checkpoints import Checkpoints
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


def test_what_a_frozen_worker_had_under_way_is_published_again_by_the_lanes_owner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its producer wakes up with it: a late record stood behind a newer one of the same id on its entity's topic."""
    monkeypatch.setattr(processor, "_LATE_SECONDS", 0.0)
    monkeypatch.setattr(processor, "_die", lambda code, *_, **__: codes.append(code))
    codes: list[int] = []

    async def scene() -> list[Any]:
        owner, sent = world.processor, world.sent
        owner.open({PLACE}, {})
        world.logs[PLACE].transaction(("c", "head", head(1)))
        await world.finish()
        sent.answer(None)
        owner._land()
        world.logs[PLACE].transaction(("c", "head", head(2)), ("c", "head", head(3)))
        await world.finish()
        before = len(sent.outputs)

        owner._alive -= world.settings.tongbu_session_seconds + 1
        owner._check_fresh()
        owner._alive = time.monotonic()  # the process is dead by now; its loop, here, is not
        owner.lanes[PLACE].close()
        return sent.outputs[before:]

    (asked,) = asyncio.run(scene())
    assert (codes, world.sent.forgotten) == ([72], 1)
    assert asked.topic == "cdc.erp"
    found = control.decode(asked.value)
    assert isinstance(found, control.Republish)
    assert (found.entity, set(found.ids)) == ("order", {"erp:SO2", "erp:SO3"})


async def due(
    world: World, patch: pytest.MonkeyPatch, folder: Path, first_offset: Callable[[Any], int]
) -> None:
    """Bring a lane to where a checkpoint of it is due; `first_offset` answers how far back its log reaches."""
    owner = world.processor
    owner.open({PLACE}, {})
    world.logs[PLACE].transaction(("c", "head", head(1)))
    await world.finish()
    world.sent.answer(None)
    owner._land()
    kept = Checkpoints(folder / "checkpoints", "cdc.erp", 2)
    patch.setattr(owner._opener, "checkpoints", lambda _: kept, raising=False)
    patch.setattr(owner._opener, "first_offset", first_offset, raising=False)


def test_a_worker_that_is_told_to_end_without_kafka_leaves_its_checkpoint_unjudged(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended by an error: whether the log reaches back to the checkpoint was asked for ever, until the end."""

    def unanswered(_: Any) -> int:
        raise TimeoutError

    async def scene() -> int | None:
        owner = world.processor
        await due(world, monkeypatch, tmp_path, unanswered)
        await owner.checkpoint()
        made = owner.lanes[PLACE].checkpointed
        await owner.release()
        return made

    assert asyncio.run(scene()) is not None


def test_lanes_are_released_while_a_broker_that_is_away_owes_an_answer_about_a_checkpoint(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were not, so a broker that was back had to answer that question first, up to 10 s later."""
    answered = threading.Event()

    def late(_: Any) -> int:
        answered.wait(30)
        return 0

    async def scene() -> bool:
        owner = world.processor
        await due(world, monkeypatch, tmp_path, late)
        copying = asyncio.create_task(owner.checkpoint())
        while owner.lanes[PLACE].checkpointed is None:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(owner.release(), 10)
        waited = not copying.done()
        answered.set()
        await copying
        return waited

    assert asyncio.run(scene()), "the question was still open"


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

"""Opening a lane: its state from this disk or from a checkpoint, and whether its log still has what comes next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.declarations import Source
from streams.checkpoints import Checkpoints, put_away
from streams.flight import OwnedLane
from streams.lane import Lane
from streams.seal import Seal
from streams.settings import Settings
from streams.state import State
from streams.terms import Committed, continues

log = structlog.get_logger("processor")

#: Topic and partition.
Place = tuple[str, int]

Answer = TypeVar("Answer")

#: Pauses between two questions while the broker does not answer, in seconds.
_FIRST_SECONDS, _LONGEST_SECONDS = 0.2, 5.0
#: A question that was on its way to a broker that died gets no answer; the next one, to who has taken its place, does.
_ANSWER_SECONDS = 3.0


class Opener:
    """Opens lanes; it may be called from another thread than the event loop's."""

    def __init__(self, settings: Settings, sources: dict[str, Source]) -> None:
        self._settings, self._sources = settings, sources
        self._seal = Seal(settings.key_file)
        self._admin = self._client()
        #: Set where nobody waits for an answer any more.
        self.ending = threading.Event()

    def open(self, place: Place, committed: Committed) -> OwnedLane:
        """Open a lane; below what is committed its outputs were delivered before. It is stopped where records are gone."""
        topic = self._topic(place)
        source = topic.removeprefix("cdc.")
        topic_id = None if self._settings.tongbu_replay else self._topic_id(place[0])
        first = self.first_offset(place)
        state = self._state(topic, topic_id, committed, first)
        start = state.position or 0
        lane = Lane(source, self._sources[source].partition, state, self._seal, topic_id)
        owned = OwnedLane(lane, state, committed, next=start)
        log.info("lane opened", source=source, start=start, committed=committed.offset)
        if lane.unfit is not None:
            owned.stop(lane.unfit)
            return owned
        if first > start:
            owned.stop(
                f"lane {source}: records {start} to {first - 1} are needed and no longer in its log. Bring back a "
                f"checkpoint at {first} or later to {self._settings.checkpoint_folder}, or snapshot the source again."
            )
        return owned

    def checkpoints(self, place: Place) -> Checkpoints:
        """Give the checkpoints of a lane."""
        settings = self._settings
        kept = settings.tongbu_checkpoints_kept
        return Checkpoints(settings.checkpoint_folder, self._topic(place), kept)

    def first_offset(self, place: Place) -> int:
        """Give the first offset that a lane log still has."""
        partition = TopicPartition(*place)
        asked = {partition: OffsetSpec.earliest()}
        return self._asked(
            lambda admin: int(admin.list_offsets(asked)[partition].result(_ANSWER_SECONDS).offset)
        )

    def _topic_id(self, topic: str) -> str:
        asked = TopicCollection([topic])
        return self._asked(
            lambda admin: str(admin.describe_topics(asked)[topic].result(_ANSWER_SECONDS).topic_id)
        )

    def _asked(self, question: Callable[[AdminClient], Answer]) -> Answer:
        """Ask the broker until it answers, each time as a new client: one that saw a restart may stay with what was before."""
        pause = _FIRST_SECONDS
        while True:
            try:
                return question(self._admin)
            except (KafkaException, TimeoutError) as error:
                why = error.args[0].str() if isinstance(error, KafkaException) else "time-out"
                log.warning("waiting for Kafka to tell of a lane log", why=why, seconds=pause)
                if self.ending.wait(pause):
                    raise
                self._admin, pause = self._client(), min(2 * pause, _LONGEST_SECONDS)

    def _client(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self._settings.kafka_bootstrap, "log_level": 0})

    def _topic(self, place: Place) -> str:
        return place[0].removeprefix(self._settings.tongbu_namespace)

    def _state(self, topic: str, topic_id: str | None, committed: Committed, first: int) -> State:
        """
        Open the state of a lane: the one on this disk, or a checkpoint that is further.

        The former gives way where another worker has gone on from before it. `first` is where the lane's log begins.
        """
        folder = self._settings.state_folder / topic
        state = State(folder)
        own = state.position or 0
        is_passed_by = not continues(own, state.term, committed)
        found = self._checkpoint(topic, topic_id, committed, first - 1 if is_passed_by else own)
        if is_passed_by:
            log.warning(
                "another worker has gone on from before this state, which gives way",
                topic=topic,
                position=own,
                committed=committed.offset,
            )
        if found is None and not is_passed_by:
            return state
        if found is None and first > 0:
            log.warning(
                "no checkpoint is from before that: records that are not the newest may be the last of their ids. Run "
                "`tongbu republish` for the entities of this source",
                topic=topic,
            )
            return state
        state.close()
        if found is None:
            put_away(folder)
        else:
            self.checkpoints((topic, 0)).restore(found, folder)
        log.info("state restored from a checkpoint, or made anew", topic=topic, position=found)
        return State(folder)

    def _checkpoint(
        self, topic: str, topic_id: str | None, committed: Committed, beyond: int
    ) -> int | None:
        """Give the position of the latest checkpoint beyond an offset that can be gone on from."""
        kept = self.checkpoints((topic, 0))
        for position in reversed(kept.positions()):
            if position <= beyond:
                return None
            at, term, lane = kept.standing(position)
            if lane is not None and topic_id is not None and not _is_of(lane, topic, topic_id):
                log.warning(
                    "checkpoint refused: it is of another lane or topic, and its folder is no place for it",
                    checkpoint=f"{topic}/{position}",
                    source=lane["source"],
                    topic_id=lane["topic_id"],
                    wanted=topic_id,
                )
            elif continues(at or 0, term, committed):
                return position
        return None


def _is_of(lane: dict[str, Any], topic: str, topic_id: str) -> bool:
    return f"cdc.{lane['source']}" == topic and lane["topic_id"] == topic_id

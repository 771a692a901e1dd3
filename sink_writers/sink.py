"""
What a sink is: the contract between the runner, which reads, and a kind of target, which writes.

A sink owns its position: it is kept in the target and moves in the same transaction as the rows, so
a crash can neither lose a message nor apply it twice. The runner calls `claim` once per partition it is
given, then `apply` in order; it repeats an `apply` that ended in TryLater with the same arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.errors import ServiceUnavailable, TongbuError
from sink_writers.messages import Message


@dataclass(frozen=True, slots=True)
class Place:
    """A partition as one binding reads it. Another topic id under the same name is another place."""

    binding: str
    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far a place is applied: the next Kafka offset, the last lane offset, and the owner's epoch."""

    next_offset: int
    lane_offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Move:
    """From where to where a place's position goes with an apply."""

    place: Place
    at: Position
    to: Position


class Sink(Protocol):
    """A target. One thread uses it. `due` tells that what was set aside may work now, so `tend` is not to wait."""

    due: bool

    def claim(self, place: Place) -> Position:
        """
        Become the owner: raise the epoch in a transaction of its own, and give the stored position.

        (0, 0) is the position of a place that was never read. Raise TongbuError for another topic id.
        """

    def apply(
        self, place: Place, at: Position, messages: Sequence[Message], to: Position
    ) -> str | None:
        """
        Apply whole messages and move the position from `at` to `to`, in one target transaction.

        A mirrored table's primary key is one in all of them: the runner ends a batch where it changes.
        Rows never go back to an older version. Being asked again for what is done already changes nothing.
        Give the target's transaction id where it has one. Raise TryLater where nothing is wrong with the
        messages, Fenced where another owner has claimed the place, TongbuError where a person must act.
        """

    def tend(self, place: Place, at: Position) -> None:
        """Between messages, every few seconds: try again what was set aside. Raises as `apply` does."""

    def close(self) -> None:
        """Let go of connections."""


_AGAIN = "It is tried again until it goes. If it stays so, look at the target: is it up, full, or locked?"


class TryLater(ServiceUnavailable):
    """The target can't take it now; the same call may work later, after `seconds` if it said so."""

    def __init__(self, message: str, remedy: str = _AGAIN, seconds: float | None = None) -> None:
        super().__init__(message, remedy)
        self.seconds = seconds


class Fenced(TongbuError):
    """Another owner has claimed the place since; this one must stop."""

    def __init__(self, place: Place) -> None:
        super().__init__(
            f"{place.binding}: another copy has taken over {place.topic}[{place.partition}]",
            "Nothing is lost: that copy goes on from the stored position. Run one copy per binding.",
        )


class OtherTopic(TongbuError):
    """The topic was made anew since the position was stored, so the position means nothing."""

    def __init__(self, place: Place, stored: str) -> None:
        super().__init__(
            f"{place.binding}: {place.topic} has id {place.topic_id}, the stored position is of {stored}",
            "The topic was made anew. Empty the target's tables and tongbu_position, and republish.",
        )


class Refused(Exception):
    """A data error: the target (or the decoder) refuses a record as it is; trying again does not help."""

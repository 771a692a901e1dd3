"""
Terms: which state an offset that is committed belongs to.

A lane may go to another worker while the state of the first is ahead of what it has committed. The other publishes from
the committed offset on again; where the first gets the lane back before the other has come as far, its own state stands
behind records that are older than its own, and are the last of their ids now. So each opening of a lane begins a term:
it is committed with every offset, from before the first output on, and kept in the state. A state is continued where
it is of the term that is committed, or not beyond the offset that is. This is Kafka's way with replicas whose leader has
changed: https://cwiki.apache.org/confluence/display/KAFKA/KIP-101+-+Alter+Replication+Protocol+to+use+Leader+Epoch+rather+than+High+Watermark+for+Truncation
"""

from __future__ import annotations

import uuid
from typing import NamedTuple


class Committed(NamedTuple):
    """What the group has of a lane: the next offset, and the term it is of; empty where none was ever committed with it."""

    offset: int = 0
    term: str = ""


def new_term() -> str:
    """Give a term that no other opening of a lane has."""
    return uuid.uuid4().hex


def continues(position: int, term: str | None, committed: Committed) -> bool:
    """Tell whether a state can be continued at its position: nothing that was published after it is older. An offset without a term is taken as it is."""
    return not committed.term or committed.term == term or position <= committed.offset

"""
A place in a lane log: epoch (15 bits) << 48 | Kafka offset (48 bits).

The lane offset of the record that completes a transaction is the version of everything the
transaction changes, so versions grow with the log and survive a log that is made anew
(a new topic gets a higher epoch).
"""

from __future__ import annotations

OFFSET_BITS = 48
MAX_EPOCH = (1 << 15) - 1
MAX_OFFSET = (1 << OFFSET_BITS) - 1


def pack(epoch: int, offset: int) -> int:
    """Give the lane offset of a Kafka offset; raise ValueError where either is out of range."""
    if not 0 < epoch <= MAX_EPOCH:
        raise ValueError(f"epoch {epoch} is not in 1..{MAX_EPOCH}")
    if not 0 <= offset <= MAX_OFFSET:
        raise ValueError(f"offset {offset} is not in 0..{MAX_OFFSET}")
    return epoch << OFFSET_BITS | offset


def unpack(lane_offset: int) -> tuple[int, int]:
    """Give (epoch, Kafka offset) of a lane offset."""
    return lane_offset >> OFFSET_BITS, lane_offset & MAX_OFFSET

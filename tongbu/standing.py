"""
What stands in a lane log once and holds until it is replaced: lane, captured schema, declarations.

A log that is older than its retention has lost it, while the processor's state has it still, and so have its checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import msgspec

from schemas import control
from schemas.errors import TongbuError
from streams.checkpoints import Checkpoints
from streams.settings import Settings
from streams.state import CAPTURED, DECLARATIONS, LANE
from tongbu.lane_files import Recorded

_LANE = control.KEY_PREFIX + b"lane"
#: The keys of these records.
KEYS = (_LANE, control.KEY_PREFIX + b"captured-schema", control.KEY_PREFIX + b"declarations")

#: Gives key and value of what a log has lost that begins with a record.
Lost = Callable[[Recorded], Iterable[tuple[bytes, bytes]]]


def completed(log: Iterable[Recorded], lost: Lost) -> Iterator[Recorded]:
    """Give the log of a lane, and before it, at the last offset that it has no more, what it has lost."""
    rest = iter(log)
    for first in rest:
        if first.offset > 0 and first.key != _LANE:
            for key, value in lost(first):
                yield msgspec.structs.replace(
                    first, offset=first.offset - 1, key=key, value=value, headers=()
                )
        yield first
        yield from rest


def of_checkpoints(settings: Settings) -> Lost:
    """Give what finds it in the oldest checkpoint of a lane, which is the nearest to where the log begins."""

    def lost(first: Recorded) -> Iterator[tuple[bytes, bytes]]:
        folder = settings.checkpoint_folder
        kept = Checkpoints(folder, first.topic, settings.tongbu_checkpoints_kept)
        positions = kept.positions()
        if not positions:
            raise TongbuError(
                f"{_lacks(first)}, and there is no checkpoint of it in {folder}",
                "Set TONGBU_CHECKPOINTS to the processor's folder of checkpoints, or run this where the processor runs.",
            )
        lane, *in_force = kept.stored(positions[0], LANE, CAPTURED, DECLARATIONS)
        if lane is not None:
            yield control.encode(control.Lane(**lane))
        yield from ((key, value) for key, value in zip(KEYS[1:], in_force, strict=True) if value)

    return lost


def checked(records: Iterable[Recorded]) -> Iterator[Recorded]:
    """Give a recording, lane by lane; raise TongbuError where one has lost what was in force."""
    for _, log in groupby(records, key=lambda record: record.topic):
        yield from completed(log, _refuse)


def _refuse(first: Recorded) -> Iterable[tuple[bytes, bytes]]:
    raise TongbuError(
        f"the recording can't be replayed: {_lacks(first)}",
        "Record it again: `tongbu record` takes that from the processor's checkpoints.",
    )


def _lacks(first: Recorded) -> str:
    return (
        f"{first.topic} begins at offset {first.offset}, and its retention has passed what was "
        "declared and captured before"
    )

"""
The stage log: when each source transaction passed which stage, one JSON line per applied message.

It is for looking at what happens now: a file that is full becomes the predecessor of a new one, and the former
predecessor goes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import orjson

from sink_writers.messages import Message

#: How large a file becomes: some 250,000 messages.
MOST_BYTES = 64 * 1024 * 1024


def predecessor(file: Path) -> Path:
    """Give where that stands which a stage log's file has followed."""
    return file.with_name(f"{file.name}.1")


class StageLog:
    """
    Appends to `<data>/stages/<binding>.jsonl`; all times are microseconds since 1970.

    The readings of a binding write side by side, each with a StageLog of its own.
    """

    def __init__(self, data: Path, binding: str) -> None:
        folder = data / "stages"
        folder.mkdir(parents=True, exist_ok=True)
        self._place = folder / f"{binding}.jsonl"
        self._open()

    def _open(self) -> None:
        self._file = self._place.open("ab")
        self._own = os.fstat(self._file.fileno())

    def write(
        self, messages: Iterable[Message], consumed: int, applied: int, target_tx: str | None
    ) -> None:
        """Note the messages of kind transaction that one target transaction has applied."""
        lines = [
            orjson.dumps(
                {
                    "source": message.source,
                    "transaction": message.transaction,
                    "lane_offset": message.lane_offset,
                    "records": len(message.records),
                    "committed_at": _micros(message.committed_at),
                    **{
                        stage: message.clock.get(stage)
                        for stage in ("captured", "received", "produced")
                    },
                    "consumed": consumed,
                    "applied": applied,
                    "target_tx": target_tx,
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for message in messages
            if message.kind == "transaction"
        ]
        self._file.write(b"".join(lines))
        self._file.flush()
        if lines:
            self._turn_over()

    def _turn_over(self) -> None:
        """Go on in a new file where this one is full, or was turned over by another reading."""
        size = self._size()
        if size is not None and size < MOST_BYTES:
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        if self._size() is not None:  # of two that find it full one comes second
            self._place.replace(predecessor(self._place))
        self._file.close()
        self._open()

    def _size(self) -> int | None:
        """Give the size of the file; None where it is not at its place any more."""
        try:
            there = self._place.stat()
        except FileNotFoundError:
            return None
        return there.st_size if os.path.samestat(there, self._own) else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _micros(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1_000_000)

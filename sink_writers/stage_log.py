"""
The stage log: when each source transaction passed which stage, one JSON line per applied message.

Beside it stands what the sink writer waits for, as long as it does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import orjson

from sink_writers.messages import Message

#: A deadlock is over sooner: it is nothing to tell of.
_MOMENT_S = 2.0


class StageLog:
    """Appends to `<data>/stages/<binding>.jsonl`; all times are microseconds since 1970."""

    def __init__(self, data: Path, binding: str) -> None:
        folder = data / "stages"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{binding}.jsonl").open("ab")
        self._waiting = _waiting(data, binding)
        self.goes_on()

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

    def waits(self, reason: str, remedy: str) -> None:
        """Note what nothing goes on without."""
        self._waiting.write_bytes(orjson.dumps([reason, remedy]))

    def goes_on(self) -> None:
        """Take the note away."""
        self._waiting.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def waited_for(data: Path, binding: str) -> tuple[str, str]:
    """Give reason and remedy of what a sink writer waits for; "" where it works, or has waited for a moment only."""
    file = _waiting(data, binding)
    with suppress(FileNotFoundError):
        if time.time() - file.stat().st_mtime > _MOMENT_S:
            reason, remedy = orjson.loads(file.read_bytes())
            return reason, remedy
    return "", ""


def _waiting(data: Path, binding: str) -> Path:
    return data / "stages" / f"{binding}.waiting.json"


def _micros(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1_000_000)

"""The stage log: when each source transaction passed which stage, one JSON line per applied message."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import orjson

from sink_writers.messages import Message


class StageLog:
    """Appends to `<data>/stages/<binding>.jsonl`; all times are microseconds since 1970."""

    def __init__(self, data: Path, binding: str) -> None:
        folder = data / "stages"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{binding}.jsonl").open("ab")

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

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _micros(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1_000_000)

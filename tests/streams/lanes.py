"""Runs the small world's logs (bench/lane_log.py) through a lane, for tests."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from bench.lane_log import (
    CAPTURED,
    MAPPING,
    PLACEHOLDER,
    SCHEMAS,
    Log,
    declarations,
    head,
    line,
)
from schemas.codec import Decoder
from streams.lane import Lane
from streams.records import Output
from streams.seal import Seal, new_key
from streams.state import State

__all__ = [
    "CAPTURED",
    "MAPPING",
    "PLACEHOLDER",
    "SCHEMAS",
    "Log",
    "Reader",
    "declarations",
    "head",
    "line",
]


class Reader:
    """Runs a log through a lane, and decodes what comes out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key_file = folder / "key"
        if not key_file.exists():
            key_file.write_bytes(new_key())
        self.seal = Seal(key_file)
        self.state = State(folder / "state")
        self.lane = Lane("erp", 0, self.state, self.seal, "t1")
        self.decode = Decoder(lambda id_: deepcopy(SCHEMAS[id_])).decode

    def run(self, log: Log, follow: bool = True) -> list[Output]:
        """Read to the end; what the lane appends to its own log is read too, where `follow`."""
        outputs: list[Output] = []
        while (start := self.state.position or 0) < len(log.records):
            made = [each for each in self.lane.process(log.records[start]) if each is not None]
            outputs += made
            self.lane.end_batch()
            self.state.commit(start + 1)
            for output in made:
                if output.topic == "cdc.erp" and follow:
                    log.add(output.value, output.key)
        return outputs

    def reopen(self) -> Reader:
        self.state.close()
        return Reader(self.folder)

    def messages(self, outputs: list[Output]) -> list[dict[str, Any]]:
        return [
            self.decode(output.value)
            for output in outputs
            if output.topic == "canonical.transactions.v1"
        ]

    def records(self, outputs: list[Output]) -> list[dict[str, Any]]:
        found = []
        for message in self.messages(outputs):
            found += [self.decode(record["value"]) for record in message["records"]]
        return found

    def letters(self, outputs: list[Output]) -> list[dict[str, Any]]:
        return [
            self.decode(output.value) for output in outputs if output.topic == "hub.dead-letter.v1"
        ]

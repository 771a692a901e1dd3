"""
Whether a sink writer goes on, for those who look from outside: a note per topic that it reads, while it lives.

The note says what the sink writer waits for, if anything; how long ago it was written says whether it comes round at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson

_BEAT_S = 1.0
#: A large target transaction takes seconds.
_SILENT_S = 30.0
#: A deadlock is over sooner: it is nothing to tell of.
_MOMENT_S = 2.0
_SILENT = "It is frozen, or one write takes very long: look for locks at the target; else end the process, it is started anew."


class Pulse:
    """The note of one topic of a binding, `<data>/stages/<binding>.<topic>.pulse.json`: [] or [reason, remedy, since]."""

    def __init__(self, data: Path, binding: str, topic: str) -> None:
        self._file = _folder(data) / f"{binding}.{topic}.pulse.json"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._waiting: list[str | float] = []
        self._beaten = 0.0
        self._write()

    def beat(self) -> None:
        """Note, at most once a second, that it comes round."""
        if time.monotonic() - self._beaten < _BEAT_S:
            return
        self._beaten = time.monotonic()
        try:
            os.utime(self._file)  # nothing to be written to the disk, which others wait for
        except FileNotFoundError:  # a second sink writer of the binding has begun here
            self._write()

    def waits(self, reason: str, remedy: str) -> None:
        """Note what nothing goes on without."""
        self._waiting = [reason, remedy, time.time()]
        self._write()

    def goes_on(self) -> None:
        """Nothing is waited for any more."""
        self._waiting = []
        self._write()

    def close(self) -> None:
        """Take the note away."""
        self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        self._beaten = time.monotonic()
        # In one step: a reader finds the old note or the new one, whole.
        made = self._file.with_suffix(".new")
        made.write_bytes(orjson.dumps(self._waiting))
        made.replace(self._file)


def trouble(data: Path, binding: str) -> tuple[str, str]:
    """
    Give why a sink writer does not go on and what to do; "" where it does, or has waited for a moment only.

    Several topics may be in trouble; the first is told.
    """
    return next(_troubles(data, binding), ("", ""))


def is_running(data: Path, binding: str) -> bool:
    """Tell whether a sink writer has begun and not ended; one that was killed is thought to run until it is started anew."""
    return any(_notes(data, binding))


def clear(data: Path, binding: str) -> None:
    """Remove what a sink writer that was killed has left."""
    for file in _notes(data, binding):
        file.unlink(missing_ok=True)


def _troubles(data: Path, binding: str) -> Iterator[tuple[str, str]]:
    now = time.time()
    for file in _notes(data, binding):
        with suppress(FileNotFoundError):  # it ended just now
            silent = now - file.stat().st_mtime
            if silent > _SILENT_S:
                yield f"silent for {silent:.0f} s", _SILENT
            waiting = orjson.loads(file.read_bytes())
            if waiting and now - waiting[2] > _MOMENT_S:
                yield f"waiting: {waiting[0]}", waiting[1]


def _notes(data: Path, binding: str) -> list[Path]:
    return sorted(_folder(data).glob(f"{binding}.*.pulse.json"))


def _folder(data: Path) -> Path:
    return data / "stages"

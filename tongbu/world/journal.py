"""The journal of the load: which transaction was committed when, by the clock of the business system itself."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple, TextIO

import orjson


class Step(NamedTuple):
    """A transaction that people did: what, on which document, the source's id of it, and how many rows changed."""

    kind: str
    key: str
    transaction: str
    rows: int


class Journal:
    """Appends a line per commit; written out at least once a second."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._out: TextIO = file.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._flushed = time.monotonic()

    def note(self, source: str, step: Step, committed_at: int) -> None:
        """
        Append a commit; `committed_at` is the client's clock right after it (microseconds).

        A transaction that changed no row leaves nothing in the source's log, so there is nothing to follow.
        """
        if not step.rows:
            return
        line = {
            "source": source,
            "transaction": step.transaction,
            "kind": step.kind,
            "business_key": step.key,
            "committed_at": committed_at,
        }
        with self._lock:
            self._out.write(orjson.dumps(line).decode() + "\n")
            if time.monotonic() - self._flushed > 0.5:
                self._flush()

    def _flush(self) -> None:
        self._out.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write out what is left."""
        with self._lock:
            self._out.close()

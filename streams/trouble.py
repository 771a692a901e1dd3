"""Trouble that passes: Kafka does not take or answer. What was under way is given up and done again, after growing pauses."""

from __future__ import annotations

import time
from typing import Any

import structlog

log = structlog.get_logger("processor")

_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 30.0


class Trouble:
    """Why nothing goes on at present, and how often it was tried in vain. It ends when something is on disk again."""

    def __init__(self) -> None:
        #: None while all is well.
        self.why: str | None = None
        self._since = 0.0
        #: Waits since the process started, and since something last went well.
        self.waits = 0
        self._in_vain = 0

    def begin(self, why: str) -> float:
        """Tell what is wrong; give the seconds until it is tried again."""
        if self.why is None:
            self._since = time.monotonic()
        self.why = why
        self.waits += 1
        pause: float = min(_FIRST_SECONDS * 2**self._in_vain, _LONGEST_SECONDS)
        self._in_vain += 1
        log.warning(
            "waiting for Kafka; what was under way will be done again", why=why, seconds=pause
        )
        return pause

    def end(self) -> None:
        """Something went well."""
        if self.why is not None:
            log.info("Kafka takes outputs again", after_seconds=round(self.seconds, 1))
        self.why, self._in_vain = None, 0

    @property
    def seconds(self) -> float:
        """How long it has lasted; 0 while all is well."""
        return 0.0 if self.why is None else time.monotonic() - self._since

    def status(self) -> dict[str, Any]:
        """Give it for `/healthz` and metrics."""
        return {
            "waiting": self.why,
            "waiting_seconds": round(self.seconds, 1),
            "waits": self.waits,
        }

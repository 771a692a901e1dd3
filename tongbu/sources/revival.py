"""
Revival: a connector that failed is started again, with growing pauses, unless it would go on behind a gap.

Debezium tries again while a database is away, but ends where it finds the database away when it starts.
"""

from __future__ import annotations

import time

import structlog

from schemas.errors import TongbuError
from tongbu.deploy import connectors
from tongbu.deploy.deployment import Deployment
from tongbu.sources import offsets

log = structlog.get_logger("watch")

_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 600.0


class Revival:
    """Watches the connector of one source."""

    def __init__(self, deployment: Deployment, source: str) -> None:
        self._deployment, self._source = deployment, source
        self._pause, self._not_before = _FIRST_PAUSE, 0.0

    def look(self) -> None:
        """Start the connector again where it failed and its pause is over; a gap is told by the findings, and stays."""
        cause = connectors.failure(self._deployment, self._source)
        if cause is None:
            self._pause, self._not_before = _FIRST_PAUSE, 0.0
            return
        if time.monotonic() < self._not_before or offsets.losses(self._deployment, self._source):
            return
        log.warning("a failed connector is started again", source=self._source, cause=cause)
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        try:
            connectors.restart(self._deployment, self._source)
        except TongbuError as error:
            log.warning("it failed again", source=self._source, why=error.message)

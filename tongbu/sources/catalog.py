"""
The catalog watch: PostgreSQL does not log DDL, so its live catalog is looked at, and a change is noted in the lane log.

MariaDB and MySQL log their DDL: the lane reads it where it stands. What happens to a PostgreSQL table between two looks
is seen in its rows alone: a lost column at once, another type where a value no longer fits.
"""

from __future__ import annotations

from typing import Any

import structlog

from schemas import control
from schemas.control import CapturedSchema
from schemas.errors import TongbuError
from tongbu import topics
from tongbu.deploy import captured, lanes
from tongbu.deploy.deployment import Deployment
from tongbu.sources.offsets import capture_dsn

log = structlog.get_logger("watch")


class CatalogWatch:
    """Compares the live catalog of one source with the captured schema in force, and notes what changed."""

    def __init__(self, deployment: Deployment, source: str) -> None:
        self._deployment, self._source = deployment, source
        self._known: CapturedSchema | None = None
        self._read_to = 0

    def look(self) -> list[str]:
        """Append a captured-schema record where tables changed; give their names. A table that is gone stays as it was."""
        self._follow()
        known = self._known
        if known is None:  # `apply` writes the first one
            return []
        source = self._deployment.sources[self._source]
        names = [table.qualified for table in known.tables]
        live = captured.examine(
            self._source, source, capture_dsn(self._deployment, self._source), names
        )
        tables = tuple(
            table if isinstance(now, TongbuError) else now
            for table, now in zip(known.tables, live, strict=True)
        )
        changed = [
            now.qualified for now, was in zip(tables, known.tables, strict=True) if now != was
        ]
        self._follow()
        if self._known is not known:
            return []  # `apply` has just written another one: look again
        if changed:
            lanes.append(
                self._deployment,
                CapturedSchema(source=self._source, database=source.database, tables=tables),
            )
            log.warning("tables changed at the source", source=self._source, tables=changed)
        return changed

    def _follow(self) -> None:
        """Read on in the lane log to the last captured schema."""
        bootstrap, topic = self._deployment.bootstrap, self._deployment.lane_topic(self._source)
        if topic not in topics.names(bootstrap):
            return
        start = max(self._read_to, topics.starts(bootstrap, [topic])[topic, 0])
        end = topics.ends(bootstrap, [topic])[topic, 0]
        for message in topics.read(bootstrap, topic, 0, start, end):
            if control.is_control(message.key()):
                found: Any = control.decode(message.value())
                self._known = found if isinstance(found, CapturedSchema) else self._known
        self._read_to = end

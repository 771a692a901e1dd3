"""Tables that mappings newly read: captured, then read by a snapshot, before the mappings come into force."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import psycopg
from rich.console import Console

from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.deploy import connectors, lanes, snapshots
from tongbu.deploy.deployment import Change, Deployment
from tongbu.progress import Steps

_PUBLISHED = """
SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'tongbu'"""


def plan(deployment: Deployment) -> Iterator[Change]:
    """Give what brings new tables to sources whose connector streams already; a new connector reads all tables itself."""
    for source in deployment.sources:
        missing = connectors.uncaptured(deployment, source)
        if missing is None:
            continue
        if missing:
            _check_published(deployment, source, missing)
            yield Change(
                "connector",
                source,
                "configure",
                f"captures {', '.join(missing)}, too; streaming pauses for a moment",
                partial(connectors.capture_more, deployment, source),
            )
        known = lanes.read(deployment, source)
        wanted = deployment.tables_of(source)
        unread = [table for table in wanted if table in {*known.incomplete, *missing}]
        if unread:
            yield Change(
                "snapshot",
                source,
                "take",
                f"reads {', '.join(unread)} beside the stream",
                partial(_take, deployment, source, unread),
            )


def _take(deployment: Deployment, source: str, tables: list[str]) -> None:
    with Steps(Console(stderr=True)) as steps:
        snapshots.take(deployment, source, tables, steps)


def _check_published(deployment: Deployment, source: str, tables: list[str]) -> None:
    """Raise TongbuError where PostgreSQL does not publish a table, or the capture user may not read it."""
    if deployment.sources[source].database != "postgresql":
        return
    try:
        with psycopg.connect(
            deployment.environment[f"{source.upper()}_DSN"], connect_timeout=5
        ) as pg:
            published = {table for (table,) in pg.execute(_PUBLISHED)}
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"source {source} does not answer", "Is it up?") from error
    unpublished = [table for table in tables if table not in published]
    if unpublished:
        quoted = ", ".join(
            ".".join(f'"{part}"' for part in each.split(".")) for each in unpublished
        )
        raise TongbuError(
            f"source {source}: not published, so its changes would not be captured: {', '.join(unpublished)}",
            f"Have its owner run ALTER PUBLICATION tongbu ADD TABLE {quoted}; and GRANT SELECT ON {quoted} to the "
            "capture user (connectors-config/grants), then apply again.",
        )

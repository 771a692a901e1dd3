"""
`tongbu run watch`: looks at the sources every few seconds: findings as metrics, changed catalogs into the lane logs,
failed connectors started again.

Not in the data path: while it is down, alarms are missing and a changed PostgreSQL catalog is noticed later.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from schemas.errors import TongbuError
from tongbu.deploy.deployment import Deployment
from tongbu.sources import inspection
from tongbu.sources.catalog import CatalogWatch
from tongbu.sources.findings import Finding
from tongbu.sources.revival import Revival

log = structlog.get_logger("watch")

#: How often the sources are looked at: the bound within which a changed PostgreSQL catalog is noticed.
SECONDS = 10.0
_LEVELS = {"ok": 0, "warning": 1, "alarm": 2}
#: Figure -> what it is; the alarm levels stand in docs/capture.md.
FIGURES = {
    "slot_missing": "1 where capture has no slot yet (one that is gone is a loss).",
    "slot_active": "1 while a connector reads the slot.",
    "slot_lag_bytes": "WAL that capture has not confirmed.",
    "wal_retained_bytes": "WAL that the server keeps for the slot.",
    "wal_status": "0 reserved, 1 extended, 2 unreserved, 3 lost.",
    "tables_unpublished": "Mapped tables that the publication does not have.",
    "tables_without_identity": "Published tables whose own UPDATEs fail.",
    "binlog_expiry_seconds": "How long the server keeps its binlog; 0: for ever.",
    "binlog_margin_seconds": "How long until the binlog that capture needs next may be purged.",
    "binlog_files_behind": "Binlog files after the one that capture stands at.",
    "heartbeat_age_seconds": "Age of the last record of the lane log.",
}


class Findings(Collector):
    """The findings of the last look, as metrics."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._at = 0.0

    def take(self, found: list[Finding]) -> None:
        """Take the findings of a look; tell those that were not there before, and those that are gone."""
        before = {(each.source, each.check, each.what) for each in self._alarms()}
        self._found, self._at = found, time.time()
        now = {(each.source, each.check, each.what): each for each in self._alarms()}
        for key, each in now.items():
            if key[:2] not in {known[:2] for known in before}:
                log.error(
                    "alarm",
                    source=each.source,
                    check=each.check,
                    what=each.what,
                    remedy=each.remedy,
                )
        for source, check in {key[:2] for key in before} - {key[:2] for key in now}:
            log.info("well again", source=source, check=check)

    def _alarms(self) -> list[Finding]:
        return [each for each in self._found if each.level == "alarm"]

    def collect(self) -> Iterator[Any]:
        """Give the worst level of each check, and every figure."""
        levels = GaugeMetricFamily(
            "tongbu_source_check", "0 ok, 1 warning, 2 alarm.", labels=["source", "check"]
        )
        worst: dict[tuple[str, str], int] = {}
        for each in self._found:
            key = (each.source, each.check)
            worst[key] = max(worst.get(key, 0), _LEVELS[each.level])
        for key, level in worst.items():
            levels.add_metric(key, level)
        yield levels
        for name, help_ in FIGURES.items():
            family = GaugeMetricFamily(f"tongbu_source_{name}", help_, labels=["source"])
            told = {each.source: each.figures[name] for each in self._found if name in each.figures}
            for source, value in told.items():
                family.add_metric([source], value)
            yield family
        yield GaugeMetricFamily(
            "tongbu_source_looked_at_seconds", "When the sources were last looked at.", self._at
        )


def serve(address: str, findings: Findings) -> None:
    """Answer /metrics on HOST:PORT until the process ends; a taken port is told and does no harm."""
    registry = CollectorRegistry()
    registry.register(findings)
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise TongbuError(f"TONGBU_METRICS is `{address}`", "Write HOST:PORT, e.g. 127.0.0.1:9464.")
    try:
        start_http_server(int(port), host, registry)
    except OSError as error:
        log.warning("no metrics: the port is taken", address=address, why=str(error))


def look(
    deployment: Deployment, findings: Findings, watched: Sequence[CatalogWatch | Revival]
) -> None:
    """Look at everything once; what does not answer is a finding, or is told and tried again."""
    looks = [
        lambda: findings.take(inspection.inspect(deployment)),
        *(each.look for each in watched),
    ]
    for each in looks:
        try:
            each()
        except TongbuError as error:
            log.warning("can't look", why=error.message)


def run(deployment: Deployment) -> None:
    """Look at the sources until the process ends."""
    findings = Findings()
    if address := os.environ.get("TONGBU_METRICS"):
        serve(address, findings)
    watched: list[CatalogWatch | Revival] = [
        *(Revival(deployment, name) for name in deployment.sources),
        *(
            CatalogWatch(deployment, name)
            for name, source in deployment.sources.items()
            if source.database == "postgresql"
        ),
    ]
    while True:
        began = time.monotonic()
        look(deployment, findings, watched)
        time.sleep(max(0.5, SECONDS - (time.monotonic() - began)))

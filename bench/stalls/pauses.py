"""Pauses of whole processes, as they note them themselves: JVMs' safepoints, Python's garbage collector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bench.stalls.spans import Span
from tongbu.stack.services import Service

_JVMS = ("kafka", "connect")
_OWN = ("processor", "sink-warehouse")
_SITE = Path(__file__).with_name("gc_site")
#: Shorter pauses are no news.
_SECONDS = 0.003
#: [2026-01-05T09:00:00.123+0000] Safepoint "GenCollectForAllocation", ..., Total: 1234567 ns
_SAFEPOINT = re.compile(r'^\[([^\]]+)\] Safepoint "(\w+)".*Total: +(\d+) ns')


class Pauses:
    """What processes note in files of a folder of their own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def rewire(self, service: Service) -> Service:
        """Let a service note its pauses."""
        if service.name in _JVMS:
            log = f"-Xlog:safepoint:file={self._folder}/{service.name}.log:time:filecount=0"
            java, *rest = service.command
            return replace(service, command=[java, log, *rest])
        if service.name in _OWN:
            noted = {"TONGBU_PAUSES": str(self._folder), "TONGBU_PAUSES_OF": service.name}
            environment = {**service.environment, "PYTHONPATH": str(_SITE), **noted}
            return replace(service, environment=environment)
        return service

    def spans(self) -> Iterator[Span]:
        """Give all pauses noted so far."""
        for log in self._folder.glob("*.log"):
            yield from _safepoints(log.stem, log.read_text(encoding="utf-8"))
        for file in self._folder.glob("*.gc"):
            for line in file.read_text(encoding="utf-8").splitlines():
                begin, end = map(float, line.split())
                yield Span(f"{file.stem}: garbage collector", begin, end)


def _safepoints(jvm: str, text: str) -> Iterator[Span]:
    for line in text.splitlines():
        if (match := _SAFEPOINT.match(line)) and (seconds := int(match[3]) / 1e9) > _SECONDS:
            end = datetime.fromisoformat(match[1]).timestamp()
            yield Span(f"{jvm}: safepoint {match[2]}", end - seconds, end)

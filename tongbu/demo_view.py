"""The live view of the demo's load: rates, progress and latency per target, as they are now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tongbu.live_view import LiveView

#: Seconds between lines where there is no terminal.
_LINE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TargetNow:
    """A target: transactions applied since the load began, and the latency of the latest ones in ms."""

    applied: int
    latency: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Now:
    """How the load is going."""

    committed: int
    planned: int
    rate: float
    targets: Mapping[str, TargetNow]


class LoadView(LiveView):
    """A moving table on a terminal, a line every few seconds elsewhere. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, Live(console=console, refresh_per_second=4))
        self._said = 0.0

    def show(self, now: Now) -> None:
        """Show how it is now."""
        if self._console.is_terminal:
            self._live.update(_table(now))
        elif time.monotonic() - self._said > _LINE_SECONDS:
            self._said = time.monotonic()
            self._console.print(_line(now), highlight=False, soft_wrap=True)


def _table(now: Now) -> RenderableType:
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(now.planned, 1), completed=now.committed, width=32)
    counts = f"{now.committed:,} committed  {now.rate:.0f}/s"
    head.add_row(bar, Text(counts))
    table = Table("target", "applied", "p50 ms", "p99 ms", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, target in now.targets.items():
        p50, p99 = (
            f"{target.latency[each]:.1f}" if target.latency else "" for each in ("p50", "p99")
        )
        table.add_row(name, f"{target.applied:,}", p50, p99)
    return Group(head, table)


def _line(now: Now) -> str:
    parts = [f"{now.committed:,} committed", f"{now.rate:.0f}/s"]
    for name, target in now.targets.items():
        latency = f" (p50 {target.latency['p50']:.1f} ms)" if target.latency else ""
        parts.append(f"{name} {target.applied:,}{latency}")
    return "  ".join(parts)

"""Tells how far long work has come: a bar per step on a terminal, a line per finished step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Advance = Callable[[int], None]


class Steps:
    """The steps of a command. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<32}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Steps:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Advance]:
        """Show a step while it lasts; call what it gives with the number of things done."""
        task = self._bars.add_task(what, total=total)
        began, done = time.monotonic(), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._bars.advance(task, count)

        yield advance
        self._bars.update(task, total=done, completed=done)
        if not self._console.is_terminal:
            counted = f": {done:,}" if done else ""
            took = f"{what}{counted}  {time.monotonic() - began:.1f} s"
            self._console.print(took, highlight=False, soft_wrap=True)

"""What moves on a terminal, and is told line by line elsewhere."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.live import Live


class LiveView:
    """Shows a `Live` of the console's, on a terminal only. Use as a context manager."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console, self._live = console, live

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

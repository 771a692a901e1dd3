"""Shows how the services come up: a moving table on a terminal, a line per event elsewhere."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tongbu.live_view import LiveView


class Progress(LiveView):
    """Told what happens, shows it. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._since = time.monotonic()
        self._note = ""
        self._services: dict[str, tuple[str, float]] = {}
        self._spinner = Spinner("dots")
        live = Live(get_renderable=self._render, console=console, refresh_per_second=10)
        super().__init__(console, live)

    def __exit__(self, *reason: object) -> None:
        self._note = ""  # nothing is being done any more
        super().__exit__(*reason)

    def tell(self, note: str) -> None:
        """Say what is being done now."""
        if note != self._note and not self._console.is_terminal:
            self._console.print(note, highlight=False, soft_wrap=True)
        self._note = note

    def service(self, name: str, state: str) -> None:
        """Say how a service is: starting, ready, or why it isn't."""
        before, since = self._services.get(name, ("", time.monotonic()))
        if state == before:
            return
        seconds = time.monotonic() - since if before else 0.0
        self._services[name] = (state, since if state != "ready" else seconds)
        if not self._console.is_terminal:
            took = f"  {seconds:.1f} s" if state == "ready" else ""
            self._console.print(f"{name:<20} {state}{took}", highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, (state, seconds) in self._services.items():
            if state == "ready":
                table.add_row(Text("✓", "green"), name, Text(f"{seconds:.1f} s", "dim"))
            else:
                table.add_row(
                    self._spinner, name, Text(state, "dim" if state == "starting" else "yellow")
                )
        note = (
            Text(f"{self._note}  {time.monotonic() - self._since:.0f} s", "dim")
            if self._note
            else Text()
        )
        return Group(table, note)

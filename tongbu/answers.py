"""Where commands print their answers."""

from __future__ import annotations

import sys

from rich.console import Console

_WIDE = 1_000


def console() -> Console:
    """Give standard output: cut to a terminal's width on one, and elsewhere not at all, so that `grep` finds whole lines."""
    return Console(width=None if sys.stdout.isatty() else _WIDE)

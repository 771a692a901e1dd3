"""How fast a backlog goes, without the start and the end of whoever drains it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Reading = TypeVar("Reading")

#: Shares of a backlog between which a rate is taken.
FROM, TO = 0.1, 0.95


def drained(
    done: Callable[[], int], before: int, backlog: int, clock: Callable[[], Reading]
) -> list[tuple[int, Reading]]:
    """Wait for both shares of a backlog that begins at count `before`; give count and clock at each."""
    seen = []
    for share in (FROM, TO):
        while (now := done()) < before + backlog * share:
            time.sleep(0.02)
        seen.append((now, clock()))
    return seen

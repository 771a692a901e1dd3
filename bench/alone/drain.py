"""How fast a backlog goes, without the start and the end of whoever drains it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from schemas.errors import ServiceUnavailable

Reading = TypeVar("Reading")

#: Shares of a backlog between which a rate is taken.
FROM, TO = 0.1, 0.95
#: Who drains nothing for so long has ended, or stands still.
_STUCK_SECONDS = 120.0


def drained(
    done: Callable[[], int], before: int, backlog: int, clock: Callable[[], Reading]
) -> list[tuple[int, Reading]]:
    """
    Wait for both shares of a backlog that begins at count `before`; give count and clock at each.

    Raise ServiceUnavailable where it is drained no further.
    """
    seen: list[tuple[int, Reading]] = []
    last, since = before, time.monotonic()
    for share in (FROM, TO):
        while (now := done()) < before + backlog * share:
            if now > last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > _STUCK_SECONDS:
                raise ServiceUnavailable(f"the backlog stands at {now - before} of {backlog}")
            time.sleep(0.02)
        seen.append((now, clock()))
    return seen

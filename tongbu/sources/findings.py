"""What is found at a source, and from where on a person is to look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["ok", "warning", "alarm"]


@dataclass(frozen=True)
class Limits:
    """Alarm levels; docs/capture.md lists them with the metrics they are for."""

    slot_lag_bytes: int = 256 * 1024 * 1024
    #: Of max_slot_wal_keep_size.
    wal_retained_share: float = 0.5
    binlog_expiry_seconds: int = 3 * 24 * 3600
    binlog_margin_seconds: int = 24 * 3600
    heartbeat_seconds: float = 60


LIMITS = Limits()


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `what` in words, the remedy where it is not well, and figures for metrics."""

    source: str
    check: str
    level: Level
    what: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def lost(source: str, what: str) -> Finding:
    """Give the finding that changes are lost; `what` names their range."""
    return Finding(
        source, "loss", "alarm", what,
        f"`tongbu recapture {source}` starts capture anew: a snapshot of all mapped tables brings every current row, then "
        f"`tongbu reconcile` names what is left to mend. What happened inside the range is not known to anybody but the source.",
    )  # fmt: skip

"""A MariaDB or MySQL source: its settings, its binlog's expiry, and whether it still holds what capture needs next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from tongbu.sources.findings import LIMITS, Finding, lost

#: variable -> value that capture needs.
_WANTED = {"log_bin": "ON", "binlog_format": "ROW", "binlog_row_image": "FULL"}


def inspect(
    name: str, database: str, cursor: Any, stored: Callable[[], dict[str, Any] | None] | None
) -> Iterator[Finding]:
    """Look at a MariaDB or MySQL source; `stored` gives the offset that capture has stored, None where nobody can be asked."""
    cursor.execute("SHOW GLOBAL VARIABLES")
    variables = dict(cursor.fetchall())
    yield from _settings(name, database, variables)
    expiry = float(
        variables.get("binlog_expire_logs_seconds")
        or float(variables.get("expire_logs_days") or 0) * 86_400
    )
    figures = {"binlog_expiry_seconds": expiry}
    if 0 < expiry < LIMITS.binlog_expiry_seconds:
        remedy = f"Raise binlog_expire_logs_seconds to {LIMITS.binlog_expiry_seconds} or more."
        what = f"kept for {expiry / 3600:.1f} h only"
        yield Finding(name, "binlog expiry", "warning", what, remedy, figures)
    else:
        what = f"kept for {expiry / 3600:.0f} h" if expiry else "kept for ever"
        yield Finding(name, "binlog expiry", "ok", what, figures=figures)
    if stored is not None:
        yield binlog_finding(name, cursor, stored(), expiry)


def _settings(name: str, database: str, variables: dict[str, str]) -> Iterator[Finding]:
    wanted = dict(_WANTED)
    if database == "mariadb" and "binlog_legacy_event_pos" in variables:
        wanted["binlog_legacy_event_pos"] = "ON"
    wrong = {key: variables.get(key) for key in wanted if variables.get(key) != wanted[key]}
    for key, value in wrong.items():
        why = (
            "rows inside a transaction can't be ordered"
            if "legacy" in key
            else "rows are missing or not whole"
        )
        yield Finding(name, "log", "alarm", f"{key} is {value}: {why}", f"Set {key}={wanted[key]}.")
    if not wrong:
        yield Finding(name, "log", "ok", "whole rows are logged, in order")


def binlog_finding(
    name: str, cursor: Any, offset: dict[str, Any] | None, expiry: float = 0
) -> Finding:
    """Compare the binlog with what capture has stored: a file that is purged is a loss, with its range."""
    cursor.execute("SHOW BINARY LOGS")
    logs = {row[0]: int(row[1]) for row in cursor.fetchall()}
    files = list(logs)
    if offset is None:
        remedy = "`tongbu apply` starts the connector."
        return Finding(name, "binlog", "warning", "nothing captured yet", remedy)
    file, pos = offset["file"], int(offset["pos"])
    written = offset.get("ts_sec")  # none in what a connector stores first after its start
    if file not in logs or pos > logs[file]:
        at = (
            f"{datetime.fromtimestamp(written, UTC):%Y-%m-%d %H:%M:%S} UTC"
            if written
            else "its time is not known"
        )
        oldest = f"the oldest is {files[0]}" if files else "there is none"
        why = "is purged" if file not in logs else f"is another one ({logs[file]:,} bytes)"
        return lost(
            name,
            f"the binlog {why}: changes from {file}, pos {pos} ({at}) are lost, {oldest}",
        )
    behind = len(files) - 1 - files.index(file)
    figures: dict[str, float] = {"binlog_files_behind": behind}
    what = f"capture stands at {file}, {behind} files before the newest"
    at_end = not behind and pos >= logs[file]
    if expiry and (at_end or written):
        age = 0.0 if at_end else max(0.0, time.time() - float(written or 0))
        margin = figures["binlog_margin_seconds"] = expiry - age
        if margin < LIMITS.binlog_margin_seconds:
            remedy = "Look at the Connect worker; raise binlog_expire_logs_seconds before the file is purged."
            what += f", which may be purged in {max(0.0, margin) / 3600:.1f} h"
            return Finding(name, "binlog", "alarm", what, remedy, figures)
    return Finding(name, "binlog", "ok", what, figures=figures)

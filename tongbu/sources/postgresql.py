"""A PostgreSQL source: its settings, the slot and the publication of the shipped connector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg

from schemas.captured import Table
from tongbu.sources.findings import LIMITS, Finding, lost

#: How a metric tells `wal_status`; from the third on it is an alarm.
WAL_STATUS = ("reserved", "extended", "unreserved", "lost")

_HARMED = """
SELECT p.schemaname || '.' || p.tablename FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = 'tongbu' AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
  SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))"""
_SLOT = """
SELECT active, wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,
  pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint,
  pg_size_bytes(current_setting('max_slot_wal_keep_size'))
FROM pg_replication_slots WHERE slot_name = %s"""


def inspect(
    name: str,
    pg: psycopg.Connection[Any],
    tables: tuple[Table, ...],
    stored: Callable[[], dict[str, Any] | None] | None,
    slot: str = "tongbu",
) -> Iterator[Finding]:
    """Look at a PostgreSQL source; `stored` gives the offset that capture has stored, None where nobody can be asked."""
    level = pg.execute("SHOW wal_level").fetchone()
    if level != ("logical",):
        why = f"wal_level is {level and level[0]}"
        yield Finding(name, "log", "alarm", why, "Set wal_level=logical, restart.")
    yield _publication(name, pg, tables)
    yield from _identities(name, pg)
    yield slot_finding(name, pg, stored, slot)


def _publication(name: str, pg: psycopg.Connection[Any], tables: tuple[Table, ...]) -> Finding:
    rows = pg.execute(
        "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'tongbu'"
    )
    missing = sorted({table.qualified for table in tables} - {row[0] for row in rows})
    figures = {"tables_unpublished": len(missing)}
    if missing:
        return Finding(
            name, "publication", "alarm", f"not published, so never captured: {', '.join(missing)}",
            "Have the owner run connectors-config/grants for these tables (ALTER PUBLICATION tongbu ADD TABLE …), "
            f"then `tongbu snapshot {name} {' '.join(missing)}`: what changed meanwhile was not captured.", figures,
        )  # fmt: skip
    what = f"all {len(tables)} mapped tables are published"
    return Finding(name, "publication", "ok", what, figures=figures)


def _identities(name: str, pg: psycopg.Connection[Any]) -> Iterator[Finding]:
    harmed = pg.execute(_HARMED).fetchall()
    figures = {"tables_without_identity": len(harmed)}
    for (table,) in harmed:
        yield Finding(
            name, "replica identity", "alarm", f"UPDATE and DELETE of {table} fail: published, without an identity",
            f"ALTER TABLE {table} ADD PRIMARY KEY (…), or REPLICA IDENTITY FULL, or take it out of the publication.", figures,
        )  # fmt: skip
    if not harmed:
        what = "every published table has one"
        yield Finding(name, "replica identity", "ok", what, figures=figures)


def slot_finding(
    name: str,
    pg: psycopg.Connection[Any],
    stored: Callable[[], dict[str, Any] | None] | None,
    slot: str = "tongbu",
) -> Finding:
    """
    Compare slot and log with what capture has stored: a slot that is gone, lost or younger is a loss, with its range; so is a log that ends earlier.

    `stored` is asked after the slot: a running connector stores its offset first and moves the slot then, so the other
    order would take the step between the two looks for a gap.
    """
    row = pg.execute(_SLOT, [slot]).fetchone()
    offset = stored() if stored is not None else None
    if row is None:
        if stored is None:
            return Finding(
                name,
                "slot",
                "alarm",
                "no slot; whether there was one is not known",
                "Start Kafka, look again.",
            )
        if offset is None:
            remedy = "`tongbu apply` starts the connector."
            return Finding(name, "slot", "warning", "no slot yet", remedy, {"slot_missing": 1})
        return lost(
            name, f"the slot is gone: changes since {_place(offset)} are lost, up to a new one"
        )
    active, status, lag, retained, confirmed, keeps = row
    if status == "lost":
        since = f" after {_place(offset)}" if offset else ""
        return lost(
            name,
            f"the server dropped WAL that the slot needed (max_slot_wal_keep_size): changes{since} are lost",
        )
    if offset and confirmed > offset.get("lsn", confirmed):
        gap = f"{_place(offset)} to {lsn(confirmed)}"
        return lost(name, f"the slot is younger than what was captured: changes of {gap} are lost")
    end = _end(pg)
    if offset and end < offset.get("lsn", end):
        return lost(
            name,
            f"the server was restored or replaced: its log ends at {lsn(end)}, before what was captured ({_place(offset)}); "
            "the connector would pass over all that is written up to there",
        )
    figures = {
        "slot_missing": 0, "slot_active": int(active), "slot_lag_bytes": lag, "wal_retained_bytes": retained,
        "wal_status": WAL_STATUS.index(status),
    }  # fmt: skip
    shown = f"{lag:,} bytes behind, {retained:,} bytes of WAL retained, wal_status {status}"
    if not active:
        what, remedy = f"nobody reads it: {shown}", "`tongbu plan` tells why."
        return Finding(name, "slot", "alarm", what, remedy, figures)
    too_much = 0 < keeps * LIMITS.wal_retained_share < retained
    if lag > LIMITS.slot_lag_bytes or status == "unreserved" or too_much:
        remedy = "Look at the Connect worker; raise max_slot_wal_keep_size before the slot is lost."
        return Finding(name, "slot", "alarm", shown, remedy, figures)
    return Finding(name, "slot", "ok", shown, figures=figures)


def _end(pg: psycopg.Connection[Any]) -> int:
    """Give where the server's log ends. Asked after the stored offset: the other order would take progress for a restore."""
    row = pg.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchone()
    return int(row[0]) if row else 0


def lsn(number: int) -> str:
    """Spell a log place as PostgreSQL does."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def _place(offset: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(offset.get("ts_usec", 0) / 1e6, UTC)
    return f"lsn {lsn(offset['lsn'])} ({at:%Y-%m-%d %H:%M:%S} UTC)"

"""The content of targets in one figure per target: equal for equal rows, whatever their order and database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import orjson

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding
from sink_writers import targets

_BITS = 128


@dataclass(frozen=True, slots=True)
class Content:
    """How many rows the tables of a target have, and their checksum: mapped columns and versions."""

    rows: int
    checksum: str

    def as_json(self) -> dict[str, Any]:
        """Give it as reports hold it."""
        return asdict(self)


def of_target(binding: RelationalBinding, catalog: Catalog) -> Content:
    """Read all tables of a target."""
    return of_rows(
        (table.name, row)
        for table in targets.tables(binding, catalog)
        for row in targets.read_rows(binding, catalog, table.name)
    )


def of_rows(rows: Iterable[tuple[str, dict[str, Any]]]) -> Content:
    """Give the sum of the rows' hashes (128 bits): independent of order, and a row that is there twice shows."""
    count = total = 0
    for table, row in rows:
        count += 1
        total += int.from_bytes(blake2b(_canonical(table, row), digest_size=_BITS // 8).digest())
    return Content(count, f"{total % (1 << _BITS):0{_BITS // 4}x}")


def _canonical(table: str, row: dict[str, Any]) -> bytes:
    return orjson.dumps(
        [table, row],
        default=_text,
        option=orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME,
    )


def _text(value: Any) -> str:
    """Spell a value as no database or session does it otherwise."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no spelling for {type(value).__name__}")

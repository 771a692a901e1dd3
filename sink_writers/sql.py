"""SQL that PostgreSQL, MariaDB and MySQL, and their drivers, understand alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_CHUNK = 1000


def inside(
    cursor: Any, query: str, values: Sequence[Any], before: Sequence[Any] = ()
) -> Iterator[tuple[Any, ...]]:
    """Run a query that ends in `in ` for lists of values, some at a time; `before` are its earlier parameters."""
    for start in range(0, len(values), _CHUNK):
        some = values[start : start + _CHUNK]
        cursor.execute(f"{query}({', '.join(['%s'] * len(some))})", [*before, *some])
        yield from cursor.fetchall()


def grouped(rows: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Give the second values of rows by the first."""
    found: dict[str, set[str]] = {}
    for first, second in rows:
        found.setdefault(first, set()).add(second)
    return found

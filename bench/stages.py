"""Where the time of Tongbu's transactions goes, hop by hop: the stage clock that every record carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tongbu.latency import percentiles

#: Hop -> the two times of the stage log it lies between; the target's commit time is put in as `committed_target`.
HOPS = {
    "commit to topic": ("committed_at", "captured"),
    "topic to processor": ("captured", "received"),
    "processor": ("received", "produced"),
    "produced to sink": ("produced", "consumed"),
    "sink to commit": ("consumed", "applied"),
    "total": ("committed_at", "applied"),
}


def by_hop(
    lines: Iterable[Mapping[str, Any]], begin: float, end: float
) -> dict[str, dict[str, float]]:
    """Give the percentiles of each hop in ms, for transactions committed between two times (seconds since 1970)."""
    found: dict[str, list[float]] = {hop: [] for hop in HOPS}
    for line in lines:
        committed = line["committed_at"]
        if committed is None or not begin <= committed / 1e6 <= end:
            continue
        for hop, (first, last) in HOPS.items():
            found[hop].append((line[last] - line[first]) / 1000)
    return {hop: percentiles(values) for hop, values in found.items()}

"""Spans of time in which something happened, and which of them the slow transactions met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.stages import HOPS

#: Slow transactions nearer to each other than this are one stall, in seconds.
_GAP_SECONDS = 0.05
_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted; times in seconds since 1970."""

    what: str
    begin: float
    end: float

    def met(self, other: Span) -> float:
        """Give how many seconds both have in common."""
        return max(0.0, min(self.end, other.end) - max(self.begin, other.begin))


@dataclass(frozen=True, slots=True)
class Stall:
    """Transactions that were slow together: from the first one's commit in the source to the last one's in the target."""

    span: Span
    transactions: int
    slowest_ms: float
    #: Hop -> the most that it took, in ms.
    hops: Mapping[str, float]

    @property
    def where(self) -> str:
        """The hop that took longest."""
        return max(self.hops, key=self.hops.__getitem__)


def stalls(lines: Iterable[Mapping[str, Any]], slow_ms: float) -> list[Stall]:
    """Give the stalls of a stage log: neighbours that took at least so long from commit to commit."""
    slow = sorted(
        (line for line in lines if line["committed_at"] and _ms(line, "total") >= slow_ms),
        key=lambda line: line["committed_at"],
    )
    groups: list[list[Mapping[str, Any]]] = []
    end = 0.0
    for line in slow:
        if not groups or line["committed_at"] / _MICRO - end > _GAP_SECONDS:
            groups.append([])
        groups[-1].append(line)
        end = max(end, line["applied"] / _MICRO)
    return [_stall(group) for group in groups]


def _stall(group: Sequence[Mapping[str, Any]]) -> Stall:
    begin = min(line["committed_at"] for line in group) / _MICRO
    end = max(line["applied"] for line in group) / _MICRO
    hops = {hop: max(_ms(line, hop) for line in group) for hop in HOPS if hop != "total"}
    slowest = max(_ms(line, "total") for line in group)
    return Stall(Span("stall", begin, end), len(group), slowest, hops)


def _ms(line: Mapping[str, Any], hop: str) -> float:
    first, last = HOPS[hop]
    return float(line[last] - line[first]) / 1000


def silences(lines: Iterable[Mapping[str, Any]], seconds: float) -> list[Span]:
    """Give when the source committed nothing for so long, although a load was due: it stood still itself."""
    times = sorted(line["committed_at"] / _MICRO for line in lines if line["committed_at"])
    return [
        Span("the source commits nothing", a, b) for a, b in pairwise(times) if b - a >= seconds
    ]


def shares(spans: Iterable[Span], met: Sequence[Span], whole: Span) -> list[dict[str, Any]]:
    """
    Give for each kind of span how much of all the time it takes, how much of the time in `met`, and the ratio of both.

    What has to do with stalls takes a larger share of them than of the rest; a ratio near 1 is chance.
    """
    kinds: dict[str, list[Span]] = {}
    for span in spans:
        if span.met(whole):
            kinds.setdefault(span.what, []).append(span)
    stalled = sum(each.end - each.begin for each in met)
    found = []
    for what, each_of_it in kinds.items():
        share = sum(span.met(whole) for span in each_of_it) / (whole.end - whole.begin)
        within = sum(span.met(stall) for span in each_of_it for stall in met) / stalled if stalled else 0.0  # fmt: skip
        found.append(
            {
                "what": what, "times": len(each_of_it),
                "longest_ms": round(max(span.end - span.begin for span in each_of_it) * 1000, 1),
                "share": round(share, 4), "share_in_stalls": round(within, 4), "ratio": round(within / share, 1),
            }
        )  # fmt: skip
    return sorted(found, key=lambda line: -line["share_in_stalls"])

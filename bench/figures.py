"""The figures of a run: percentiles per load, backlog rates, medians over rounds, and the ratio to the peer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from schemas.errors import TongbuError
from tongbu.latency import percentiles

#: A load above this share of a system's backlog rate is no latency test: queues grow.
SATURATED = 0.8
#: Transactions of the first seconds of a load are not counted: caches and JVMs find their pace.
LEAD_IN_SECONDS = 1.5

#: From which kind of source to which kind of target.
PATH = "postgresql-postgresql"
QUANTILES = ("p50", "p95", "p99", "p999", "max")


@dataclass(slots=True)
class Load:
    """One load on one system in one round; `latencies` in ms as (source commit in s, ms); `cpu` in seconds by role."""

    system: str
    round: int
    tx_per_s: int
    rows_per_tx: int
    latencies: list[tuple[float, float]]
    late_ms: float
    cpu: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    path: str = PATH


@dataclass(slots=True)
class Backlog:
    """One backlog drained by one system in one round; `cpu` in seconds by role for `rows_drained` rows."""

    system: str
    round: int
    rows: int
    rows_per_s: float
    cpu: dict[str, float]
    rows_drained: int
    path: str = PATH

    @property
    def cpu_s_per_1000_rows(self) -> float:
        """CPU seconds of all roles together."""
        return sum(self.cpu.values()) / self.rows_drained * 1000


def latencies(
    source: Mapping[int, float], target: Mapping[int, float]
) -> list[tuple[float, float]]:
    """
    Give (source commit, ms from it to the target's commit) per order, without those of the lead-in.

    Raise ValueError where an order did not arrive: a percentile over those that did would be a lie.
    """
    if missing := source.keys() - target.keys():
        raise ValueError(f"{len(missing)} orders did not arrive, e.g. {min(missing)}")
    begin = min(source.values()) + LEAD_IN_SECONDS
    return sorted((at, (target[key] - at) * 1000) for key, at in source.items() if at >= begin)


def backlog_rate(target: Mapping[int, float], rows_per_order: float) -> float:
    """
    Give rows per second from the first target commit to the last; what came with the first is not counted.

    Raise TongbuError where all came with it.
    """
    first, last = min(target.values()), max(target.values())
    if last == first:
        raise TongbuError("the backlog came in one commit, which tells no rate", "Take a larger one: --backlog ROWS.")  # fmt: skip
    return sum(at > first for at in target.values()) * rows_per_order / (last - first)


def saturated(tx_per_s: float, rows: float, backlog_rows_per_s: float) -> bool:
    """Tell whether a load of so many rows in all per transaction is too near to what a system can do for percentiles to mean anything."""
    return tx_per_s * rows > SATURATED * backlog_rows_per_s


def report_loads(
    loads: Iterable[Load], too_much: Iterable[tuple[str, str, int, int]] = ()
) -> list[dict[str, Any]]:
    """
    Give one line per system, path and load: medians over rounds.

    A load that was too much in any round (system, path, transactions per second, lines) is said to be saturated.
    """
    groups: dict[tuple[str, str, int, int], list[Load]] = {key: [] for key in too_much}
    saturated_ones = set(groups)
    for load in loads:
        key = (load.system, load.path, load.tx_per_s, load.rows_per_tx)
        groups.setdefault(key, []).append(load)
    return [
        _load_line(key, groups[key], key in saturated_ones) for key in sorted(groups, key=_place)
    ]


def _place(key: tuple[str, str, int, int]) -> tuple[bool, str, str, int, int]:
    """Give where a load stands: PostgreSQL to PostgreSQL first, small transactions before large ones."""
    system, path, tx_per_s, rows_per_tx = key
    return path != PATH, path, system, rows_per_tx, tx_per_s


def _load_line(
    key: tuple[str, str, int, int], rounds: list[Load], is_saturated: bool
) -> dict[str, Any]:
    system, path, tx_per_s, rows_per_tx = key
    line: dict[str, Any] = {
        "system": system, "path": path, "tx_per_s": tx_per_s, "rows_per_tx": rows_per_tx,
        "rounds": len(rounds), "transactions": sum(len(each.latencies) for each in rounds),
    }  # fmt: skip
    if is_saturated:
        return line | {"saturated": True}
    each_round = [percentiles(ms for _, ms in each.latencies) for each in rounds]
    line |= {name: round(median(found[name] for found in each_round), 2) for name in QUANTILES}
    spent = [sum(each.cpu.values()) / each.rows * 1000 for each in rounds if each.rows]
    if spent:
        line["cpu_s_per_1000_rows"] = round(median(spent), 3)
    return line


def report_backlogs(backlogs: Iterable[Backlog]) -> list[dict[str, Any]]:
    """Give one line per system and path: medians over rounds, with CPU by role."""
    groups: dict[tuple[str, str], list[Backlog]] = {}
    for backlog in backlogs:
        groups.setdefault((backlog.system, backlog.path), []).append(backlog)
    lines = []
    for (system, path), rounds in groups.items():
        roles = {role for each in rounds for role in each.cpu}
        by_role = {
            role: round(median(e.cpu.get(role, 0.0) / e.rows_drained * 1000 for e in rounds), 4)
            for role in sorted(roles)
        }
        lines.append(
            {
                "system": system, "path": path, "rounds": len(rounds), "rows": rounds[0].rows,
                "rows_per_s": round(median(each.rows_per_s for each in rounds)),
                "rows_per_s_rounds": [round(each.rows_per_s) for each in rounds],
                "cpu_s_per_1000_rows": round(median(each.cpu_s_per_1000_rows for each in rounds), 3),
                "cpu_by_role": by_role,
            }
        )  # fmt: skip
    return lines


def ratio(
    runs: Iterable[dict[str, Any]], backlog: Iterable[dict[str, Any]], ours: str, peer: str
) -> dict[str, float]:
    """Give ours by the peer's, from PostgreSQL to PostgreSQL: latencies at 50/s and 400/s, rows/s of the backlog, CPU per row. Lacking ones are left out."""
    of = {
        (line["system"], line["tx_per_s"]): line
        for line in runs
        if (line["path"], line["rows_per_tx"]) == (PATH, 2)
    }
    found: dict[str, float] = {}
    for tx_per_s in (50, 400):
        mine, other = of.get((ours, tx_per_s), {}), of.get((peer, tx_per_s), {})
        for name in ("p50", "p99"):
            if name in mine and name in other:
                found[f"{name}_{tx_per_s}"] = round(mine[name] / other[name], 3)
    rates = {line["system"]: line for line in backlog if line["path"] == PATH}
    if ours in rates and peer in rates:
        found["backlog"] = round(rates[ours]["rows_per_s"] / rates[peer]["rows_per_s"], 3)
        cpu = "cpu_s_per_1000_rows"
        found["cpu"] = round(rates[ours][cpu] / rates[peer][cpu], 3)
    return found

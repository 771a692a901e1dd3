"""`python -m bench stalls`: Tongbu under load right after a backlog, and what else happened while transactions were slow."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rich.console import Console

from bench.connect import Connect
from bench.source import Erp
from bench.stalls import cores, probes
from bench.stalls.pauses import Pauses
from bench.stalls.spans import Span, Stall, shares, silences, stalls
from bench.system import wait
from bench.tongbu_system import Tongbu
from tongbu.instance import Instance
from tongbu.latency import Tail, percentiles
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

#: A source that is to commit 400/s and does not for so long stands still.
_SILENCE_SECONDS = 0.04
_QUICK, _SLOW = 0.02, 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds of a backlog of so many rows and a load of so many transactions/s; `slow_ms` from commit to commit is a stall."""

    rounds: int
    rate: int
    seconds: float
    backlog: int
    slow_ms: float


def perform(name: str, plan: Plan, console: Console, *, keep: bool = False) -> dict[str, Any]:
    """Watch a load on a stack of its own; give the stalls, and the share of them in which anything else happened."""
    instance = Instance.load(name)
    environment = instance.environment()
    os.environ.update(environment)
    pauses = Pauses(instance.folder / "pauses")
    watches_cores = cores.allowed()
    if not watches_cores:
        console.print(
            "Real-time threads are not allowed, so nothing tells when a core serves nobody."
        )
    try:
        with Progress(console) as progress:
            lifecycle.up(instance, progress, with_pipeline=False, rewire=pauses.rewire)
        source = Erp(environment["ERP_DSN"])
        ours = Tongbu(instance, Connect(environment["CONNECT_URL"]), environment)
        ours.start()
        ours.await_snapshot()
        source.load(400, 2, 10, seed=1)
        rounds = []
        for number in range(1, plan.rounds + 1):
            rounds.append(_round(instance, plan, source, ours, pauses, number, watches_cores))
            console.print(_line(rounds[-1]), highlight=False)
        source.close()
    finally:
        if not keep:
            lifecycle.down(instance, purge=True)
    return {"plan": asdict(plan), "rounds": rounds}


def _round(
    instance: Instance,
    plan: Plan,
    source: Erp,
    ours: Tongbu,
    pauses: Pauses,
    number: int,
    watches_cores: bool,
) -> dict[str, Any]:
    if plan.backlog:
        backlog = source.backlog(plan.backlog, 2)
        wait("the backlog is drained", partial(ours.arrived, backlog))
    tail = Tail(ours.stages)
    begin = time.time()
    with ExitStack() as watching:
        threads = watching.enter_context(closing(probes.Threads(instance.folder)))
        looks: list[probes.Looks | cores.Cores] = [
            probes.Looks(probes.fsyncs(instance.folder), _QUICK),
            probes.Looks(probes.pressure(), _SLOW),
            probes.Looks(probes.cores(threads), _SLOW),
            probes.Looks(probes.postgresql(instance.postgres_admin_dsn()), _QUICK),
            *([cores.Cores()] if watches_cores else []),
        ]
        for each in looks:
            watching.enter_context(each)
        orders = source.load(plan.rate, 2, plan.seconds, seed=10 * number)
        wait("the load is applied", partial(ours.arrived, orders))
    lines = [line for line in tail.follow() if line["source"] == "erp"]
    spans = [span for each in looks for span in each.spans] + list(pauses.spans())
    spans += silences(lines, _SILENCE_SECONDS)
    totals = [(line["applied"] - line["committed_at"]) / 1000 for line in lines]
    found = stalls(lines, plan.slow_ms)
    return {
        "round": number,
        "latency_ms": percentiles(totals),
        "late_ms": round(orders.late_ms, 1),
        "stalls": [_told(each, spans) for each in found],
        "transactions_in_stalls": sum(each.transactions for each in found),
        "slowest_hop": dict(Counter(each.where for each in found).most_common()),
        "meanwhile": shares(spans, [each.span for each in found], Span("load", begin, time.time())),
    }


def _told(stall: Stall, spans: Sequence[Span]) -> dict[str, Any]:
    met: dict[str, float] = {}
    for span in spans:
        if seconds := span.met(stall.span):
            met[span.what] = met.get(span.what, 0.0) + seconds * 1000
    return {
        "at": round(stall.span.begin, 3),
        "ms": round((stall.span.end - stall.span.begin) * 1000, 1),
        "transactions": stall.transactions,
        "slowest_ms": round(stall.slowest_ms, 1),
        "slowest_of_each_hop_ms": {hop: round(ms, 1) for hop, ms in stall.hops.items()},
        "meanwhile_ms": {what: round(ms, 1) for what, ms in sorted(met.items(), key=lambda each: -each[1])},
    }  # fmt: skip


def _line(found: dict[str, Any]) -> str:
    latency = found["latency_ms"]
    lines = [
        f"round {found['round']}: p50 {latency['p50']:.1f}, p99 {latency['p99']:.1f}, max {latency['max']:.0f} ms; "
        f"{len(found['stalls'])} stalls with {found['transactions_in_stalls']} transactions; slowest hop: {found['slowest_hop']}"
    ]
    lines += [
        f"  {each['what']:<60} {each['times']:>5} x, longest {each['longest_ms']:>6.1f} ms; "
        f"{each['share']:>6.1%} of the time, {each['share_in_stalls']:>6.1%} of the stalls"
        for each in found["meanwhile"]
    ]
    return "\n".join(lines)

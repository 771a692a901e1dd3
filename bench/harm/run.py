"""
A whole run of harm: a stack whose connections and clocks can be harmed, rounds of faults under load, the verdict.

After each fault a change per lane is committed and awaited in every target. At the end, when all is quiet, sources and
targets are compared row by row through the mapping, and approvals with the events that the partner's endpoint received.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from bench.connect import Connect
from bench.harm.business import Business
from bench.harm.clocks import Clocks
from bench.harm.links import Links
from bench.harm.probe import Probe
from bench.harm.services import Services
from bench.harm.stack import Harm, Stack
from bench.harm.table import KINDS, missing
from bench.harm.verdict import STUCK_SECONDS, judge
from bench.harm.wiring import Wiring
from bench.whole_stack import whole_stack
from tongbu.instance import Instance
from tongbu.progress import Steps

#: What recovery is to take at most, from the fault's end.
RECOVERY_SECONDS = 15.0
_RATE = 40


@dataclass(frozen=True, slots=True)
class Round:
    """
    A fault; how many seconds after its end a new change was in each target, None where it never came; what else is wrong.

    `fault_s` is how long the fault itself lasted: of what was killed, until it was back.
    """

    harm: Harm
    recovery_s: dict[str, float | None]
    trouble: tuple[str, ...] = ()
    fault_s: float = 0.0

    @property
    def slowest(self) -> float | None:
        """Seconds until the last target had it, None where one never got it."""
        times = [STUCK_SECONDS if each is None else each for each in self.recovery_s.values()]
        return None if None in self.recovery_s.values() or self.trouble else max(times)


def do_harm(name: str, plan: Sequence[Harm], seed: int, console: Console, *, keep: bool = False) -> dict[str, Any]:  # fmt: skip
    """Do harm and judge; give the report."""
    began = time.monotonic()
    instance = Instance.load(name)
    clocked = {harm.target for harm in plan if harm.kind.startswith("clock")}
    with Links() as links, Clocks(clocked, keep=keep) as clocks:
        wiring = Wiring(instance, links, clocks)
        with whole_stack(instance, console, keep=keep, rewire=wiring.rewire):
            stack = Stack(instance, dict(os.environ), Services(instance), links, clocks)
            rounds, skipped = suffer(stack, plan, seed, console.print)
            with Steps(console) as steps:
                verdict = judge(stack.environment, steps)
    if keep:
        console.print(
            f"{name} is left up, but its connections led through this run: `tongbu up --instance {name}` makes them direct"
        )
    return report(rounds, skipped, verdict) | {"seconds": round(time.monotonic() - began)}


def suffer(
    stack: Stack, plan: Sequence[Harm], seed: int, tell: Callable[[str], None]
) -> tuple[list[Round], dict[str, str]]:
    """Do all faults, one after the other, under load; give the rounds, and why faults could not be done."""
    probe, connect = Probe(stack.environment), Connect(stack.environment["CONNECT_URL"])
    rounds, skipped = [], {}
    with Business(stack.environment, _RATE, seed):
        probe.recovery(STUCK_SECONDS)
        for number, harm in enumerate(plan, 1):
            if why := missing(stack, harm):
                skipped[str(harm)] = why
                continue
            began = time.monotonic()
            trouble = _do(stack, harm)
            lasted = round(time.monotonic() - began, 1)
            recovery = probe.recovery(STUCK_SECONDS)
            failed = tuple(f"connector {name} failed" for name in connect.failed())
            rounds.append(Round(harm, recovery, (*trouble, *failed), lasted))
            tell(_line(number, rounds[-1]))
    return rounds, skipped


def _do(stack: Stack, harm: Harm) -> tuple[str, ...]:
    """Do a fault; give what went wrong with it."""
    try:
        KINDS[harm.kind].do(stack, harm)
    except Exception as error:  # the run goes on, the report names it
        return (f"{type(error).__name__}: {error}",)
    return ()


def _line(number: int, found: Round) -> str:
    times = ", ".join(
        f"{target} {'STUCK' if seconds is None else f'{seconds:.1f} s'}"
        for target, seconds in found.recovery_s.items()
    )
    return f"round {number}: {found.harm} ({found.fault_s} s): {times} {'; '.join(found.trouble)}"  # fmt: skip


def _longest(rounds: Sequence[Round]) -> dict[str, float]:
    """Give how long the three longest faults lasted: what a server needs to start is no recovery of ours, and is told apart."""
    longest = sorted(rounds, key=lambda each: each.fault_s, reverse=True)[:3]
    return {str(each.harm): each.fault_s for each in longest}


def report(
    rounds: Sequence[Round], skipped: dict[str, str], verdict: dict[str, Any]
) -> dict[str, Any]:
    """Give the report of a run: the verdict in numbers first."""
    times = sorted(each.slowest for each in rounds if each.slowest is not None)
    late = [each for each in rounds if each.slowest is not None and each.slowest > RECOVERY_SECONDS]
    stuck = [each for each in rounds if each.slowest is None]
    numbers = {name: verdict[name] for name in ("lost", "doubled", "mismatched")}
    return {
        "rounds": len(rounds),
        "faults": dict(Counter(str(each.harm) for each in rounds)),
        **numbers,
        "stuck": len(stuck) + verdict["withheld"] + (not verdict["quiet"]),
        "late": len(late),
        "max_recovery_s": times[-1] if times else 0.0,
        "median_recovery_s": times[len(times) // 2] if times else 0.0,
        "longest_faults_s": _longest(rounds),
        "not_done": skipped,
        "stuck_rounds": [asdict(each) for each in stuck],
        "late_rounds": [asdict(each) for each in late],
        **{name: verdict[name] for name in ("withheld", "quiet", "parity", "effects")},
        "each_round": [asdict(each) for each in rounds],
    }

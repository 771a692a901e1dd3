"""The table of faults: each does its harm to a stack under load, and returns when the fault is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from bench.harm import clocks, data
from bench.harm.services import SERVICES
from bench.harm.stack import Harm, Stack, last
from bench.harm.wiring import LINK_NAMES

#: What a clock is wrong by, in seconds: an hour, as with a wrong time zone.
_WRONG = 3600
#: What everything takes longer over a slow link.
_SLOW_SECONDS = 0.15


def kill(stack: Stack, harm: Harm) -> None:
    """`kill -9`; the supervisor starts it again."""
    stack.services.kill(harm.target)


def freeze(stack: Stack, harm: Harm) -> None:
    """SIGSTOP, and after a while SIGCONT."""
    with stack.services.frozen(harm.target):
        last(harm)


def cut(stack: Stack, harm: Harm) -> None:
    """Break the connections of a link, and refuse new ones for a while."""
    stack.links.do(stack.links[harm.target].cut())
    _heal_later(stack, harm)


def stall(stack: Stack, harm: Harm) -> None:
    """Let a link's connections stand for a while without bringing anything over."""
    stack.links.do(stack.links[harm.target].stall())
    _heal_later(stack, harm)


def slow(stack: Stack, harm: Harm) -> None:
    """Let everything take longer over a link for a while."""
    stack.links.do(stack.links[harm.target].slow(_SLOW_SECONDS))
    _heal_later(stack, harm)


def _heal_later(stack: Stack, harm: Harm) -> None:
    last(harm)
    stack.links.do(stack.links[harm.target].heal())


def disk_full(stack: Stack, harm: Harm) -> None:
    """No file of the service can grow for a while."""
    stack.services.without_disk(harm.target, harm.seconds)


def clock_forward(stack: Stack, harm: Harm) -> None:
    """The clock of a process jumps an hour ahead, and back after a while."""
    _set_clock(stack, harm, _WRONG)


def clock_back(stack: Stack, harm: Harm) -> None:
    """The clock of a process jumps an hour back, and is right again after a while."""
    _set_clock(stack, harm, -_WRONG)


def _set_clock(stack: Stack, harm: Harm, seconds: int) -> None:
    stack.clocks.set(harm.target, seconds)
    time.sleep(clocks.SEEN_SECONDS)
    last(harm)
    stack.clocks.set(harm.target, 0)
    time.sleep(clocks.SEEN_SECONDS)


def lost(stack: Stack, harm: Harm) -> None:
    """The registry is away, and who reads by it has to start anew meanwhile."""
    with stack.services.stopped(harm.target):
        for service in ("processor", "sink-warehouse", "sink-order-events"):
            stack.services.kill(service)
        last(harm)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault, and what it can be done to."""

    do: Callable[[Stack, Harm], None]
    targets: tuple[str, ...]


_CLOCKED = (*clocks.SERVERS, *clocks.JVMS, *clocks.OWN)
#: A new fault is a function and a line here.
KINDS: dict[str, Kind] = {
    "kill": Kind(kill, SERVICES),
    "freeze": Kind(freeze, SERVICES),
    "cut": Kind(cut, LINK_NAMES),
    "stall": Kind(stall, LINK_NAMES),
    "slow": Kind(slow, LINK_NAMES),
    "disk-full": Kind(disk_full, ("processor", "kafka")),
    "clock-forward": Kind(clock_forward, _CLOCKED),
    "clock-back": Kind(clock_back, _CLOCKED),
    "lost": Kind(lost, ("registry",)),
    "poison": Kind(data.poison, ("lane", "row")),
    "large-row": Kind(data.large_row, ("erp",)),
    "giant": Kind(data.giant, ("erp",)),
    "new-column": Kind(data.new_column, ("erp", "oa")),
    "renamed-column": Kind(data.renamed_column, ("erp", "oa")),
    "snapshot": Kind(data.snapshot, ("erp", "oa")),
    "fill": Kind(data.fill, ("warehouse", "oa")),
}


def missing(stack: Stack, harm: Harm) -> str:
    """Tell why a fault can't be done here; "" where it can."""
    return stack.clocks.missing(harm.target) if harm.kind.startswith("clock") else ""


def choose(rounds: int, seed: int, kinds: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Harm]:  # fmt: skip
    """
    Give the faults of a run, in an order and with times that follow from the seed.

    Every kind of fault comes to every target once before any comes again. `kinds` and `targets`, where there are any,
    leave only those.
    """
    random = Random(seed)
    turn = [
        (name, target)
        for name, kind in KINDS.items()
        for target in kind.targets
        if (not kinds or name in kinds) and (not targets or target in targets)
    ]
    plan: list[Harm] = []
    while turn and len(plan) < rounds:
        random.shuffle(turn)
        plan += [Harm(name, target, round(random.uniform(2, 6), 1)) for name, target in turn]
    return plan[:rounds]

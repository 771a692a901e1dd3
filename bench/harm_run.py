"""A whole run of harm, or of a soak: stack, work, verdict, report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench import soak
from bench.harm import Victim, unhealed
from bench.services import SERVICES, Services, choose
from bench.whole_stack import whole_stack
from schemas.errors import TongbuError
from tongbu.instance import run_folder
from tongbu.progress import Steps
from tongbu.reports import write_report

_SOAK_RATE = 50.0


def do_harm(name: str, rounds: int, seed: int, only: Sequence[str], *, keep: bool = False) -> None:
    """Do harm and judge; raise TongbuError where anything was lost, doubled, mismatched or stuck."""
    if unknown := set(only) - set(SERVICES):
        raise TongbuError(f"unknown services: {sorted(unknown)}", f"Known: {', '.join(SERVICES)}.")
    console = Console()
    with whole_stack(name, console, keep=keep) as instance:
        victim = Victim(dict(os.environ), Services(instance), console.print)
        suffered = victim.suffer(choose(rounds, seed, tuple(only) or SERVICES))
        with Steps(console) as steps:
            report = {"seed": seed} | victim.verdict(suffered, steps)
    _conclude("harm.json", report, console)


def do_soak(name: str, hours: float, *, keep: bool = False) -> None:
    """Play business for hours, tell what grew, and compare every row at the end."""
    console, samples_file = Console(), run_folder() / "reports/soak.jsonl"
    samples_file.parent.mkdir(parents=True, exist_ok=True)
    with whole_stack(name, console, keep=keep) as instance:
        samples = soak.play(instance, hours, _SOAK_RATE, samples_file, console.print)
        victim = Victim(dict(os.environ), Services(instance), console.print)
        with Steps(console) as steps:
            report: dict[str, Any] = victim.verdict([], steps)
    report |= {"hours": hours, "rate": _SOAK_RATE, "growth_mib_per_hour": soak.growth(samples)}
    report |= {"first": samples[0], "last": samples[-1]}
    _conclude("soak.json", report, console)


def _conclude(name: str, report: dict[str, Any], console: Console) -> None:
    file = run_folder() / "reports" / name
    write_report(file, report)
    effects, mismatched = report["effects"], sum(report["mismatched"].values())
    console.print(
        f"{report['rounds']} faults: mismatched rows {mismatched}, effects lost {effects['lost']}, "
        f"doubled {effects['doubled']}, stuck {report['stuck']}, slowest recovery {report['recovery_s_max']} s\n"
        f"report: {file}",
        highlight=False,
    )
    if unhealed(report):
        raise TongbuError("harm was done that did not heal", "The report names rounds and rows.")

"""A whole run of a soak: stack, hours of business, verdict, report."""

from __future__ import annotations

import os

from rich.console import Console

from bench import soak
from bench.harm.verdict import holds, judge
from bench.whole_stack import whole_stack
from schemas.errors import TongbuError
from tongbu.instance import Instance, run_folder
from tongbu.progress import Steps
from tongbu.reports import write_report


def do_soak(name: str, hours: float, rate: float, *, keep: bool = False) -> None:
    """Play business for hours, tell what grew, and compare every row at the end; raise TongbuError where one differs or is withheld."""
    console, folder, instance = Console(), run_folder() / "reports", Instance.load(name)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_stack(instance, console, keep=keep):
        samples = soak.play(instance, hours, rate, folder / "soak.jsonl", console.print)
        with Steps(console) as steps:
            verdict = judge(dict(os.environ), steps)
    found = {
        "hours": hours,
        "rate": rate,
        "growth_mib_per_hour": soak.growth(samples, "memory_mib"),
        "growth_files_per_hour": soak.growth(samples, "files"),
        "first": samples[0],
        "last": samples[-1],
    }
    write_report(folder / "soak.json", found | verdict)
    console.print(f"report: {folder / 'soak.json'}", highlight=False)
    if not holds(verdict):
        raise TongbuError(
            "source and targets differ, or rows were withheld", "The report names the first."
        )

"""`make faults`: the faults of a whole stack and those of the processor alone, in one report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench.harm.run import RECOVERY_SECONDS, do_harm
from bench.harm.table import KINDS, choose
from schemas.errors import TongbuError
from tongbu.instance import ROOT, run_folder
from tongbu.reports import write_report

PARTS = ("stack", "processor")
#: Of four rounds, three are the stack's.
_OF, _STACK = 4, 3
_COUNTED = ("rounds", "lost", "doubled", "mismatched", "stuck", "late")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is to do; `part`, `kinds` and `targets`, where given, leave only those."""

    rounds: int
    seed: int
    part: str = ""
    kinds: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise TongbuError for what is unknown, or would be no fault at all."""
        known = {target for kind in KINDS.values() for target in kind.targets}
        for what, given, all_of_them in (
            ("part", {self.part} - {""}, PARTS),
            ("kind", set(self.kinds), KINDS),
            ("target", set(self.targets), sorted(known)),
        ):
            if unknown := given - set(all_of_them):
                raise TongbuError(
                    f"unknown {what}: {', '.join(sorted(unknown))}",
                    f"Known: {', '.join(all_of_them)}.",
                )
        if self.part == "processor" and (self.kinds or self.targets):
            raise TongbuError(
                "--kind and --target choose faults of a whole stack",
                "Those of the processor alone: python -m bench.faults --only NAME.",
            )
        if not choose(1, self.seed, self.kinds, self.targets):
            raise TongbuError(
                f"nothing of {', '.join(self.kinds)} is done to {', '.join(self.targets)}",
                "; ".join(f"{kind}: {', '.join(KINDS[kind].targets)}" for kind in self.kinds),
            )

    def share(self, part: str) -> int:
        """Give how many rounds a part has."""
        if self.kinds or self.targets or self.part:
            return self.rounds if part == (self.part or "stack") else 0
        stacks = -(-self.rounds * _STACK // _OF)
        return stacks if part == "stack" else self.rounds - stacks


def perform(wanted: Wanted, instance: str, *, keep: bool = False) -> None:
    """Do all rounds, write `faults.json`; raise TongbuError where harm did not heal."""
    wanted.check()
    console = Console(soft_wrap=True, highlight=False)
    parts: dict[str, dict[str, Any]] = {}
    file = run_folder() / "reports/faults.json"
    file.unlink(missing_ok=True)  # an earlier run's would be taken for this one's where it is ended
    if rounds := wanted.share("stack"):
        plan = choose(rounds, wanted.seed, wanted.kinds, wanted.targets)
        parts["stack"] = do_harm(instance, plan, wanted.seed, console, keep=keep)
        write_report(file, together(wanted.seed, parts))
    if rounds := wanted.share("processor"):
        parts["processor"] = _harm_processor(rounds, wanted.seed, keep=keep)
    report = together(wanted.seed, parts)
    write_report(file, report)
    console.print(", ".join(f"{name} {report[name]}" for name in (*_COUNTED, "max_recovery_s")))
    for fault, why in report["not_done"].items():
        console.print(f"not done here: {fault}: {why}")
    console.print(f"report: {file}")
    if not report["rounds"]:
        raise TongbuError("no fault was done", "Why stands above.")
    if any(report[name] for name in _COUNTED if name not in ("rounds", "late")):
        raise TongbuError("harm was done that did not heal", "The report names rounds and rows.")
    if report["late"]:
        raise TongbuError(f"recovery took longer than {RECOVERY_SECONDS:.0f} s", "The report names the rounds.")  # fmt: skip


def _harm_processor(rounds: int, seed: int, *, keep: bool) -> dict[str, Any]:
    """Let the processor's rounds be done, in a process of their own; give their report."""
    options = ["--rounds", str(rounds), "--seed", str(seed), *(["--keep"] if keep else [])]
    file = run_folder() / "reports/faults-processor.json"
    file.unlink(missing_ok=True)
    code = to_its_end([sys.executable, "-m", "bench.faults", *options])
    if not file.exists():
        raise TongbuError(f"the processor's rounds ended with {code}", "What they said stands above.")  # fmt: skip
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


def to_its_end(command: Sequence[str]) -> int:
    """Let a command run; give its exit code. Ctrl-C reaches it, too, and it has a broker and workers to put away."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def together(seed: int, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Give one report of all parts: counts are summed, of recoveries the slowest counts."""
    late = {"processor": 0} | {name: part["late"] for name, part in parts.items() if "late" in part}
    if (part := parts.get("processor")) and part["max_recovery_s"] > RECOVERY_SECONDS:
        late["processor"] = 1
    counted = {
        name: sum(part.get(name, 0) for part in parts.values()) for name in _COUNTED if name != "late"
    }  # fmt: skip
    return {
        "seed": seed,
        **counted,
        "late": sum(late.values()),
        "max_recovery_s": max((part["max_recovery_s"] for part in parts.values()), default=0.0),
        "not_done": {k: v for part in parts.values() for k, v in part.get("not_done", {}).items()},
        "parts": parts,
    }

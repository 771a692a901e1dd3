"""
The processor's part of `make faults`, alone: rounds of faults under load, then the verdict.

    python -m bench.faults --rounds 60 --seed 7
    python -m bench.faults --only kill --only freeze --rounds 4

Ctrl-C ends the rounds; what was done until then is compared all the same.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.faults.arena import SOURCES, Arena
from bench.faults.faults import FAULTS
from bench.faults.traffic import Load, Traffic
from bench.faults.verdict import Verdict, judge
from schemas.errors import TongbuError
from tongbu.instance import Instance, run_folder
from tongbu.progress import Steps
from tongbu.reports import write_report
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

#: Every so many rounds a transaction of so many rows is written while the fault happens.
_GIANT_EVERY, _GIANT_ROWS = 5, 20_000


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How many faults.")] = len(FAULTS),
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults and rows.")] = 1,
    rate: Annotated[float, typer.Option(min=1, help="Transactions per second, all lanes.")] = 300.0,
    only: Annotated[list[str] | None, typer.Option(help="Only these faults.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep topics, states and logs.")] = False,
) -> None:
    """Do harm to a running pipeline, round by round, and compare all it has made with a clean run."""
    names = only or list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        raise TongbuError(f"unknown faults: {sorted(unknown)}", f"Known: {', '.join(FAULTS)}.")
    report = perform(rounds, seed, rate, names, Console(stderr=True), keep=keep)
    file = run_folder() / "reports/faults-processor.json"
    write_report(file, report)
    typer.echo(json.dumps(report, indent=2))
    raise typer.Exit(1 if is_bad(report) else 0)


def perform(
    rounds: int, seed: int, rate: float, names: list[str], console: Console, *, keep: bool = False
) -> dict[str, Any]:
    """
    Do harm on a broker and workers of its own; give the report.

    What a bad run has left stays for a look, and the logs of one in which a worker ended for no fault's reason.
    """
    instance = Instance.load("faults")
    folder = run_folder() / "faults-run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with Progress(console) as progress:
            lifecycle.up_broker(instance, progress)
        report = _run(Arena(instance, folder), rounds, seed, rate, names, console)
    finally:
        lifecycle.down(instance, purge=not keep)
    if not (keep or is_bad(report) or report["last_words"]):
        shutil.rmtree(folder)
    return report


def is_bad(report: dict[str, Any]) -> bool:
    """Tell whether anything was lost, doubled, mismatched or stuck."""
    return any(report[name] for name in ("lost", "doubled", "mismatched", "stuck"))


def _run(
    arena: Arena, rounds: int, seed: int, rate: float, names: list[str], console: Console
) -> dict[str, Any]:
    chance = random.Random(seed)
    lanes = {source: Traffic(source, arena.topic_id(source), seed) for source in SOURCES}
    load = Load(arena.bootstrap, lanes, arena.lane_topic, rate)
    started = time.monotonic()
    done = _Done()
    try:
        load.start()
        for worker in arena.workers:
            worker.start()
        arena.wait(arena.ends())
        try:
            _harm(arena, load, rounds, names, chance, console, done)
        except KeyboardInterrupt:
            console.print("ending early: what was done is compared")
        load.stop()
        verdict = _settle(arena, console)
    finally:
        if load.is_alive():
            load.stop()
        exits = Counter(code for worker in arena.workers for code in worker.exits)
        records = sum(arena.ends().values())
        arena.close()
    recoveries = done.recoveries
    return {
        "rounds": sum(done.faults.values()),
        "faults": dict(done.faults),
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "mismatched": verdict.mismatched,
        "stuck": done.stuck,
        "max_recovery_s": round(max(recoveries, default=0.0), 2),
        "median_recovery_s": round(sorted(recoveries)[len(recoveries) // 2], 2)
        if recoveries
        else 0,
        "repeats": verdict.repeats,
        "outputs": verdict.outputs,
        "lane_records": records,
        "unasked_exits": {str(code): count for code, count in exits.items()},
        "last_words": [said for worker in arena.workers for said in worker.last_words],
        "seconds": round(time.monotonic() - started),
        "seed": seed,
        "notes": verdict.notes,
    }


@dataclass
class _Done:
    """How often each fault was done, how long it took after each until all was finished, and how often it was not."""

    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    stuck: int = 0


def _harm(
    arena: Arena,
    load: Load,
    rounds: int,
    names: list[str],
    chance: random.Random,
    console: Console,
    done: _Done,
) -> None:
    """Do a fault per round, and wait until all is finished."""
    with Steps(console) as steps, steps.step("rounds", rounds) as advance:
        for number in range(rounds):
            name = names[number % len(names)]
            if number % _GIANT_EVERY == 0:
                load.giant(chance.choice(list(SOURCES)), _GIANT_ROWS)
            time.sleep(chance.uniform(0.3, 2.0))
            FAULTS[name](arena, chance)
            recovered = arena.wait(arena.ends())
            done.faults[name] += 1
            advance(1)
            if recovered is None:
                done.stuck += 1
                console.print(f"round {number + 1}: stuck after {name}")
                break
            done.recoveries.append(recovered)
            if not console.is_terminal:
                said = f"round {number + 1} of {rounds}: {name}, recovered in {recovered:.1f} s"
                console.print(said, highlight=False)


def _settle(arena: Arena, console: Console) -> Verdict:
    """Let everything be finished, what the lanes append to their own logs too; then compare."""
    for worker in arena.workers:  # one that was frozen or away when the rounds ended early
        worker.signal(signal.SIGCONT)
        if worker.away:
            worker.start()
    while (ends := arena.ends()) and arena.wait(ends) is not None and arena.ends() != ends:
        time.sleep(0.5)
    for worker in arena.workers:
        worker.stop()
    with Steps(console) as steps, steps.step("comparing with a clean run"):
        return judge(arena)


if __name__ == "__main__":
    try:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(main)
        app()
    except TongbuError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(2)

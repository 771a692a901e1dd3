"""`python -m bench`: what `make bench` runs."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

import orjson
import typer

from schemas.errors import TongbuError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback(help=__doc__)
def _alone(context: typer.Context) -> None:
    if context.invoked_subcommand != "publish" and "--help" not in sys.argv:
        context.with_resource(_only_one())


@contextmanager
def _only_one() -> Iterator[None]:
    """Raise TongbuError while another command of the harness runs: two would spoil each other's figures and services."""
    from tongbu.instance import run_folder

    file = run_folder() / "bench.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TongbuError(
                "another `python -m bench` (or make bench, faults, soak) runs here",
                "Two would spoil each other's figures and services: wait for its end, or end it.",
            ) from None
        yield


@app.command()
def run(
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds, after one to warm up.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load.")] = 5.0,
    backlog: Annotated[
        int,
        typer.Option(
            min=0,
            help="Rows of a backlog; 0: 50,000, or 100,000 with --full, and 20,000 from and to MariaDB.",
        ),
    ] = 0,
    only: Annotated[str, typer.Option(help="Only this system, e.g. tongbu; for work on it.")] = "",
    path: Annotated[str, typer.Option(help="Only this path, e.g. mariadb-postgresql.")] = "",
    full: Annotated[
        bool, typer.Option("--full", help="All rates, large orders, the peer's defaults, idle CPU.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack up for the next run.")
    ] = False,
    instance: Annotated[str, typer.Option(help="The instance to run on.")] = "bench",
) -> None:
    """
    Measure Tongbu beside Debezium's JDBC sink: latency at several loads, a backlog, CPU and memory.

    Example: python -m bench run --rounds 3
    """
    from bench.rounds import FULL, Plan
    from bench.run import perform

    plan = replace(FULL if full else Plan(), rounds=rounds, seconds=seconds)
    perform(instance, plan, backlog=backlog, only=only, full=full, path=path, keep=keep)


@app.command()
def faults(
    rounds: Annotated[int, typer.Option(min=1, help="How many faults, in all.")] = 24,
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults and rows.")] = 1,
    part: Annotated[str, typer.Option(help="Only `stack` or only `processor`.")] = "",
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds of fault.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Only on these targets.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    instance: Annotated[str, typer.Option(help="The instance to do harm to.")] = "harm",
) -> None:
    """
    Do harm under load, round by round; then compare every row and every effect, and every byte of the processor's.

    Three quarters of the rounds are a whole stack's, with processes, networks, disks, clocks and data harmed; the others
    are the processor's alone, whose outputs and state are compared with those of a clean run.

    Example: python -m bench faults --rounds 100 --seed 7
    """
    from bench.all_faults import Wanted, perform

    perform(Wanted(rounds, seed, part, tuple(kind or ()), tuple(target or ())), instance, keep=keep)


@app.command()
def stalls(
    rounds: Annotated[int, typer.Option(min=1, help="How many loads.")] = 3,
    rate: Annotated[int, typer.Option(min=1, help="Transactions per second.")] = 400,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load.")] = 20.0,
    backlog: Annotated[int, typer.Option(min=0, help="Rows of a backlog before each.")] = 50_000,
    slow: Annotated[float, typer.Option(help="ms from commit to commit that are a stall.")] = 30.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    instance: Annotated[str, typer.Option(help="The instance to run on.")] = "stalls",
) -> None:
    """
    Tell what happened while transactions were slow: pauses of JVMs and Python, syncs of the disk, PostgreSQL's waits, cores, the host.

    Example: python -m bench stalls --rounds 3
    """
    from rich.console import Console

    from bench.stalls.run import Plan, perform

    plan = Plan(rounds, rate, seconds, backlog, slow)
    _leave("stalls", perform(instance, plan, Console(stderr=True, soft_wrap=True), keep=keep))


@app.command()
def soak(
    hours: Annotated[float, typer.Option(min=0.05, help="How long.")] = 1.0,
    rate: Annotated[float, typer.Option(min=1, help="Business transactions per second.")] = 40.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    instance: Annotated[str, typer.Option(help="The instance to run on.")] = "soak",
) -> None:
    """
    Play business for hours; tell what memory, file handles, state and topics do; then compare every row.

    Example: python -m bench soak --hours 8
    """
    from bench.soak_run import do_soak

    do_soak(instance, hours, rate, keep=keep)


@app.command()
def capture(
    commits: Annotated[int, typer.Option(min=20, help="Measured commits per source.")] = 400,
    idle: Annotated[float, typer.Option(min=5, help="Seconds of idleness to measure.")] = 30.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    instance: Annotated[str, typer.Option(help="The instance to run on.")] = "capture",
) -> None:
    """
    Measure commit to topic on an idle stack with the shipped connectors, and what Connect costs when nothing happens.

    Example: python -m bench capture --commits 1000
    """
    from bench.capture_run import perform

    perform(instance, commits, idle, keep=keep)


@app.command()
def lanes(
    what: Annotated[str, typer.Argument(help="giant, republish, restart or state.")],
    rows: Annotated[
        int | None, typer.Option(min=1000, help="Default: 200,000 for a giant, else 1,000,000.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Live transactions per second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="Of live traffic alone.")] = 20.0,
    instance: Annotated[str, typer.Option(help="The instance to run on.")] = "lanes",
) -> None:
    """
    Measure what lanes bear beside live traffic: a giant transaction, a republish, restarts; or a large state.

    Examples: python -m bench lanes giant; python -m bench lanes republish --rows 100000
    """
    from rich.console import Console

    from bench.lanes import run, state
    from tongbu.instance import Instance

    if what not in (*run.MEASUREMENTS, "state"):
        raise TongbuError(
            f"nothing is called {what}", f"Say {', '.join(run.MEASUREMENTS)} or state."
        )
    console = Console(stderr=True)
    rows = rows or (200_000 if what == "giant" else 1_000_000)
    if what == "state":
        figures = state.measure(rows, console.print)
    else:
        plan = run.Plan(rows, rate, seconds)
        figures = run.perform(what, plan, Instance.load(instance), console)
    _leave(f"lanes-{what}", figures)


@app.command()
def scaling() -> None:
    """Measure the processor alone with 10 x the rows in state, 10 x the columns, 10 x the mapped tables; needs no service."""
    from bench.scaling import CASES, run

    _leave("scaling", {"cases": run(CASES, lambda text: typer.echo(text, err=True))})


@app.command()
def processor(
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds, after one to warm up.")] = 3,
    rows: Annotated[int, typer.Option(min=1000, help="Rows captured and processed.")] = 100_000,
    only: Annotated[str, typer.Option(help="Only beside `plain` or `capture`.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the services up.")] = False,
    instance: Annotated[str, typer.Option(help="The instance to run on.")] = "alone",
) -> None:
    """
    Measure the processor alone: beside a plain confluent-kafka loop that does the same work, and beside capture alone.

    Examples: python -m bench processor; python -m bench processor --only plain --rounds 1
    """
    from rich.console import Console

    from bench.alone import capture, run

    _check_only(only, "plain", "capture")
    console, report = Console(), {}
    if only in ("", "plain"):
        report["plain"] = run.compare(instance, run.Plan(rounds=rounds), console, keep=keep)
    if only in ("", "capture"):
        report["capture"] = capture.compare(instance, rounds, rows, console, keep=keep)
    _leave("processor", report)


@app.command()
def sink(
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds, after one to warm up.")] = 3,
    rows: Annotated[int, typer.Option(min=1000, help="Rows captured and applied.")] = 60_000,
    rate: Annotated[float, typer.Option(min=1, help="Messages per second, for latency.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load.")] = 8.0,
    only: Annotated[str, typer.Option(help="Only `throughput` or `latency`.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the services up.")] = False,
    instance: Annotated[str, typer.Option(help="The instance to run on.")] = "sinks",
) -> None:
    """
    Measure the sink writer alone: rows/s beside capture alone, and append to commit beside a bare consumer.

    Example: python -m bench sink --rounds 3
    """
    from rich.console import Console

    from bench.alone.sinks import Plan, compare

    _check_only(only, "throughput", "latency")
    plan = Plan(rounds, rows, rate, seconds, only)
    report = compare(instance, plan, Console(stderr=True), keep=keep)
    _leave("sink", report)


@app.command()
def mirrors(
    tables: Annotated[int, typer.Option(min=1, help="Tables of the unknown ERP.")] = 250,
    rows: Annotated[int, typer.Option(min=2, help="Rows that each has before.")] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    instance: Annotated[str, typer.Option(help="The instance to run on.")] = "mirrors",
) -> None:
    """
    Mirror many tables of an unknown ERP by one command, under load, and compare every row.

    Example: python -m bench mirrors --tables 250
    """
    from rich.console import Console

    from bench.mirrors import Plan, perform
    from tongbu.instance import Instance

    plan, console = Plan(tables, rows), Console(stderr=True)
    _leave("mirrors", perform(Instance.load(instance), plan, console, keep=keep))


@app.command()
def writes(
    dsn: Annotated[str, typer.Option(envvar="WAREHOUSE_DSN", help="A PostgreSQL to write to.")],
    seconds: Annotated[float, typer.Option(min=1, help="For each size.")] = 5.0,
) -> None:
    """
    Measure how rows reach PostgreSQL quickest, by size: the apply function with JSON, unnest of arrays, or COPY.

    Example: eval "$(tongbu env)"; python -m bench writes
    """
    from bench.alone.writes import compare

    _leave("writes", compare(dsn, seconds, lambda text: typer.echo(text, err=True)))


@app.command()
def publish() -> None:
    """Keep the latest report of `make bench` in docs/bench.json, and write its table into the README."""
    from bench import publish as figures

    typer.echo(f"written: {figures.publish()}")


def _check_only(said: str, *known: str) -> None:
    """Raise TongbuError where `--only` names what there is not."""
    if said and said not in known:
        raise TongbuError(f"nothing is called {said}", f"Say {' or '.join(known)}.")


def _leave(name: str, report: dict[str, Any]) -> None:
    """Write a report for programs, and print it."""
    from tongbu.instance import run_folder
    from tongbu.reports import write_report

    write_report(run_folder() / f"reports/{name}.json", report)
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    typer.echo(orjson.dumps(report, option=options).decode())


def main() -> None:
    """Say errors in one line, as `tongbu` does."""
    try:
        app(standalone_mode=True)
    except TongbuError as error:
        sys.exit(f"error: {error.message}" + (f"\n  {error.remedy}" if error.remedy else ""))


if __name__ == "__main__":
    main()

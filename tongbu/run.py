"""`tongbu run …`: one process of the pipeline in the foreground, as the supervisor and containers run it."""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import Annotated

import structlog
import typer
from structlog.dev import ConsoleRenderer, plain_traceback

from tongbu.instance import Environment, complete_environment
from tongbu.stack.commands import InstanceName

app = typer.Typer(no_args_is_help=True)


@app.callback()
def console() -> None:
    """Run one process in the foreground, as containers do; it tells what it does on stderr."""
    faulthandler.enable()  # a crash in compiled code says where it was
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    # Not with the values of variables, as by default: there are rows among them (invariant I11).
    ConsoleRenderer.get_active().exception_formatter = plain_traceback


@app.command()
def processor(
    name: Annotated[str, typer.Argument()] = "main", instance: InstanceName = "default"
) -> None:
    """Run the processor: lane logs in, canonical records out."""
    complete_environment(instance)
    from streams.app import run

    run(name)


@app.command()
def sink(name: str, instance: InstanceName = "default") -> None:
    """Run the sink writer of one binding (sink_writers/bindings/NAME.yaml)."""
    complete_environment(instance)
    from sink_writers.runner import run

    run(name)


@app.command()
def watch(instance: InstanceName = "default") -> None:
    """Look at the sources every 10 s: alarms as metrics (TONGBU_METRICS), changed PostgreSQL catalogs into the lane logs."""
    complete_environment(instance)
    from tongbu.deploy.deployment import Deployment
    from tongbu.sources import watch as watching

    watching.run(Deployment(Environment(), os.environ.get("TONGBU_NAMESPACE", "")))


@app.command("webhook-receiver")
def webhook_receiver(instance: InstanceName = "default") -> None:
    """Run the demo's receiver of signed webhooks."""
    complete_environment(instance)
    from sink_writers.receiver import run

    run()


@app.command("prepare")
def prepare() -> None:
    """Create databases, users and the demo's tables in servers that `up` did not start; once, as containers do.

    Reads POSTGRES_ADMIN_DSN and MARIADB_ADMIN_DSN.
    """
    from tongbu.world import setup

    given = Environment()
    setup.prepare(given["POSTGRES_ADMIN_DSN"], given["MARIADB_ADMIN_DSN"], given)

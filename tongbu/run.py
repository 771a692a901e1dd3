"""`tongbu run …`: one process of the pipeline in the foreground, as the supervisor and containers run it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from tongbu.instance import Instance
from tongbu.stack.commands import InstanceName

app = typer.Typer(no_args_is_help=True, help="Run one process in the foreground, as containers do.")


@app.command()
def processor(
    name: Annotated[str, typer.Argument()] = "main", instance: InstanceName = "default"
) -> None:
    """Run the processor: lane logs in, canonical records out."""
    _complete_environment(instance)
    from streams.app import run

    run(name)


@app.command()
def sink(name: str, instance: InstanceName = "default") -> None:
    """Run the sink writer of one binding (sink_writers/bindings/NAME.yaml)."""
    _complete_environment(instance)
    from sink_writers.runner import run

    run(name)


@app.command("webhook-receiver")
def webhook_receiver(instance: InstanceName = "default") -> None:
    """Run the demo's receiver of signed webhooks."""
    _complete_environment(instance)
    from sink_writers.receiver import run

    run()


@app.command("prepare")
def prepare() -> None:
    """Create databases, users and the demo's tables in servers that `up` did not start; once, as containers do.

    Reads POSTGRES_ADMIN_DSN and MARIADB_ADMIN_DSN.
    """
    from tongbu.stack.lifecycle import prepare_databases

    admins = os.environ["POSTGRES_ADMIN_DSN"], os.environ["MARIADB_ADMIN_DSN"]
    prepare_databases(*admins, dict(os.environ))


def _complete_environment(instance: str) -> None:
    """Take from the instance what the environment does not say; in a container it says everything."""
    if "KAFKA_BOOTSTRAP" not in os.environ:
        for key, value in Instance.load(instance).environment().items():
            os.environ.setdefault(key, value)

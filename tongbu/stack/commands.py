"""`tongbu up|down|status|env`: the local stack from the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from tongbu import answers
from tongbu.instance import Instance

InstanceName = Annotated[
    str,
    typer.Option(
        "--instance",
        envvar="TONGBU_INSTANCE",
        help="Which stack: each has its own ports and folder.",
    ),
]


class Only(StrEnum):
    """A part of the stack."""

    SERVICES = "services"


class Extra(StrEnum):
    """A server that an instance has only when it is asked for."""

    MYSQL = "mysql"


def up(
    instance: InstanceName = "default",
    only: Annotated[
        Only | None, typer.Option(help="Start only the servers, not the pipeline.")
    ] = None,
    extras: Annotated[
        list[Extra] | None, typer.Option("--with", help="Start this server, too.")
    ] = None,
) -> None:
    """Start databases, Kafka, Connect, registry, then processor and sink writers; wait until they can be used."""
    from tongbu.stack import lifecycle
    from tongbu.stack.display import Progress

    with Progress(Console(stderr=True)) as progress:
        lifecycle.up(
            Instance.load(instance), progress, with_pipeline=only is None, extras=extras or ()
        )


def down(
    instance: InstanceName = "default",
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove the instance's folder with all data, too.")
    ] = False,
) -> None:
    """Stop what `up` has started, and nothing else."""
    from tongbu.stack import lifecycle

    with Console(stderr=True).status(f"stopping {instance}"):
        lifecycle.down(Instance.load(instance), purge=purge)


def status(
    instance: InstanceName = "default",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """
    Show each service (does it run and answer, since when, why it last died), each lane and each sink.

    Exit code 1 when one is unwell, or what looks after them has died. A stack that was never up, or that `tongbu down`
    has stopped, is not unwell.
    """
    from tongbu import flow
    from tongbu.stack.status import inspect, report

    loaded = Instance.load(instance)
    states = inspect(loaded)
    flows = flow.inspect(loaded) if any(state.state == "ready" for state in states) else []
    if as_json:
        found = {
            "services": [asdict(each) for each in states],
            "flows": [asdict(each) for each in flows],
        }
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2, default=str))
    else:
        answers.console().print(report(states), "", flow.report(flows) if flows else "")
    if not (all(state.well for state in states) and all(each.well for each in flows)):
        raise typer.Exit(1)


def env(
    instance: InstanceName = "default",
    compose: Annotated[
        bool,
        typer.Option(
            "--compose", help="Print the passwords that docker/compose.yaml asks for, instead."
        ),
    ] = False,
) -> None:
    """Print where everything is, as KEY=VALUE lines for a shell."""
    loaded = Instance.load(instance)
    for key, value in (loaded.compose_secrets() if compose else loaded.environment()).items():
        typer.echo(f"{key}={value}")

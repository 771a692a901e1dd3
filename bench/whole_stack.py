"""A whole stack for as long as it is needed: up, deployed, snapshot published; gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from rich.console import Console

from bench.system import wait
from tongbu.deploy import commands as deploy
from tongbu.deploy.deployment import Deployment
from tongbu.instance import Instance
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress
from tongbu.stack.services import Service


@contextmanager
def whole_stack(
    instance: Instance,
    console: Console,
    *,
    keep: bool,
    rewire: Callable[[Service], Service] = lambda service: service,
) -> Iterator[None]:
    """Let an instance run, with its environment in this process; `keep` leaves it up, `rewire` is `lifecycle.up`'s."""
    os.environ.update(instance.environment())
    try:
        with Progress(console) as progress:
            lifecycle.up(instance, progress, rewire=rewire)
        deploy.perform(Deployment(dict(os.environ)), None, lambda _: None)
        wait("the initial snapshot is published", lambda: published(instance.folder))
        yield
    finally:
        if not keep:
            lifecycle.down(instance, purge=True)


def published(data: Path) -> bool:
    """Tell whether the initial snapshots of both sources are published; `data` is the instance's folder."""
    status = data / "processor.json"
    lanes = orjson.loads(status.read_bytes()) if status.exists() else {}
    return all(lanes.get(source, {}).get("snapshot_published") for source in ("erp", "oa"))

"""What the harness measures: a way from the ERP to a target, that can be started and stopped as often as need be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import psycopg

from bench.source import Orders
from schemas.errors import ServiceUnavailable
from tongbu.instance import Instance

_SECONDS = 180.0


class System(Protocol):
    """A system under test. While it is stopped nothing of it runs; started again, it goes on where it was."""

    name: str
    does: str

    def start(self) -> None:
        """Start, and wait until it works."""

    def stop(self) -> None:
        """Stop all of its processes and tasks."""

    def arrived(self, orders: Orders) -> bool:
        """Tell whether every row of the orders is in the target."""

    def commits(self, orders: Orders) -> dict[int, float]:
        """Give when the last row of each order was committed in the target: seconds since 1970."""

    def difference(self) -> str:
        """Compare all orders of source and target; "" where they are equal, else what is not."""


def wait(what: str, is_done: Callable[[], bool], seconds: float = _SECONDS) -> None:
    """Wait until something is so; raise ServiceUnavailable where it does not come to pass."""
    end = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > end:
            raise ServiceUnavailable(f"{what}: not after {seconds:.0f} s", "`tongbu status` tells.")
        time.sleep(0.1)


def administrator(instance: Instance, database: str) -> psycopg.Connection[Any]:
    """Connect to a database of the stack's PostgreSQL as its superuser, without transactions around statements."""
    server = instance.postgres_admin_dsn().removesuffix("/postgres")
    return psycopg.connect(f"{server}/{database}", autocommit=True)


def one(connection: psycopg.Connection[Any], statement: str, *parameters: Any) -> Any:
    """Give the only value of a query's only row."""
    row = connection.execute(statement, parameters or None).fetchone()
    return row[0] if row else None

"""Schema histories, from which MariaDB's and MySQL's connectors know the columns of what they read in the binlog."""

from __future__ import annotations

import time
from collections.abc import Iterable

import orjson

from schemas.errors import ServiceUnavailable
from tongbu import topics

TOPIC = "schema.history.internal.kafka.topic"
_SECONDS = 60


def after(declared: str, live: str) -> str:
    """Give the name of the history that follows a connector's present one: `declared`, `declared`.2, `declared`.3 …"""
    number = live.removeprefix(declared).removeprefix(".")
    return f"{declared}.{int(number or 1) + 1}"


def wait_for(bootstrap: str, topic: str, tables: Iterable[str]) -> None:
    """Wait until a history has all tables (`database.table`); raise ServiceUnavailable where it does not come to that."""
    end = time.monotonic() + _SECONDS
    while missing := set(tables) - _tables(bootstrap, topic):
        if time.monotonic() > end:
            raise ServiceUnavailable(
                f"{topic} lacks {', '.join(sorted(missing))} after {_SECONDS} s",
                "Kafka Connect's log says why; then `tongbu apply` again.",
            )
        time.sleep(0.2)


def _tables(bootstrap: str, topic: str) -> set[str]:
    """Give the tables whose columns a history has, by the records' `tableChanges`."""
    start, end = (ask(bootstrap, [topic])[topic, 0] for ask in (topics.starts, topics.ends))
    found: set[str] = set()
    for message in topics.read(bootstrap, topic, 0, start, end):
        for change in orjson.loads(message.value() or b"{}").get("tableChanges", ()):
            table = change["id"].strip('"').replace('"."', ".")
            (found.discard if change["type"] == "DROP" else found.add)(table)
    return found

"""One question per kind of server: do you answer? Each function raises, with the reason, when it does not."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pymysql
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from sink_writers import pulse

_SECONDS = 2


def postgresql(dsn: str) -> None:
    """Connect and ask."""
    with psycopg.connect(dsn, connect_timeout=_SECONDS) as connection:
        connection.execute("SELECT 1")


def mariadb(dsn: str) -> None:
    """Connect; the server's greeting is the answer."""
    parts = urlsplit(dsn)
    pymysql.connect(
        host=parts.hostname,
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        connect_timeout=_SECONDS,
    ).close()


def kafka(bootstrap: str) -> None:
    """Ask the broker for its topics."""
    # log_level 0: what can't be reached is told by us, not by the client on stderr.
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        client.list_topics(timeout=_SECONDS)
    except KafkaException as error:
        raise ConnectionError(error.args[0].str()) from None


def http(url: str) -> None:
    """Ask for a page."""
    httpx.get(url, timeout=_SECONDS).raise_for_status()


def process(url: str) -> None:
    """Ask one of our processes how it is. A lane that stopped is no fault of its process; nor is a port that it has not yet."""
    try:
        answer = httpx.get(url, timeout=_SECONDS)
    except httpx.TimeoutException:
        raise TimeoutError("it is frozen, or far too busy") from None
    except httpx.TransportError:
        return
    if answer.is_error and (found := answer.json())["state"] != "stopped":
        raise ConnectionError(": ".join(filter(None, [found["state"], found["kafka"]["waiting"]])))


def sink_writer(data: Path, binding: str) -> None:
    """Look at the notes of a sink writer: it waits for something, or does not come round."""
    found, _ = pulse.trouble(data, binding)
    if found:
        raise ConnectionError(found)


def port(number: int) -> None:
    """Connect to a local port."""
    socket.create_connection(("127.0.0.1", number), timeout=_SECONDS).close()

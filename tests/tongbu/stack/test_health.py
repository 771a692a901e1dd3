"""What `tongbu status` asks our own processes, and what it makes of their answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from streams.health import health
from tongbu.stack.health import process

CALM = {"waiting": None, "opening_seconds": 0.0}


@contextmanager
def answering(code: int, body: object) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(orjson.dumps(body))

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/healthz"
        server.shutdown()


@pytest.mark.parametrize(
    ("age", "lanes", "kafka"),
    [(0.0, {}, CALM), (0.0, {"erp": {"stopped": "a gap"}}, CALM)],
    ids=["without lanes", "a lane that stopped: it is shown as that"],
)
def test_a_process_that_works_is_well(age: float, lanes: dict, kafka: dict) -> None:
    with answering(*health(age, lanes, kafka)) as url:
        process(url)


@pytest.mark.parametrize(
    ("age", "kafka", "said"),
    [
        (9.0, CALM, "blocked"),
        (0.0, CALM | {"waiting": "the broker is away"}, "waiting: the broker is away"),
        (0.0, CALM | {"opening_seconds": 70.0}, "opening"),
    ],
)
def test_one_that_does_not_says_why(age: float, kafka: dict, said: str) -> None:
    with answering(*health(age, {}, kafka)) as url, pytest.raises(ConnectionError, match=said):
        process(url)


def test_one_that_is_frozen_takes_connections_and_is_found_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as frozen,
        pytest.raises(TimeoutError, match="frozen"),
    ):
        process(f"http://127.0.0.1:{frozen.getsockname()[1]}/healthz")


def test_one_that_has_no_port_yet_is_well_for_the_supervisor_sees_it_live() -> None:
    process("http://127.0.0.1:1/healthz")

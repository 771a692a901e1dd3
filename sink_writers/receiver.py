"""
The demo's receiver of webhooks: what a partner's endpoint has to do, on one screen.

It checks the signature, drops what it has seen (by webhook-id), and appends the rest to
`$TONGBU_DATA/webhooks.jsonl`.
"""

from __future__ import annotations

import signal
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import urlsplit

import orjson
import structlog
from standardwebhooks import Webhook, WebhookVerificationError

from sink_writers.bindings import resolve

log = structlog.get_logger("webhook-receiver")


class Inbox:
    """The events received, once each."""

    def __init__(self, file: Path, secret: str) -> None:
        self._file = file
        self._webhook = Webhook(secret)
        self._lock = Lock()
        lines = file.read_bytes().splitlines() if file.exists() else []
        self._seen = {orjson.loads(line)["id"] for line in lines}

    def take(self, headers: dict[str, str], body: bytes) -> HTTPStatus:
        """Keep an event; give the answer: 401 without a valid signature, 200 for a repeat, 202 for a new one."""
        headers = {name.lower(): value for name, value in headers.items()}
        try:
            event = self._webhook.verify(body, headers)
        except WebhookVerificationError:
            return HTTPStatus.UNAUTHORIZED
        event_id = headers["webhook-id"]
        with self._lock:
            if event_id in self._seen:
                return HTTPStatus.OK
            with self._file.open("ab") as file:
                file.write(orjson.dumps({"id": event_id} | event) + b"\n")
            self._seen.add(event_id)
        return HTTPStatus.ACCEPTED


def serve(inbox: Inbox, host: str, port: int) -> ThreadingHTTPServer:
    """Make the HTTP server: POST anywhere takes an event, GET /healthz answers 200."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(HTTPStatus.OK if self.path == "/healthz" else HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            self._answer(inbox.take(dict(self.headers), body))

        def _answer(self, status: HTTPStatus) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet; what was received is in the file."""

    return ThreadingHTTPServer((host, port), Handler)


def run() -> None:
    """Serve on WEBHOOK_URL's host and port until SIGTERM."""
    url = urlsplit(resolve("${WEBHOOK_URL}"))
    file = Path(resolve("${TONGBU_DATA}")) / "webhooks.jsonl"
    server = serve(
        Inbox(file, resolve("${WEBHOOK_SECRET}")), url.hostname or "127.0.0.1", url.port or 80
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for the loop that this handler interrupts, so it needs a thread of its own.
        signal.signal(number, lambda *_: Thread(target=server.shutdown).start())
    log.info("listening", url=url.geturl(), file=file.name)
    server.serve_forever(poll_interval=0.2)
    server.server_close()

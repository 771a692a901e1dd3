"""Metrics and health over HTTP, from a thread of their own: an event loop that is blocked can't say so itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import structlog
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

log = structlog.get_logger("processor")

#: A loop that told nothing for this long is blocked; an idle one tells four times a second.
BLOCKED_SECONDS = 5.0
#: Lanes are open in less, also from a checkpoint of a large state; what takes longer is not well.
OPENING_SECONDS = 60.0
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

REGISTRY = CollectorRegistry()
STAGES = Histogram(
    "tongbu_stage_seconds",
    "Time of a batch in a stage: captured (append to the lane log until received), processed, delivered, written.",
    ["source", "stage"],
    registry=REGISTRY,
    buckets=_BUCKETS,
)

_COUNTERS = {
    "records": "Records read from the lane log.",
    "changes": "Row changes read.",
    "transactions": "Source transactions processed.",
    "repeats": "Transactions that capture had sent before.",
    "unchanged": "Updates of rows that changed nothing; they end here.",
    "swept": "Rows that a snapshot did not find any more.",
    "published": "Canonical records published.",
    "dead_letters": "Dead letters written.",
}
_GAUGES = {
    "position": "Next offset to read, as it is on disk.",
    "behind": "Records of the lane log that are not processed.",
    "behind_ms": "Age of the last processed record when it was read, while more is waiting; 0 at the end of the log.",
    "outputs_in_flight": "Outputs that the broker has not acknowledged.",
    "records_in_flight": "Records that are processed and not on disk.",
    "tables_being_read": "Tables that a snapshot reads.",
    "tables_incomplete": "Captured tables that no snapshot has read yet: what reads them is not published. Alarm when it stays above 0.",
    "withheld": "Canonical ids whose current state can't be published.",
    "state_bytes": "Size of the state on disk.",
    "checkpoint_position": "Position of the oldest checkpoint: the lane log must reach back to it.",
}


class LaneCollector(Collector):
    """Reads the lanes' figures when somebody asks for them."""

    def __init__(self, status: Callable[[], dict[str, dict[str, Any]]]) -> None:
        self._status = status

    def collect(self) -> Iterator[Any]:
        """Give a metric per figure, a line per lane."""
        status = self._status()
        for names, kind in ((_COUNTERS, CounterMetricFamily), (_GAUGES, GaugeMetricFamily)):
            for name, help_ in names.items():
                family = kind(f"tongbu_lane_{name}", help_, labels=["source"])
                for source, lane in status.items():
                    if lane.get(name) is not None:
                        family.add_metric([source], lane[name])
                yield family
        kept = GaugeMetricFamily(
            "tongbu_lane_quarantined_changes",
            "A line per quarantined table: its changes that are kept. Alarm on any; more than 1,000,000 are much disk.",
            labels=["source", "table"],
        )
        for source, lane in status.items():
            for table, ward in lane.get("quarantined", {}).items():
                kept.add_metric([source, table], ward["kept"])
        yield kept
        stopped = GaugeMetricFamily(
            "tongbu_lane_stopped", "1 where a lane stopped.", labels=["source"]
        )
        for source, lane in status.items():
            stopped.add_metric([source], float(lane["stopped"] is not None))
        yield stopped


class ProcessCollector(Collector):
    """Reads how the process and its link to Kafka are."""

    def __init__(self, age: Callable[[], float], kafka: Callable[[], dict[str, Any]]) -> None:
        self._age, self._kafka = age, kafka

    def collect(self) -> Iterator[Any]:
        """Give the age of the event loop, and what there is to wait for."""
        kafka = self._kafka()
        for name, help_, value in (
            ("tongbu_loop_age_seconds", "Seconds since the event loop last ran.", self._age()),
            (
                "tongbu_kafka_waiting_seconds",
                "Seconds for which nothing goes on because Kafka does not take or answer; 0: all is well.",
                kafka["waiting_seconds"],
            ),
            (
                "tongbu_kafka_silence_seconds",
                "Seconds since the consumer group last answered a heartbeat.",
                kafka["silence_seconds"],
            ),
            (
                "tongbu_lanes_opening_seconds",
                "Seconds for which the group has given lanes that are not open yet; 0: they are.",
                kafka["opening_seconds"],
            ),
        ):
            yield GaugeMetricFamily(name, help_, value=value)
        yield CounterMetricFamily(
            "tongbu_kafka_waits",
            "How often work was given up to be done again.",
            value=kafka["waits"],
        )


def health(
    age: float, status: dict[str, dict[str, Any]], kafka: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """
    Tell how the process is: HTTP code and body.

    `age`: seconds since the loop last ran; `status`: of the lanes; `kafka`: see `Processor.kafka`.
    """
    stopped = {source: lane["stopped"] for source, lane in status.items() if lane["stopped"]}
    if age > BLOCKED_SECONDS:
        state = "blocked"
    elif stopped:
        state = "stopped"
    elif kafka["waiting"]:
        state = "waiting"
    elif not status:
        state = "opening" if kafka["opening_seconds"] else "no lanes"
    else:
        busy = any(lane["records_in_flight"] or lane["behind"] for lane in status.values())
        state = "busy" if busy else "idle"
    body = {"state": state, "loop_age_seconds": round(age, 2), "stopped": stopped}
    body |= {"kafka": kafka}
    late = state == "opening" and kafka["opening_seconds"] > OPENING_SECONDS
    return (503 if late or state in ("blocked", "stopped", "waiting") else 200), body


def serve(
    address: str,
    age: Callable[[], float],
    status: Callable[[], dict[str, dict[str, Any]]],
    kafka: Callable[[], dict[str, Any]],
) -> None:
    """Answer /metrics and /healthz on HOST:PORT until the process ends; a taken port is told and does no harm."""
    REGISTRY.register(LaneCollector(status))
    REGISTRY.register(ProcessCollector(age, kafka))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(REGISTRY), "text/plain; version=0.0.4")
            elif self.path == "/healthz":
                code, body = health(age(), status(), kafka())
                self._answer(code, orjson.dumps(body), "application/json")
            else:
                self._answer(404, b"/metrics, /healthz\n", "text/plain")

        def _answer(self, code: int, body: bytes, type_: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", type_)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    try:
        host, _, port = address.rpartition(":")
        server = ThreadingHTTPServer((host, int(port)), Handler)
    except OSError as error:
        log.warning("no metrics: the port is taken", address=address, why=str(error))
        return
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()

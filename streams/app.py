"""The processor as a process: the Faust app around it. With `streams.transport`, the only place that knows Faust."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import faust
import mode
import orjson
import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faust.types import TP
from pydantic import ValidationError

from schemas.declarations import load_sources
from schemas.errors import TongbuError
from streams.health import serve
from streams.processor import Processor
from streams.settings import Settings
from streams.transport import SETTINGS, install

log = structlog.get_logger("processor")

#: Allocations before a young collection, and young collections before an older one: a transaction's objects are gone
#: before the next, and what stays is rows that hold no cycles.
_GARBAGE = (20_000, 20, 20)

_LOG_LINE = "%(asctime)s [%(levelname)-9s] %(message)s"


def build(settings: Settings, name: str) -> Any:
    """Give the Faust app of a processor."""
    sources = load_sources(settings.tongbu_sources)
    processor = Processor(settings, sources)
    topics = {f"{settings.tongbu_namespace}cdc.{source}" for source in sources}
    session = settings.tongbu_session_seconds
    app = faust.App(
        f"{settings.tongbu_namespace}tongbu-processor",
        broker=f"kafka://{settings.kafka_bootstrap}",
        consumer_group_instance_id=name,
        broker_session_timeout=session,
        broker_rebalance_timeout=session + 5,
        broker_request_timeout=session + 10,
        agent_supervisor=mode.CrashingSupervisor,
        datadir=str(settings.tongbu_data / "faust"),
        **SETTINGS,
    )
    install(app, processor, topics, settings.kafka_bootstrap)

    processor.end_of = lambda place: app.consumer.end(TP(*place))
    processor.silence = lambda: app.consumer.silence
    processor.opening = lambda: app.consumer.opening

    async def rejoin() -> None:
        await app.consumer.rejoin()

    processor.rejoin = rejoin
    if settings.tongbu_metrics:
        serve(settings.tongbu_metrics, lambda: processor.age, processor.status, processor.kafka)

    @app.agent(app.topic(*topics), name="lanes")  # type: ignore[untyped-decorator]
    async def lanes(batches: Any) -> None:
        async for fetched in batches:
            fetched.reading.begin(fetched)
            await processor.process(fetched.tp, fetched.messages)

    @app.task  # type: ignore[untyped-decorator]
    async def deliveries() -> None:
        await processor.run()

    @app.timer(settings.tongbu_checkpoint_seconds)  # type: ignore[untyped-decorator]
    async def checkpoints() -> None:
        if not settings.tongbu_replay:
            await processor.checkpoint()

    @app.timer(1.0)  # type: ignore[untyped-decorator]
    async def write_status() -> None:
        _write(
            settings.tongbu_data / f"{settings.tongbu_namespace}processor.json", processor.status()
        )

    return app


def _write(file: Path, content: dict[str, Any]) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(content))
    fresh.replace(file)


def run(name: str = "main") -> None:
    """Run a processor in the foreground until SIGTERM; waits for broker and lane logs."""
    try:
        settings = Settings()
    except ValidationError as error:
        found = error.errors(include_input=False)[0]
        raise TongbuError(
            f"the environment's {str(found['loc'][0]).upper()}: {found['msg']}",
            "docs/processor.md lists the settings.",
        ) from None
    # Faust keeps to itself why it ends, unless somebody listens to its loggers.
    logging.basicConfig(format=_LOG_LINE, datefmt="%Y-%m-%d %H:%M:%S", level=logging.ERROR)
    # A broker that is away has forty lines a second there; the processor's own trouble tells of it once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    settings.tongbu_data.mkdir(parents=True, exist_ok=True)
    _wait_for_lanes(settings)
    app = build(settings, name)
    gc.collect()
    gc.freeze()  # libraries and declarations stay, and would be gone through again and again
    gc.set_threshold(*_GARBAGE)
    worker = _Worker(app, override_logging=False, quiet=True, workdir=str(settings.tongbu_data))
    worker.patience = settings.tongbu_session_seconds
    worker.spinner = None  # a log is no terminal
    try:
        worker.execute_from_commandline()
    finally:
        if worker.crash_reason is not None:
            log.critical("ended by an error, which stands above", why=repr(worker.crash_reason))


class _Worker(faust.Worker):  # type: ignore[misc]
    """Ends within `patience` seconds: Faust would wait for a broker that is away, to commit what the states know anyway."""

    patience: float

    async def stop(self) -> None:
        """Stop as asked by a signal; what is not done by then is left to the next start, as after a crash."""
        timer = threading.Timer(self.patience, self._give_up)
        timer.daemon = True
        timer.start()
        await super().stop()

    def _give_up(self) -> None:
        log.warning("ending without Kafka: the next start goes on from the position on disk")
        os._exit(0)


def _wait_for_lanes(settings: Settings) -> None:
    wanted = {
        f"{settings.tongbu_namespace}cdc.{source}"
        for source in load_sources(settings.tongbu_sources)
    }
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    pause = 0.5
    while True:
        try:
            missing = wanted - set(admin.list_topics(timeout=5).topics)
            why = f"no topic {min(missing)}: run `tongbu apply`" if missing else ""
        except KafkaException as error:
            missing, why = (
                wanted,
                f"Kafka at {settings.kafka_bootstrap} does not answer: {error.args[0].str()}",
            )
        if not missing:
            return
        log.warning("waiting", why=why, seconds=pause)
        time.sleep(pause)
        pause = min(pause * 2, 5.0)

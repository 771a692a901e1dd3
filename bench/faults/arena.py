"""Where faults happen: a broker of its own, two workers that share three lanes, and topics of one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import TypeVar

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.errors import ServiceUnavailable
from streams.seal import KEY_FILE, new_key
from tongbu import topics
from tongbu.instance import HOST, ROOT, Instance
from tongbu.stack import health, obituaries
from tongbu.stack.supervision import Supervisor

Answer = TypeVar("Answer")

#: name -> partition of canonical.transactions.v1
SOURCES = {"erp": 0, "oa": 1, "hr": 2}
OUTPUTS = {"canonical.order.v1": 4, "canonical.transactions.v1": len(SOURCES), "hub.dead-letter.v1": 1}  # fmt: skip
SESSION_SECONDS = 6.0
CHECKPOINT_SECONDS = 5.0
#: A lane that has not read its log to an earlier end after this long is stuck.
STUCK_SECONDS = 60.0
_RESTART_SECONDS = 0.3
#: How a worker ends that was killed, or frozen for longer than its session.
_EXPLAINED = (-signal.SIGKILL, 72)


@dataclass
class Worker:
    """A processor process; it is started again whenever it has ended, unless it is `away`."""

    name: str
    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    away: bool = False
    exits: list[int] = field(default_factory=list)
    #: What it said last, each time it ended in a way that no fault explains.
    last_words: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start it."""
        self.away = False
        with (self.folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tongbu.cli", "run", "processor", self.name],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: Signals) -> None:
        """Send a signal, if it lives."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, number: Signals, seconds: float = 30.0) -> int:
        """End it by a signal and wait; give its exit code."""
        self.away = True
        self.signal(number)
        return self.process.wait(seconds) if self.process is not None else 0

    def stop(self) -> None:
        """End it as an operator would; another code than 0 is remembered."""
        if (code := self.end(signal.SIGTERM)) != 0:
            self.note_exit(code)

    def keep(self) -> None:
        """Start it again where it has ended by itself."""
        if self.process is not None and not self.away and self.process.poll() is not None:
            self.note_exit(self.process.returncode)
            time.sleep(_RESTART_SECONDS)
            self.start()

    def note_exit(self, code: int) -> None:
        """Remember that it has ended with a code that was not asked for."""
        self.exits.append(code)
        if code not in _EXPLAINED:
            said = obituaries.last_words(self.folder, "worker")
            self.last_words.append(f"{self.name} ended with {code}: {said}")


class Arena:
    """One run's surroundings."""

    def __init__(self, instance: Instance, folder: Path) -> None:
        self.instance, self.folder = instance, folder
        self.prefix = f"faults.{uuid.uuid4().hex[:8]}."
        self.bootstrap = instance.environment()["KAFKA_BOOTSTRAP"]
        self.key_file = folder / KEY_FILE
        self.key_file.write_bytes(new_key())
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        self._create_topics()
        sources = folder / "sources.yaml"
        lines = [
            f"  {name}: {{system: u8, database: postgresql, partition: {partition}, "
            f"zone: Asia/Shanghai, connector: sources/erp.json}}"
            for name, partition in SOURCES.items()
        ]
        sources.write_text("\n".join(["sources:", *lines, ""]))
        self.workers = [self._worker(name, sources) for name in ("w1", "w2")]

    def lane_topic(self, source: str) -> str:
        """Give the topic of a lane log."""
        return f"{self.prefix}cdc.{source}"

    def topic_id(self, source: str) -> str:
        """Give the id of the topic of a lane log."""
        topic = self.lane_topic(source)
        asked = TopicCollection([topic])
        found = self._asked(lambda: self._admin.describe_topics(asked)[topic].result(20))
        return str(found.topic_id)

    @property
    def lane_topics(self) -> list[str]:
        """Give the topics of all lane logs."""
        return [self.lane_topic(source) for source in SOURCES]

    def ends(self) -> dict[tuple[str, int], int]:
        """Give how far the lane logs reach."""
        return self._asked(lambda: topics.ends(self.bootstrap, self.lane_topics))

    def wait(self, ends: dict[tuple[str, int], int]) -> float | None:
        """Wait until all lanes have finished their logs up to `ends`; give the seconds, None where they don't."""
        started = time.monotonic()
        while time.monotonic() - started < STUCK_SECONDS:
            for worker in self.workers:
                worker.keep()
            finished = self._asked(
                lambda: topics.finished(
                    self.bootstrap, f"{self.prefix}tongbu-processor", self.lane_topics
                )
            )
            if all(finished[place] >= end for place, end in ends.items()):
                return time.monotonic() - started
            time.sleep(0.05)
        return None

    def broker_pid(self) -> int:
        """Give the broker's process id; raise ServiceUnavailable where it has none: a signal to 0 would end the harness."""
        pid: int = Supervisor(self.instance).processes()["kafka"]["pid"]
        if not pid:
            raise ServiceUnavailable("the broker does not run, though nobody has harmed it")
        return pid

    @contextmanager
    def without_broker(self) -> Iterator[None]:
        """Kill the broker, and start it again only afterwards."""
        supervisor = Supervisor(self.instance)
        os.kill(self.broker_pid(), signal.SIGKILL)
        supervisor.rpc.stopProcess("kafka")
        try:
            yield
        finally:
            supervisor.start_process("kafka")
            self.wait_for_broker()

    def wait_for_broker(self) -> None:
        """Wait until a killed broker answers again."""
        address = f"{HOST}:{self.instance.ports.kafka}"
        end = time.monotonic() + STUCK_SECONDS
        time.sleep(_RESTART_SECONDS)
        while True:
            try:
                health.kafka(address)
            except Exception:  # as long as it starts
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return

    def close(self) -> None:
        """End the workers and delete the topics."""
        for worker in self.workers:
            worker.end(signal.SIGKILL)
        names = [*self.lane_topics, *(self.prefix + name for name in OUTPUTS)]
        for future in self._admin.delete_topics(names).values():
            future.result(20)

    def _asked(self, question: Callable[[], Answer]) -> Answer:
        """Ask the broker until it answers: it may be starting."""
        end = time.monotonic() + STUCK_SECONDS
        while True:
            try:
                return question()
            except (ServiceUnavailable, KafkaException):
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def _worker(self, name: str, sources: Path) -> Worker:
        folder = self.folder / name
        folder.mkdir()
        (folder / KEY_FILE).write_bytes(self.key_file.read_bytes())
        environment = os.environ | {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "TONGBU_NAMESPACE": self.prefix,
            "TONGBU_DATA": str(folder),
            "TONGBU_SOURCES": str(sources),
            "TONGBU_SESSION_SECONDS": str(SESSION_SECONDS),
            "TONGBU_CHECKPOINTS": str(self.folder / "checkpoints"),
            "TONGBU_CHECKPOINT_SECONDS": str(CHECKPOINT_SECONDS),
        }
        return Worker(name, folder, environment)

    def _create_topics(self) -> None:
        config = {"max.message.bytes": "16777216"}
        wanted = dict.fromkeys(self.lane_topics, 1)
        wanted |= {self.prefix + name: partitions for name, partitions in OUTPUTS.items()}
        new = [NewTopic(name, count, 1, config=config) for name, count in wanted.items()]
        for future in self._admin.create_topics(new).values():
            future.result(20)

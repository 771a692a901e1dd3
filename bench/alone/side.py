"""One side of the comparison: a process with topics, state and a lane log of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from bench.alone.orders import Orders, Writer
from bench.system import wait
from streams.seal import KEY_FILE, new_key
from tongbu import topics
from tongbu.instance import ROOT

#: Name -> how it is started.
COMMANDS = {
    "processor": ("-m", "tongbu.cli", "run", "processor", "main"),
    "plain loop": ("-m", "bench.alone.plain"),
}
_TOPICS = {"cdc.erp": 1, "canonical.order.v1": 4, "canonical.transactions.v1": 1, "hub.dead-letter.v1": 1}  # fmt: skip


class Side:
    """`name` is one of COMMANDS."""

    def __init__(self, name: str, bootstrap: str, folder: Path) -> None:
        self.name, self._bootstrap = name, bootstrap
        self._prefix = f"alone.{uuid.uuid4().hex[:8]}."
        self._folder = folder / name.replace(" ", "-")
        self._folder.mkdir()
        (self._folder / KEY_FILE).write_bytes(new_key())
        sources = self._folder / "sources.yaml"
        sources.write_text(
            "sources:\n  erp: {system: u8, database: postgresql, partition: 0, "
            "zone: Asia/Shanghai, connector: sources/erp.json}\n"
        )
        self._environment = os.environ | {
            "KAFKA_BOOTSTRAP": bootstrap,
            "TONGBU_NAMESPACE": self._prefix,
            "TONGBU_DATA": str(self._folder),
            "TONGBU_SOURCES": str(sources),
        }
        self._process: psutil.Popen | None = None
        self.writer = Writer(bootstrap, f"{self._prefix}cdc.erp", Orders(self._topics()))

    @property
    def output(self) -> str:
        """The topic of the transaction messages."""
        return f"{self._prefix}canonical.transactions.v1"

    def done(self) -> int:
        """Give how many transaction messages there are."""
        return topics.ends(self._bootstrap, [self.output])[self.output, 0]

    def start(self) -> None:
        """Start the process."""
        with (self._folder / "log").open("ab") as log:
            self._process = psutil.Popen(
                [sys.executable, *COMMANDS[self.name]],
                env=self._environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def cpu(self) -> float:
        """Give the CPU seconds it has used since it was started."""
        assert self._process is not None
        used = self._process.cpu_times()
        return float(used.user + used.system)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)

    def await_output(self, count: int) -> None:
        """Wait until there are so many transaction messages."""
        wait(f"{self.name} has made {count} transactions", lambda: self.done() >= count, 120)

    def _topics(self) -> str:
        """Create its topics; give the id of the lane's."""
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        config = {"max.message.bytes": "16777216"}
        new = [
            NewTopic(self._prefix + name, count, 1, config=config)
            for name, count in _TOPICS.items()
        ]
        for future in admin.create_topics(new).values():
            future.result(20)
        lane = f"{self._prefix}cdc.erp"
        wait("the topics are there", lambda: lane in admin.list_topics(timeout=5).topics)
        time.sleep(0.5)
        return str(admin.describe_topics(TopicCollection([lane]))[lane].result(20).topic_id)

"""
Replay: a lane log through a processor and sink writers of its own, to see what it makes.

Nothing live is touched: topics have the namespace `replay.<id>.`, state and stage logs a folder, targets databases
of their own; effects are off. The source databases are not needed.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import orjson

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding, load_sources
from schemas.errors import TongbuError
from schemas.registry import Registry
from sink_writers.bindings import reads
from tongbu import checksum, replay_targets, replay_topics, topics
from tongbu.instance import ROOT
from tongbu.lane_files import Recorded
from tongbu.progress import Advance, Steps
from tongbu.replay_log import Adapter, Tried, load

#: A pipeline that makes no progress for this long is given up.
_STALLED_SECONDS = 120.0
_POLL_SECONDS = 0.3
_STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many records went in, and what the targets hold now."""

    records: int
    targets: dict[str, checksum.Content]

    def as_json(self) -> dict[str, Any]:
        """Give it as the report holds it."""
        return {
            "records": self.records,
            "targets": {name: content.as_json() for name, content in self.targets.items()},
        }


class Replay:
    """One replay: its name, surroundings and bindings."""

    def __init__(
        self, environment: Mapping[str, str], bindings: Sequence[RelationalBinding], *, keep: bool
    ) -> None:
        self.id = secrets.token_hex(4)
        self.namespace = f"replay.{self.id}."
        self.folder = Path(environment["TONGBU_DATA"]) / "replays" / self.id
        self._environment = dict(environment)
        self._bootstrap = environment["KAFKA_BOOTSTRAP"]
        self._bindings = bindings
        self._keep = keep
        self._catalog = Catalog.load()

    def run(
        self,
        records: Iterable[Recorded],
        admins: Mapping[str, str],
        steps: Steps,
        override: Tried | None = None,
    ) -> Outcome:
        """
        Run records through a pipeline and give what the targets hold then.

        `admins` has, by binding kind, the DSN of somebody who may create databases. Raise TongbuError where
        a part of the pipeline stops.
        """
        with ExitStack() as stack:
            stack.enter_context(self._folder())
            groups = [self._processor_group]
            groups += [group for each in self._bindings for group in self._read(each).values()]
            stack.enter_context(
                replay_topics.created(self._environment, self.namespace, groups, keep=self._keep)
            )
            adapter = Adapter(Registry(self._environment["REGISTRY_URL"]), self.namespace, override)
            with steps.step("loading the log") as advance:
                adapted = (adapter.adapt(record) for record in records)
                count = load(self._bootstrap, self.namespace, adapted, advance)
            if override is not None:
                override.check_all_used()
            variables = stack.enter_context(
                replay_targets.databases(
                    self._bindings, self._environment, admins, self.id, keep=self._keep
                )
            )
            pointed = [replay_targets.pointed(each, variables) for each in self._bindings]
            replay_targets.create_tables(pointed, self._catalog)
            with self._processes(variables) as processes:
                self._wait(processes, steps)
            return Outcome(count, self._contents(pointed, steps))

    @property
    def _processor_group(self) -> str:
        return f"{self.namespace}tongbu-processor"

    def _read(self, binding: RelationalBinding) -> dict[str, str]:
        """Give the topics that a binding's sink writer reads, each with its group."""
        read = reads(binding).items()
        return {self.namespace + topic: self.namespace + group for topic, group in read}

    def _contents(
        self, bindings: Sequence[RelationalBinding], steps: Steps
    ) -> dict[str, checksum.Content]:
        found = {}
        for binding in bindings:
            with steps.step(f"reading {binding.binding}") as advance:
                found[binding.binding] = checksum.of_target(binding, self._catalog)
                advance(found[binding.binding].rows)
        return found

    @contextmanager
    def _folder(self) -> Iterator[None]:
        self.folder.mkdir(parents=True)
        yield
        if not self._keep:  # after a failure the logs stay
            shutil.rmtree(self.folder)

    @contextmanager
    def _processes(
        self, variables: Mapping[str, str]
    ) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
        environment = {
            **self._environment,
            **variables,
            "TONGBU_NAMESPACE": self.namespace,
            "TONGBU_REPLAY": "true",
            "TONGBU_DATA": str(self.folder),
            "TONGBU_SESSION_SECONDS": "6",
        }
        commands = {"processor": ["processor", "replay"]}
        commands |= {f"sink-{each.binding}": ["sink", each.binding] for each in self._bindings}
        started: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name, command in commands.items():
                with (self.folder / f"{name}.log").open("wb") as log:
                    started[name] = subprocess.Popen(
                        [sys.executable, "-m", "tongbu.cli", "run", *command],
                        env=environment,
                        cwd=ROOT,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
            yield started
        finally:
            _stop(started.values())

    def _wait(self, processes: Mapping[str, subprocess.Popen[bytes]], steps: Steps) -> None:
        """Wait until the log is processed, and then until all that came of it is applied."""
        lanes = [f"{self.namespace}cdc.{source}" for source in load_sources()]
        with steps.step("processing", sum(topics.ends(self._bootstrap, lanes).values())) as advance:
            self._finish(self._processor_group, lanes, processes, advance)
        for binding in self._bindings:
            read = self._read(binding)
            total = sum(topics.ends(self._bootstrap, [*read]).values())
            with steps.step(f"applying to {binding.binding}", total) as advance:
                for topic, group in read.items():
                    self._finish(group, [topic], processes, advance)

    def _finish(
        self,
        group: str,
        names: Sequence[str],
        processes: Mapping[str, subprocess.Popen[bytes]],
        advance: Advance,
    ) -> None:
        before = sum(topics.ends(self._bootstrap, names).values())
        moved = time.monotonic()
        while before > 0:
            self._check(processes)
            left = topics.backlog(self._bootstrap, group, names)
            if left < before:
                advance(before - left)
                before, moved = left, time.monotonic()
            elif time.monotonic() - moved > _STALLED_SECONDS:
                raise TongbuError(
                    f"{group}: no progress for {_STALLED_SECONDS:.0f} s, {left} records are left",
                    f"Look at the logs in {self.folder}.",
                )
            time.sleep(_POLL_SECONDS)

    def _check(self, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
        for name, process in processes.items():
            code = process.poll()
            if code is not None:
                last = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-3:]
                how = f"by {Signals(-code).name}" if code < 0 else f"with exit status {code}"
                raise TongbuError(
                    f"{name} of the replay ended {how}: {' '.join(last)}",
                    f"Its log stays: {self.folder / name}.log",
                )
        status = self.folder / f"{self.namespace}processor.json"
        if status.exists():
            for source, lane in orjson.loads(status.read_bytes()).items():
                if lane["stopped"]:
                    raise TongbuError(f"lane {source} of the replay stopped: {lane['stopped']}")


def _stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

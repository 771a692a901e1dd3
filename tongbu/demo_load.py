"""The demo's load: what it commits, how that comes through, and when all is quiet again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.declarations import Binding, RelationalBinding, load_sources
from schemas.errors import TongbuError
from schemas.registry import Registry
from sink_writers.bindings import resolve
from tongbu import topics
from tongbu.accounting import TRANSACTIONS, Account, Followed, settle
from tongbu.demo_view import LoadView, Now, TargetNow
from tongbu.instance import ROOT
from tongbu.latency import Passage, Tail, Transaction, commit_times, passages, percentiles

#: What the journal calls the transaction that approves an order.
APPROVAL = "approve_order"

_REFRESH_SECONDS = 0.5
#: Nothing moves for this long and something is still missing: it is lost.
_GIVE_UP_SECONDS = 30.0
#: As many of the latest transactions make the live view's latency.
_LATEST = 500


class Measured:
    """A load with all that it makes: made before the load begins, it sees only what comes after."""

    def __init__(self, environment: Mapping[str, str], bindings: Sequence[Binding]) -> None:
        data = Path(environment["TONGBU_DATA"])
        sources = load_sources()
        self._environment = dict(environment)
        self._bootstrap = environment["KAFKA_BOOTSTRAP"]
        self._lanes = [f"cdc.{source}" for source in sources]
        self._wal_clock = frozenset(
            name for name, source in sources.items() if source.database == "postgresql"
        )
        self._bindings = {each.binding: each for each in bindings}
        self.journal = Tail(data / "journal.jsonl")
        self.stages = {name: Tail(data / "stages" / f"{name}.jsonl") for name in self._bindings}
        self.webhooks = Tail(data / "webhooks.jsonl")
        self.followed = Followed(
            self._bootstrap, Registry(environment["REGISTRY_URL"]), list(sources)
        )

    def run(self, rate: int, seconds: int, seed: int, view: LoadView) -> None:
        """
        Run the load generator, and show what happens until all is quiet again.

        While it runs only journal and stage logs are followed: decoding the topics too would take the time
        of the processes that are measured.
        """
        began = time.monotonic()
        with _load(self._environment, rate, seconds, seed) as process:
            while process.poll() is None:
                self._show(view, rate * seconds, time.monotonic() - began)
                time.sleep(_REFRESH_SECONDS)
        took = time.monotonic() - began
        moved, before = time.monotonic(), self._progress()
        while not self._quiet() and time.monotonic() - moved < _GIVE_UP_SECONDS:
            self.followed.follow()
            self._show(view, rate * seconds, took)
            time.sleep(_REFRESH_SECONDS)
            if (now := self._progress()) != before:
                moved, before = time.monotonic(), now
        self._show(view, rate * seconds, took)

    @property
    def committed(self) -> dict[Transaction, int]:
        """The transactions committed, with the client's clock after each."""
        return {
            (line["source"], line["transaction"]): line["committed_at"]
            for line in self.journal.lines
        }

    def account(self, target: str) -> Account:
        """Tell what became of the transactions; `target` takes all entities."""
        applied = {(line["source"], line["transaction"]) for line in self.stages[target].lines}
        return settle(self.committed, self.followed.captured, self.followed.told, applied)

    def passages(self, target: str) -> list[Passage]:
        """Give the way of each transaction to a target, with the target's own commit times where it has them."""
        lines, binding = self.stages[target].lines, self._bindings[target]
        if not isinstance(binding, RelationalBinding):
            return passages(lines, self._events(), self._wal_clock)
        commits: dict[str, int] = {}
        if binding.kind == "postgresql":
            transactions = [line["target_tx"] for line in lines if line["target_tx"]]
            commits = commit_times(resolve(binding.dsn), transactions)
        return passages(lines, self.committed, self._wal_clock, commits)

    def webhooks_missing(self) -> int:
        """Count the approvals of orders that were committed but have not arrived at the webhook's receiver."""
        approved = Counter(line["business_key"] for line in self._approvals())
        received = Counter(line["data"]["code"] for line in self.webhooks.lines)
        return (approved - received).total()

    def sample_order(self) -> str | None:
        """Give the canonical id of an order that was approved lately; None where there is none."""
        return next(
            (f"{line['source']}:{line['business_key']}" for line in reversed(self._approvals())),
            None,
        )

    def _events(self) -> dict[Transaction, int]:
        """Give the transactions that make the webhook's sink call its endpoint."""
        called = {(line["source"], line["transaction"]) for line in self._approvals()}
        return {key: at for key, at in self.committed.items() if key in called}

    def _approvals(self) -> list[dict[str, Any]]:
        return [line for line in self.journal.lines if line["kind"] == APPROVAL]

    def _quiet(self) -> bool:
        """Tell whether everything committed is captured, and all that is captured is processed and applied."""
        if not self.committed.keys() <= self.followed.captured:
            return False
        if topics.backlog(self._bootstrap, "tongbu-processor", self._lanes):
            return False
        groups = [f"sink-{name}" for name in self._bindings]
        return not any(topics.backlog(self._bootstrap, each, [TRANSACTIONS]) for each in groups)

    def _progress(self) -> tuple[int, ...]:
        applied = (len(tail.lines) for tail in self.stages.values())
        return (len(self.followed.captured), len(self.followed.told), *applied)

    def _show(self, view: LoadView, planned: int, seconds: float) -> None:
        for tail in (self.journal, self.webhooks, *self.stages.values()):
            tail.follow()
        committed = self.committed
        now = Now(
            committed=len(committed),
            planned=planned,
            rate=len(committed) / max(seconds, 1.0),
            targets={name: self._target(tail, committed) for name, tail in self.stages.items()},
        )
        view.show(now)

    def _target(self, tail: Tail, committed: Mapping[Transaction, int]) -> TargetNow:
        latest = passages(tail.lines[-_LATEST:], committed, self._wal_clock)
        return TargetNow(
            len(tail.lines), percentiles(each.milliseconds("total") for each in latest)
        )


@contextmanager
def _load(
    environment: Mapping[str, str], rate: int, seconds: int, seed: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tongbu load` as a process of its own; raise TongbuError where it fails."""
    log = Path(environment["TONGBU_DATA"]) / "load.log"
    options: dict[str, Any] = {"rate": rate, "seconds": seconds, "seed": seed}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tongbu.cli", "load", *arguments],
            env=dict(environment),
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if process.wait() != 0:
        last = log.read_text(errors="replace").splitlines()[-3:]
        raise TongbuError(f"the load generator ended: {' '.join(last)}", f"Its log: {log}")


def warm_up(environment: Mapping[str, str], rate: int, seconds: int, seed: int) -> None:
    """Run a load that is not measured: JIT, caches, plans and connections are warm after it."""
    with _load(environment, rate, seconds, seed) as process:
        process.wait()
